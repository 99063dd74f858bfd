"""`being refine` with a tiny random pipeline of diffusers: videos, marks, comparison, refusals."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from program import being, listing, refused
from tiny_avatar import tiny_avatar
from tiny_diffusion import write_pipeline
from tiny_home import grey_clip, hum

from being.bench.compared_frames import ComparedFrames
from being.bench.variants import refined_variant
from being.face import identity
from being.media import probe, read_audio, read_frames, write_wav
from being.refine.image_model import DiffusionModel

FREE = ("--refine-mouth", "--no-guard")  # the drawn clips show no face


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers")
    return write_pipeline(tmp_path_factory.mktemp("model") / "tiny-sd")


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grey video of 8 frames with sound, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return grey_clip(tmp_path / "clip.mp4", 0.32, hum(0.32))


def test_equal_frames_change_alike_and_strength_changes_more(model):
    loaded = DiffusionModel(model, torch.device("cpu"), "a person")
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 96, 3), dtype=np.uint8)
    images[2] = images[0]
    made = loaded.change(images, 0.3, 1)
    assert made.shape == images.shape and made.dtype == np.float32
    assert 0 <= made.min() and made.max() <= 255
    assert np.abs(made[0] - made[2]).max() < 1 < np.abs(made[0] - made[1]).max()
    alone = loaded.change(images[:1], 0.3, 1)
    assert np.abs(alone[0] - made[0]).max() < 2


def test_a_video_is_refined_and_carries_all_marks(model, clip):
    done = being("refine", clip, "--model", model, *FREE, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    video = clip.with_name("clip-refined.mp4")
    assert Path(result["video"]) == video and result["frames"] == 8
    assert result["frames_per_second_together"] > 0 and result["identity_mean"] is None
    info = probe(video)
    assert (info.width, info.height, info.fps) == (64, 64, 25)
    assert len(read_audio(video)) == pytest.approx(0.32 * 16_000, abs=2_000)
    difference = [a.astype(int) - b for a, b in zip(*map(read_frames, (clip, video)), strict=True)]
    assert np.abs(difference).mean() > 5  # the random weights draw something else

    verdict = json.loads(being("verify", video, "--json").stdout)
    metadata = next(mark for mark in verdict["marks"] if mark["mark"] == "metadata")
    assert verdict["ai_generated"]
    assert metadata["facts"]["refinement"] == "diffusion model tiny-sd, strength 0.3"
    # A second video gets a free name.
    assert being("refine", clip, "--model", model, *FREE, "-q").exit_code == 0
    assert clip.with_name("clip-refined-2.mp4").is_file()


def test_the_watermark_is_added_after_the_refinement(model, clip, monkeypatch):
    from being.inference import frame_writer

    marked = []

    class Counted(frame_writer.Watermark):
        def marked(self, image: np.ndarray) -> np.ndarray:
            marked.append(image.copy())
            return super().marked(image)

    monkeypatch.setattr("being.provenance.carried_mark.Watermark", Counted)
    assert being("refine", clip, "--model", model, *FREE, "-q").exit_code == 0
    written = list(read_frames(clip.with_name("clip-refined.mp4")))
    assert len(marked) == len(written) == 8
    # Means of 8 x 8 px, because encoding blurs noise: what was marked is what was refined.
    marked_means, kept = (
        image.reshape(8, 8, 8, 8, 3).mean((1, 3, 4)) for image in (marked[3], written[3])
    )
    assert np.abs(marked_means - kept).mean() < 3 < np.abs(marked_means - 110).mean()


def test_avatar_and_consent_of_the_source_are_carried_on(model, tmp_path, monkeypatch):
    from being.inference.video import VideoOutput
    from being.media import VideoWriter
    from being.provenance.carried_mark import carried_mark
    from being.provenance.file_marks import file_marks
    from being.provenance.mark import Mark

    name = "5" * 64
    manifest = {
        "name": "Ada",
        "encoder": "hama",
        "files": {"model.safetensors": name},
        "consent": {"confirmed": True, "note": "signed"},
    }
    video = tmp_path / "ada.mp4"
    with VideoWriter(video, 64, 64, marks=file_marks(Mark.of(manifest, None))) as file:
        file.write(np.zeros((64, 64, 3), np.uint8))
    mark = carried_mark(video, True, "model m")
    assert (mark.avatar, mark.identity, mark.consent) == ("Ada", name, True)
    assert mark.watermark is not None and mark.watermark.payload == int(name[:5], 16)
    assert mark.facts()["refinement"] == "model m"
    assert VideoOutput(tmp_path / "x.mp4").watermark


def test_an_avatar_is_refined_while_it_is_rendered(model, run, speech_encoder):
    speech = Path("speech.wav")
    write_wav(speech, hum(0.4))
    done = being(
        *("refine", run, "--audio", speech, "--model", model, *FREE, "--out", "a.mp4", "--json")
    )
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["frames"] == len(list(read_frames(Path("a.mp4")))) == 10
    assert result["engine_ms"] > 0 and result["refine_ms"] > 0


def test_strengths_are_compared(model, clip):
    done = being("refine", clip, "--model", model, *FREE, "--compare", "--frames", 3, "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["strengths"]
    assert [row["strength"] for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert all(row["refine_ms"] > 0 and row["flicker_after"] is not None for row in rows)
    assert "identity" in done.stderr and not clip.with_name("clip-refined.mp4").exists()


def test_the_benchmark_has_a_row(model, tmp_path, monkeypatch):
    frames = ComparedFrames(tiny_avatar(tmp_path, size=64), torch.zeros(2, 16, 7))
    missing = refined_variant(frames, None)
    row = missing.run(missing.name)
    assert row["frames_per_second"] is None and "--refine-model" in row["note"]
    monkeypatch.setattr("being.bench.refined_frames.is_cached", lambda name: False)
    given = refined_variant(frames, model)
    row = given.run(given.name)
    assert row["frames_per_second"] > 0 and row["psnr"] is not None and "without" in row["note"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.mp4",), 4, "does not exist"),
        (("clip.mp4", "--strength", "2"), 2, "--strength 2 is out of bounds"),
        (("clip.mp4", "--frames", "4"), 2, "--frames belongs to --compare"),
        (("clip.mp4", "--compare", "--out", "x.mp4"), 2, "writes no video"),
        (("clip.mp4", "--audio", "clip.mp4"), 2, "belong to RUN"),
        (("clip.mp4", *FREE, "--out", "clip.mp4"), 2, "clip.mp4"),
        (("text.mp4", *FREE), 4, "text.mp4"),
    ],
)
def test_wrong_calls_are_refused(model, clip, arguments, code, message):
    clip.with_name("text.mp4").write_text("no video")
    refused(code, message, "refine", *arguments, "--model", model)


def test_broken_weights_and_a_missing_package_are_told(model, clip, tmp_path, monkeypatch):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 100)
    refused(4, "cannot be loaded", "refine", clip, "--model", broken, *FREE)
    refused(4, "does not exist", "refine", clip, "--model", tmp_path / "none", *FREE)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    fault = refused(3, "cannot be refined", "refine", clip, "--model", model, *FREE)
    assert "being[refine]" in fault["fix"]


def test_the_guard_is_never_left_out_silently(model, clip, monkeypatch):
    def unreachable(name: str) -> Path:
        from being.errors import EnvironmentFault

        raise EnvironmentFault("dlib_face is not in the cache", "offline")

    monkeypatch.setattr(identity, "fetch", unreachable)
    fault = refused(3, "dlib_face", "refine", clip, "--model", model, "--refine-mouth")
    assert "--no-guard" in fault["fix"]


def test_a_stop_leaves_no_half_file(model, clip, monkeypatch):
    calls = []

    def stopped(self: DiffusionModel, images: np.ndarray, strength: float, steps: int):
        calls.append(len(images))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return images.astype(np.float32)

    monkeypatch.setattr(DiffusionModel, "change", stopped)
    before = listing(clip.parent)
    assert being("refine", clip, "--model", model, *FREE, "--batch", 2).exit_code == 130
    assert listing(clip.parent) == before and calls == [2, 2]
