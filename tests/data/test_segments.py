"""Clips with cuts: features, windows, poses and lags never cross the border of a segment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scene import FRAMES, SIZE, WIDTH, write_scene

from being.audio import clip_features, encoder_interface, encoders, feature_windows
from being.config import load
from being.conventions import (
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
    SAMPLES_PER_STEP,
)
from being.data.clip import load_clip
from being.data.dataset import BORDER, Dataset, split_frames
from being.errors import InputRejected, UsageError
from being.eval.lips import lip_agreement
from being.inference.engine import Engine
from being.inference.pose_path import pose_path
from being.model.avatar import load_avatar
from being.model.avatar_writing import save_avatar
from being.train.trainer import untrained_model

CUT = 14  # frame, inside the training part and far from its ends


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset of two segments; the longer is the second."""
    return Dataset.open(write_scene(tmp_path_factory.mktemp("two") / "scene", breaks=(CUT,)))


class Echo(encoder_interface.PieceEncoder):
    """An encoder whose every step depends on the whole audio, as with global attention."""

    name, width = "echo", 2

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        steps = -(-samples.size // SAMPLES_PER_STEP)
        return np.stack([np.full(steps, samples.mean()), 1 + np.arange(steps)], 1).astype(
            np.float32
        )


def test_no_speech_feature_depends_on_audio_beyond_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.ENCODERS, "echo", Echo)
    segments = [(0, 9), (9, 10), (10, 30)]
    audio = np.random.default_rng(0).normal(size=30 * 640).astype(np.float32) / 10
    whole = clip_features.encode_segments(audio, segments, "echo")
    assert whole.shape == (30, FEATURE_WINDOW, 2)
    for start, stop in segments:
        alone = clip_features.encode_frames(audio[start * 640 : stop * 640], stop - start, "echo")
        assert np.array_equal(whole[start:stop], alone)
        other = audio.copy()
        other[: start * 640], other[stop * 640 :] = 0.5, -0.5
        assert np.array_equal(
            clip_features.encode_segments(other, segments, "echo")[start:stop], alone
        )
    assert (
        not whole[9, : FEATURE_WINDOW // 2].any() and not whole[9, FEATURE_WINDOW // 2 + 2 :].any()
    )


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_attention_windows_are_zero_outside_the_segment(library: str) -> None:
    frames, segments = 20, [(0, 7), (7, 8), (8, 20)]
    clip = 1 + np.arange(frames, dtype=np.float32)[:, None, None] * np.ones(
        (1, FEATURE_WINDOW, 3), np.float32
    )
    bounds = np.concatenate([np.tile([a, b - 1], (b - a, 1)) for a, b in segments])
    every = np.arange(frames)
    if library == "torch":
        got = feature_windows.attention_windows(
            torch.from_numpy(clip), torch.from_numpy(every), torch.from_numpy(bounds)
        ).numpy()
    else:
        got = feature_windows.attention_windows(clip, every, bounds)
    for i, (first, last) in enumerate(bounds):
        near = i - ATTENTION_PAST + np.arange(ATTENTION_WINDOW)
        assert np.array_equal(
            got[i, :, 0, 0], np.where((near >= first) & (near <= last), near + 1, 0)
        ), i


def test_training_conditions_of_one_segment_do_not_depend_on_the_other(two: Dataset) -> None:
    clip = load_clip(two, SIZE, "hama")
    assert clip.bounds is not None and clip.bounds.tolist() == two.bounds.tolist()
    before = clip.conditions(torch.arange(FRAMES)).audio.clone()
    clip.features[CUT:] = 9
    after = clip.conditions(torch.arange(FRAMES)).audio
    assert torch.equal(before[:CUT], after[:CUT])
    assert not torch.equal(before[CUT], after[CUT])
    assert not after[CUT, :ATTENTION_PAST].any() and after[CUT, ATTENTION_PAST:].all()


@pytest.mark.parametrize("at", [1, 35, 36, 37, 40, 43])
def test_a_cut_may_lie_anywhere_in_the_split(tmp_path: Path, at: int) -> None:
    dataset = Dataset(
        tmp_path,
        {
            "name": "x",
            "frames": FRAMES,
            "width": 1,
            "height": 1,
            "missing": [3],
            "segments": [[0, at], [at, FRAMES]],
        },
    )
    for holdout in (0.0, 0.2):
        split, plain = dataset.split(holdout), split_frames(FRAMES, holdout, [3])
        assert all(
            np.array_equal(getattr(split, part), getattr(plain, part)) for part in vars(plain)
        )
        together = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(together, np.setdiff1d(np.arange(FRAMES), [3]))
    assert (dataset.bounds[:at] == [0, at - 1]).all() and (
        dataset.bounds[at:] == [at, FRAMES - 1]
    ).all()


def test_frames_without_a_face_or_a_picture_of_their_own_are_not_trained_on() -> None:
    manifest = {"name": "x", "frames": 110, "width": 1, "height": 1}
    dataset = Dataset(Path(), {**manifest, "missing": [3], "repeated": [5, 7, 95, 105]})
    split, plain = dataset.split(), Dataset(Path(), manifest).split()
    assert np.array_equal(np.setdiff1d(plain.train, split.train), [3, 5, 7])
    assert np.array_equal(split.validation, plain.validation)
    assert np.array_equal(split.test, plain.test)


@pytest.mark.parametrize(
    "missing, limit, expected",
    [
        ([], 100, range(20, 50)),
        ([], 8, range(20, 28)),
        ([28], 100, range(29, 50)),
        ([20, 49], 100, range(21, 49)),
        ([25, 30, 35, 40, 45], 100, range(0, 20)),
        (list(range(20, 50)), 100, range(0, 20)),
    ],
)
def test_the_longest_face_run_shows_a_face_throughout_and_crosses_no_cut(
    missing, limit, expected
) -> None:
    dataset = Dataset(
        Path(),
        {
            "name": "x",
            "frames": 50,
            "width": 1,
            "height": 1,
            "missing": missing,
            "segments": [[0, 20], [20, 50]],
        },
    )
    assert dataset.longest_face_run(limit) == expected


def test_the_avatars_poses_lie_in_the_longer_segment(two: Dataset, tmp_path: Path) -> None:
    config = load(
        "quick",
        ["data.size=48", "model.plane_resolution=8", "model.mouth=audio"],
        environment={},
    )
    clip = load_clip(two, SIZE, "hama")
    model = untrained_model(config, WIDTH, torch.rand(40, 3) - 0.5, torch.rand(40, 3))
    engine = Engine(load_avatar(save_avatar(tmp_path / "avatar", model, config, two, clip)))
    poses = engine.avatar.world_to_camera
    assert torch.equal(poses, clip.world_to_camera[CUT:])
    path = poses[pose_path(100, len(poses))]
    largest = (clip.world_to_camera[CUT + 1 :] - clip.world_to_camera[CUT:-1]).abs().max()
    assert (path[1:] - path[:-1]).abs().max() <= largest


def test_lags_are_searched_inside_segments() -> None:
    rng = np.random.default_rng(0)
    true, late = rng.normal(size=60), 3
    rendered = np.concatenate(
        [np.r_[rng.normal(size=late), part[:-late]] for part in (true[:30], true[30:])]
    )
    segment = np.repeat([0, 30], 30)
    assert lip_agreement(true, rendered, segment).best_correlation == pytest.approx(1, abs=1e-9)
    assert lip_agreement(true, rendered).best_correlation < 0.99


@pytest.mark.parametrize(
    "segments",
    [
        [[0, 20], [21, FRAMES]],
        [[0, 20]],
        [[0, 20], [20, 20], [20, FRAMES]],
        [[1, FRAMES]],
        [[0, FRAMES + 1]],
        [[0, 20], [10, FRAMES]],
        "x",
        [[0]],
        3,
    ],
)
def test_segments_that_do_not_cover_the_clip_are_rejected(two: Dataset, segments: object) -> None:
    file = two.path / "dataset.json"
    whole = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(whole), "segments": segments}))
        with pytest.raises(InputRejected, match="segments"):
            Dataset.open(two.path)
    finally:
        file.write_text(whole)


def test_folds_hold_out_each_part_of_the_clip_once() -> None:
    dataset = Dataset(Path(), {"name": "x", "frames": 220, "width": 1, "height": 1})
    splits = [dataset.split(0.2, fold=fold) for fold in range(1, 6)]
    assert np.array_equal(np.concatenate([split.test for split in splits]), np.arange(220))
    for split in splits:
        learnt = np.concatenate([split.train, split.validation])
        distance = np.abs(learnt[:, None] - split.test).min()
        assert distance == BORDER + 1 and len(np.unique(learnt)) == len(learnt)
        assert split.validation.min() > split.train.max()
        assert len(learnt) >= 220 * 4 // 5 - 2 * BORDER
    assert len(dataset.split(0.2, 2.0, 3).train) == 50
    for holdout, fold in ((0.0, 1), (0.2, 6)):
        with pytest.raises(UsageError, match=f"data.fold={fold} is no part of the clip"):
            dataset.split(holdout, fold=fold)
