"""Backgrounds, transparency and whole source frames around a rendered head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from placed_avatar import (
    BACKGROUND,
    CROP,
    HEIGHT,
    WIDTH,
    source_frame,
    write_placed_avatar,
)
from tiny_avatar import POSES, SIZE, tiny_avatar

from being.errors import BeingError, InputRejected, UsageError
from being.inference.engine import Engine
from being.inference.into_source import IntoSource
from being.inference.look import Look, read_background
from being.model.avatar import Avatar, load_avatar

FRAMES = 9
FEATURES = torch.rand(FRAMES, 16, 6, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_placed_avatar(tmp_path_factory.mktemp("placed") / "avatar")


@pytest.fixture(scope="module")
def avatar(bundle: Path) -> Avatar:
    return load_avatar(bundle)


def frames_of(bundle: Path, **look: object) -> np.ndarray:
    engine = Engine.load(bundle, look=Look(**look))  # type: ignore[arg-type]
    found = np.stack(list(engine.video([FEATURES], FRAMES)))
    assert found.shape[1:3] == (engine.view.height, engine.view.width)
    return found


def over(image: np.ndarray, background: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    """An RGBA image over a colour or a picture, float."""
    alpha = image[..., 3:] / 255
    return image[..., :3] * alpha + np.array(background) * (1 - alpha)


def test_transparent_frames_over_a_background_are_the_opaque_ones(
    bundle: Path, tmp_path: Path
) -> None:
    """Over the clip's own, over a colour, and over a picture."""
    clear = frames_of(bundle, background="transparent")
    assert clear.shape[-1] == 4 and clear[..., 3].min() < 40 and clear[..., 3].max() == 255
    assert np.abs(over(clear, BACKGROUND) - frames_of(bundle)).max() <= 3
    red = frames_of(bundle, background="#c80000")
    assert np.abs(over(clear, (200, 0, 0)) - red).max() <= 4
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "wall.png")
    wall = frames_of(bundle, background=str(tmp_path / "wall.png"))
    assert np.abs(over(clear, picture) - wall).max() <= 4
    assert np.abs(wall[:, -1].astype(int) - frames_of(bundle)[:, -1]).max() <= 1, "torso stays"


def recorded(avatar: Avatar) -> list[np.ndarray]:
    """The source frames as the bundle holds them: compressed."""
    assert avatar.surround is not None
    video = avatar.surround.open()
    return [video[pose].copy() for pose in range(POSES)]


def test_the_source_frame_stays_outside_the_head(bundle: Path, avatar: Avatar) -> None:
    """Outside the square, and at its border, all is the recording."""
    found, known = frames_of(bundle, into_source=True), recorded(avatar)
    assert found.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.abs(known[2].astype(int) - source_frame(2)).mean() < 5
    path = [*range(POSES), *range(POSES - 2, 0, -1)] * 2
    left, top, side = map(int, CROP)
    middle = (slice(top + side // 3, top + 2 * side // 3), slice(left + side // 3, left + 80))
    for k, frame in enumerate(found):
        change = np.abs(frame.astype(int) - known[path[k]]).max(-1)
        inside = np.zeros(change.shape, bool)
        inside[top + 2 : top + side - 2, left + 2 : left + side - 2] = True
        assert change[~inside].max() == 0
        assert change[middle].mean() > 20, "the head is that of the avatar"


def test_the_square_lies_at_its_place_to_a_fraction_of_a_pixel(avatar: Avatar) -> None:
    """The recording's own square, put back, gives the recording; half a pixel aside it does not."""
    assert avatar.surround is not None
    known, (left, top, side) = recorded(avatar), CROP
    box, positions = (left, top, left + side, top + side), np.arange(POSES, dtype=float)

    def error(shift: float) -> float:
        moved = replace(avatar.surround, crop=(left + shift, top, side))
        source = IntoSource(avatar.path, moved, positions, SIZE)
        changes = []
        for pose, frame in enumerate(known):
            square = Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box)
            changes.append(np.abs(source(pose, np.asarray(square)).astype(int) - frame).mean())
        return float(np.mean(changes))

    before, after = error(-0.5), error(0.5)
    assert error(0) < 0.9 * min(before, after) and abs(after - before) < 0.02 * before


def test_between_two_poses_the_source_frame_is_between_theirs(avatar: Avatar) -> None:
    source = IntoSource(avatar.path, avatar.surround, np.array([1.5]), SIZE)
    found = source(0, np.zeros((SIZE, SIZE, 3), np.uint8))[:20].astype(int)
    known = recorded(avatar)
    between = (known[1].astype(int) + known[2])[:20] // 2
    assert np.abs(found - between).max() <= 1


@pytest.mark.parametrize(
    "look, said",
    [
        ({"background": "grue"}, "neither a picture nor a colour"),
        ({"background": "red", "into_source": True}, "Leave one of them out"),
        ({"fps": 24}, "Use 25, 30, 50, 60"),
    ],
)
def test_looks_that_cannot_be_are_refused(look: dict, said: str, bundle: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        frames_of(bundle, **look)
    assert said in refusal.value.message()


def test_a_background_of_another_shape_or_kind_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((90, 160, 3), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(InputRejected, match=r"160x90 px"):
        read_background(str(tmp_path / "wide.png"), SIZE)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputRejected, match="cannot be read"):
        read_background(str(tmp_path / "text.png"), SIZE)
    with pytest.raises(InputRejected):
        read_background(str(tmp_path), SIZE)


@pytest.mark.parametrize("look", [{"background": "red"}, {"background": "transparent"}])
def test_an_avatar_without_the_parts_says_how_they_are_added(look: dict, tmp_path: Path) -> None:
    from being.inference.look import view_of

    avatar = tiny_avatar(tmp_path)
    for wanted in (look, {"into_source": True}):
        with pytest.raises(BeingError, match="has no") as refusal:
            view_of(avatar, Look(**wanted))
        assert "being export AVATAR --surround" in refusal.value.message()


def test_frames_that_are_interpolated_have_plain_plates(bundle: Path) -> None:
    for look in (Look("transparent"), Look(fps=50)):
        with pytest.raises(UsageError, match="deform-every"):
            Engine.load(bundle, look=look, deform_every=2)
