"""Looks of live pictures: other backgrounds, transparent, in the source frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from placed_avatar import BACKGROUND, HEIGHT, WIDTH, write_placed_avatar
from tiny_avatar import POSES, SIZE, tiny_avatar

from being.errors import InputRejected, UsageError
from being.inference.engine import Engine
from being.inference.i420 import COLOURS, JPEG_COLOURS, VIDEO_COLOURS, Colours, write_i420
from being.inference.live_look import SOURCE, live_look, look_name, stack_matte
from being.inference.look import Look
from being.session.live_session import SILENT_ROW, FrameOrder
from being.session.render_worker import PictureJob, RenderWorker

CHANNELS = 6
SILENCE = np.full((16, CHANNELS), 0.1, np.float32)
WINDOW = np.full(8, SILENT_ROW, np.int32)
EXPRESSION = np.array([0.3], np.float32)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = write_placed_avatar(tmp_path_factory.mktemp("placed") / "avatar")
    return Engine.load(folder, precision="float32")


def picture(filmed: Engine, text: str, pose: int, colours: Colours = VIDEO_COLOURS) -> np.ndarray:
    """The I420 picture of a pose in a look, among others in a batch."""
    look = live_look(filmed.avatar, text)
    worker = RenderWorker(Engine(look.avatar, precision="float32"), None, look)
    worker.open("a", SILENCE)
    facts_bytes = look.width * look.height * (2 if look.matte else 1) * 3 // 2
    jobs = []
    for k in (0, pose, 1):
        out = np.zeros(facts_bytes, np.uint8)
        jobs.append(PictureJob("a", FrameOrder(k, EXPRESSION, WINDOW, []), out, colours, k))
        worker.put(jobs[-1])
    while worker.busy:
        worker.tick()
    return jobs[1].out


def rendered(engine: Engine, pose: int) -> np.ndarray:
    """The RGB image of silence in a pose."""
    features = torch.from_numpy(np.repeat(SILENCE[None], 8, 0))
    return engine.render(features, np.array([4]), np.array([pose]), EXPRESSION[None])[0]


def i420(image: np.ndarray, colours: Colours = VIDEO_COLOURS) -> np.ndarray:
    out = np.zeros(image.size // 2, np.uint8)
    write_i420(np.ascontiguousarray(image), out, colours)
    return out


def test_a_colour_stands_behind_the_head_and_the_torso(filmed: Engine) -> None:
    folder = filmed.avatar.path
    green = Engine.load(folder, precision="float32", look=Look(background="#00b140"))
    made = picture(filmed, "#00b140", 3)
    assert np.abs(made.astype(int) - i420(rendered(green, 3))).max() <= 2
    assert np.abs(made.astype(int) - picture(filmed, "filmed", 3)).max() > 20


@pytest.mark.parametrize("colours", COLOURS)
def test_colours_over_any_background_by_the_matte_are_those_before_it(
    filmed: Engine, colours: Colours
) -> None:
    stacked = picture(filmed, "transparent", 2, colours).astype(float)
    luma = SIZE * SIZE
    most, least = (255, 0) if colours is JPEG_COLOURS else (235, 16)
    matte = (stacked[luma : 2 * luma] - least) / (most - least)
    assert matte.min() < 0.1 and matte.max() == 1 and ((matte > 0.1) & (matte < 0.9)).any()
    # The chroma of the matte is grey, that of the colours is not.
    blue = stacked[2 * luma :][: luma // 2]
    assert (blue[luma // 4 :] == 128).all() and np.ptp(blue[: luma // 4]) > 5
    # Luma over the clip's own background is that of the filmed picture.
    behind = i420(np.full((SIZE, SIZE, 3), BACKGROUND, np.uint8), colours)[:luma].astype(float)
    over = stacked[:luma] + (1 - matte) * (behind - least)
    expected = picture(filmed, "filmed", 2, colours)[:luma]
    assert np.abs(over - expected).max() <= 4 and np.abs(over - expected).mean() < 1


def test_the_head_is_put_into_the_source_frame_of_its_pose(filmed: Engine) -> None:
    folder = filmed.avatar.path
    engine = Engine.load(folder, precision="float32", look=Look(into_source=True))
    assert engine.view.finish is not None
    for pose in (1, POSES - 1):
        made = picture(filmed, SOURCE, pose)
        expected = engine.view.finish(pose, rendered(engine, pose))
        assert expected.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(made.astype(int) - i420(expected)).max() <= 2


def test_a_look_says_what_is_encoded(filmed: Engine) -> None:
    look = live_look(filmed.avatar, "transparent")
    assert look.matte and look.poses == POSES and look.avatar.pose_count == 2 * POSES
    source = live_look(filmed.avatar, SOURCE)
    assert (source.width, source.height) == (WIDTH, HEIGHT)


def test_an_avatar_without_the_parts_is_refused(tmp_path: Path) -> None:
    avatar = tiny_avatar(tmp_path)
    with pytest.raises(InputRejected, match="has no source frames"):
        live_look(avatar, SOURCE)
    for text in ("transparent", "red"):
        with pytest.raises(InputRejected, match="matte"):
            live_look(avatar, text)


def test_a_background_that_is_no_picture_and_no_colour_is_refused(filmed: Engine) -> None:
    with pytest.raises(UsageError, match="neither a picture nor a colour"):
        live_look(filmed.avatar, "nowhere.png")
    assert look_name("rooms/Studio 1.png") == "Studio 1" and look_name("#00b140") == "#00b140"


def test_a_stacked_picture_is_opaque_where_both_images_agree() -> None:
    black = np.full(6, 100, np.uint8)
    out = np.zeros(12, np.uint8)
    stack_matte(black, black, 2, VIDEO_COLOURS, out)
    assert out.tolist() == [100] * 4 + [235] * 4 + [100, 128] * 2
    white = black.copy()
    white[:4] = [100, 210, 255, 90]
    stack_matte(black, white, 2, VIDEO_COLOURS, out)
    assert out[4:8].tolist() == [235, 125, 80, 235]
