"""Sync-C and Sync-D: the plumbing round SyncNet, by a network whose answer is known, and by the
real one with random weights where the package is installed. No real weights were at hand.
"""

from __future__ import annotations

import importlib.machinery
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from program import being, refused
from torch import Tensor

from being.conventions import SAMPLES_PER_FRAME
from being.errors import EnvironmentFault, InputRejected
from being.eval import syncnet
from being.eval.gates import GATES
from being.eval.syncnet import Parts, SyncNet, cut_face, face_squares, load_parts
from being.face.landmarks import BLENDSHAPES, POINTS, Landmarks
from being.media import VideoSettings, VideoWriter

SIDE, FRAMES = 96, 60  # px, frames of a clip


class KnownNet(torch.nn.Module):
    """A network that sees how bright the mouth and how loud the voice is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward_lip(self, frames: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224] -> [B, 1]: brightness of the middle frame, 0 to 10."""
        assert frames.shape[1:] == (3, 5, 224, 224) and frames.max() > 1, frames.shape
        return self.gain * frames[:, :, 2].mean((1, 2, 3))[:, None] / 25.5

    def forward_aud(self, steps: Tensor) -> Tensor:
        """[B, 1, 13, 20] -> [B, 1]: loudness of the middle, 0 to 10."""
        assert steps.shape[1:] == (1, 13, 20), steps.shape
        return self.gain * steps[:, 0, 0, 8:12].mean(1)[:, None]


def distances(mouths: Tensor, voices: Tensor, vshift: int) -> list[Tensor]:
    """As the package's `calc_pdist`."""
    padded = torch.nn.functional.pad(voices, (0, 0, vshift, vshift))
    return [
        torch.linalg.norm(mouths[[k]] - padded[k : k + 2 * vshift + 1], dim=1)
        for k in range(len(mouths))
    ]


def spectrum(audio: np.ndarray, rate: int) -> np.ndarray:
    """The loudness of each 10 ms, 0 to 10, in 13 equal columns."""
    assert audio.dtype == np.int16 and rate == 16_000
    steps = np.abs(audio[: len(audio) // 160 * 160].reshape(-1, 160)).max(1)
    return np.repeat(steps[:, None] / 3276.8, 13, 1)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package is there with the known network; a file with its weights."""
    monkeypatch.setattr(syncnet, "load_parts", lambda: Parts(KnownNet, distances, spectrum))
    torch.save({"gain": torch.ones(1)}, tmp_path / "known.model")
    return tmp_path / "known.model"


def levels() -> np.ndarray:
    """A random level 0 to 1 of each frame, in steps of three frames."""
    return np.random.default_rng(2).random(FRAMES // 3 + 1).repeat(3)[:FRAMES]


def images(values: np.ndarray) -> list[np.ndarray]:
    """Grey frames of these levels."""
    return [np.full((SIDE, SIDE, 3), round(255 * value), np.uint8) for value in values]


def sound(values: np.ndarray) -> np.ndarray:
    """A square wave with the loudness of each frame."""
    wave = np.where(np.arange(SAMPLES_PER_FRAME * len(values)) // 8 % 2, 1.0, -1.0)
    return (wave * np.repeat(values, SAMPLES_PER_FRAME)).astype(np.float32)


def faces(count: int = FRAMES, side: float = 200.0) -> Landmarks:
    """Faces in the middle of images whose shorter side is 512."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-side / 2, side / 2, (POINTS, 3)) + 256
    points[0, :2], points[1, :2] = 256 - side / 2, 256 + side / 2
    return Landmarks(
        np.repeat(points[None].astype(np.float32), count, 0),
        np.zeros((count, BLENDSHAPES), np.float32),
        np.ones(count, np.float32),
    )


@pytest.mark.parametrize("late", [0, 3, -4])
def test_the_offset_of_the_sound_is_found_and_raises_the_confidence(known: Path, late: int) -> None:
    network = SyncNet(known)
    level = levels()
    found, reason = network.figures(images(level), faces(), sound(np.roll(level, late)))
    assert not reason and found is not None
    # SyncNet's sign: an offset of -3 is sound that comes three frames late.
    assert found["offset"] == -late and found["windows"] == FRAMES - 5
    assert found["distance"] < 0.8 and found["confidence"] > 1.5
    chance, _ = network.figures(images(level), faces(), sound(np.random.default_rng(5).random(60)))
    assert chance is not None
    assert chance["confidence"] < found["confidence"] / 2
    assert chance["distance"] > 2 * found["distance"]


def test_what_cannot_be_measured_has_a_reason(known: Path) -> None:
    network = SyncNet(known)
    level = levels()
    found, reason = network.figures(images(level[:20]), faces(20), sound(level))
    assert found is None and "20 frames" in reason
    nobody = Landmarks(faces().points * np.nan, faces().blendshapes, np.zeros(FRAMES, np.float32))
    assert network.figures(images(level), nobody, sound(level)) == (None, "no face was found")


def test_frames_without_a_face_take_the_box_of_their_neighbours() -> None:
    seen = faces()
    gone = seen.confidence.copy()
    gone[10:20] = 0
    points = seen.points.copy()
    points[10:20] = np.nan
    squares = face_squares(Landmarks(points, seen.blendshapes, gone))
    assert np.allclose(squares[7:-7], [256, 256, 100], atol=1e-3)


def test_the_face_is_cut_as_the_package_cuts_it() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (512, 512, 3), np.uint8)
    # The package's own lines, of a box 156 to 356 px.
    half, middle, cs = 100.0, 256.0, 0.4
    pad = int(half * (1 + 2 * cs))
    padded = cv2.copyMakeBorder(
        image[..., ::-1].copy(), pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(110, 110, 110)
    )
    my = mx = middle + pad
    y1, y2 = int(my - half), int(my + half * (1 + 2 * cs))
    x1, x2 = int(mx - half * (1 + cs)), int(mx + half * (1 + cs))
    wanted = cv2.resize(padded[y1:y2, x1:x2], (224, 224))
    assert np.array_equal(cut_face(image, np.array([middle, middle, half])), wanted)
    # Of a face at the border, what lies beyond is grey.
    corner = cut_face(image, np.array([10.0, 256.0, 100.0]))
    assert (corner[:, :20] == 110).all() and (corner[:, -60:] != 110).any()


# --- weights and package


@pytest.mark.parametrize(
    "content, message",
    [
        ({"other": torch.ones(1)}, "other names"),
        ({"gain": torch.ones(2)}, "another size"),
        ({"gain": torch.full((1,), torch.nan)}, "not finite"),
        ({"gain": 3}, "another size"),
        ([torch.ones(1)], "other names"),
        (SimpleNamespace(gain=1), "plain tensors"),  # would need code to run
    ],
)
def test_other_weights_are_refused(content: object, message: str, known: Path) -> None:
    torch.save(content, known)
    with pytest.raises(InputRejected, match=message):
        SyncNet(known)


def test_a_file_that_is_missing_or_damaged_is_refused(known: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="none.model"):
        SyncNet(tmp_path / "none.model")
    known.write_bytes(known.read_bytes()[:-300])
    with pytest.raises(InputRejected, match="cannot be read"):
        SyncNet(known)


def test_a_missing_or_changed_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncnet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="being\\[syncnet\\]"):
        load_parts()
    (tmp_path / "SyncNetModel.py").write_text("raise RuntimeError('it must not run')")
    spec = importlib.machinery.ModuleSpec("syncnet_python", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(syncnet.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(EnvironmentFault, match="another one than 0.2.3"):
        load_parts()


# --- the command


def test_eval_has_sync_c_and_sync_d_in_its_figures_report_and_gates(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise EnvironmentFault("left out")

    monkeypatch.setattr("being.eval.evaluator.Lpips", missing)
    monkeypatch.setattr("being.eval.evaluator.Identity", missing)
    monkeypatch.setattr("being.eval.pair_evaluation._phoneme_figures", lambda *_: None)

    class Reader:
        """Finds the same face in each frame."""

        def read(self, *sequences: np.ndarray) -> list[Landmarks]:
            return [faces(len(sequence)) for sequence in sequences]

    monkeypatch.setattr("being.eval.evaluator.FaceReader", Reader)
    monkeypatch.chdir(tmp_path)
    level = levels()
    for name, late in (("pred.mp4", 2), ("truth.mp4", 0)):
        settings = VideoSettings(crf=1)
        with VideoWriter(
            tmp_path / name, SIDE, SIDE, audio=sound(level), settings=settings
        ) as video:
            for image in images(np.roll(level, late)):
                video.write(image)
    command = ("eval", "--pred", "pred.mp4", "--truth", "truth.mp4", "--syncnet", known)
    result = being(*command, "--json", "--out", "report")
    assert result.exit_code == 0, (result.stderr, result.exception)
    sync = json.loads(result.stdout)["syncnet"]
    assert sync["rendered"]["offset"] == 2 and sync["true"]["offset"] == 0, sync
    assert sync["weights"]["file"] == "known.model" and len(sync["weights"]["sha256"]) == 64
    page = (tmp_path / "report/report.html").read_text()
    assert "Sync-C" in page and "Sync-D" in page and "Sync-C" in result.stderr
    assert {"sync_c", "sync_d"} <= set(GATES)
    missed = being(*command, "--require", "sync_c=99", "--out", "report")
    assert missed.exit_code == 5 and "sync_c is" in missed.stderr
    refused(
        4,
        "none.model",
        "eval",
        "--pred",
        "pred.mp4",
        "--truth",
        "truth.mp4",
        "--syncnet",
        "none.model",
    )


# --- the real package, with random weights


def test_the_figures_are_those_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("syncnet_python")
    from scipy.io import wavfile
    from syncnet_python import SyncNetInstance, SyncNetModel

    torch.manual_seed(0)
    torch.save(SyncNetModel().state_dict(), tmp_path / "random.model")
    network = SyncNet(tmp_path / "random.model")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8) for _ in range(40)]
    audio = rng.normal(0, 0.1, 40 * SAMPLES_PER_FRAME).astype(np.float32)
    found, reason = network.figures(pictures, faces(40), audio)
    assert found is not None, reason

    # The package reads cut frames and a wav from a folder; PNG under its suffix keeps all bits.
    squares = face_squares(faces(40))
    for k, (picture, square) in enumerate(zip(pictures, squares, strict=True), 1):
        png = cv2.imencode(".png", cut_face(picture, square))[1]
        (tmp_path / f"{k:06d}.jpg").write_bytes(png.tobytes())
    whole = np.round(audio * 32768).clip(-32768, 32767).astype(np.int16)
    wavfile.write(tmp_path / "audio.wav", 16_000, whole)
    theirs = SyncNetInstance(network.network, device="cpu")
    options = SimpleNamespace(tmp_dir=str(tmp_path), batch_size=20, vshift=15)
    offset, confidence, distance = theirs.evaluate(options)
    assert found["offset"] == offset
    assert found["confidence"] == pytest.approx(confidence, abs=1e-4)
    assert found["distance"] == pytest.approx(distance, abs=1e-4)
