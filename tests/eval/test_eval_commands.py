"""`being eval` from the command line: refused arguments, gates, exit codes, cross-driven audio."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from needs import load_or_skip
from program import being, refused

from being.audio.feature_windows import frame_count
from being.data.dataset import Dataset
from being.errors import EnvironmentFault
from being.eval import cross_driven as cross_module
from being.eval.cross_driven import cross_driven
from being.eval.evaluator import Measurement
from being.eval.mouth_figures import MouthMeasures
from being.eval.report_page import ReportContent, report_page
from being.eval.speech_events import CLOSURE_SYMBOLS, PEAK_DELAY
from being.face.face_reader import FaceReader
from being.face.landmarks import Landmarks
from being.media import VideoSettings, VideoWriter
from being.tts import speak


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A noisy video and the true one, without a face; the current folder is empty but for them."""

    def missing(*_):
        raise EnvironmentFault("left out")

    monkeypatch.setattr("being.eval.evaluator.Lpips", missing)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(64), np.arange(64))[..., None].repeat(3, 2)
    for name, noise in (("pred.mp4", 12), ("truth.mp4", 0)):
        with VideoWriter(tmp_path / name, 64, 64, settings=VideoSettings(crf=1)) as video:
            for i in range(10):
                picture = smooth + 2 * i + rng.normal(0, 1, smooth.shape) * noise
                video.write(picture.clip(0, 255).astype(np.uint8))
    return tmp_path / "pred.mp4", tmp_path / "truth.mp4"


def test_flags_that_make_no_sense_are_refused(videos):
    pred, truth = videos
    refused(2, "belong together", "eval", "--pred", pred)
    refused(2, "belong together", "eval", "--truth", truth)
    refused(2, "no run", "eval", "somewhere", "--pred", pred, "--truth", truth)
    refused(
        2,
        "no figure is called 'lip_r2'",
        "eval",
        "--pred",
        pred,
        "--truth",
        truth,
        "--require",
        "lip_r2=1",
    )
    refused(2, "no run", "eval", "--pred", pred, "--truth", truth, "-o", "data.size=64")
    refused(2, "neither an audio file nor a voice", "eval", "--cross", "nothing.wav")
    refused(
        2,
        "lip_r needs a number",
        "eval",
        "--pred",
        pred,
        "--truth",
        truth,
        "--require",
        "lip_r=nan",
    )
    refused(4, "does not exist", "eval", "--pred", "none.mp4", "--truth", truth)


def test_only_an_earlier_report_is_replaced(videos):
    pred, truth = videos
    Path("thesis.txt").write_text("precious")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    for folder in ("thesis.txt", "mine"):
        refused(
            1,
            "exists and is not a report.*--out",
            "eval",
            "--pred",
            pred,
            "--truth",
            truth,
            "--out",
            folder,
        )
    for _ in range(2):
        assert (
            being(
                "eval", "--pred", pred, "--truth", truth, "--out", "report", "--frames", 2
            ).exit_code
            == 0
        )
    Path("empty").mkdir()
    assert (
        being("eval", "--pred", pred, "--truth", truth, "--out", "empty", "--frames", 2).exit_code
        == 0
    )


def test_a_pair_without_a_face_has_image_figures_and_the_reason_for_the_missing_ones(videos):
    load_or_skip(FaceReader)
    pred, truth = videos
    done = being("eval", "--pred", pred, "--truth", truth, "--json", "--require", "whole.psnr=15")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] and 18 < found["whole"]["psnr"] < 32 and "no face" in found["lips"]["reason"]
    assert found["mouth"]["psnr"] is None and found["mouth"]["frames_without_box"] == 10
    report = Path(found["files"]["report"])
    assert report.is_file() and report.parent.name == "pred_truth"


def test_a_missed_gate_ends_with_five_and_the_figures(videos):
    load_or_skip(FaceReader)
    pred, truth = videos
    done = being(
        "eval",
        "--pred",
        pred,
        "--truth",
        truth,
        "--json",
        "--require",
        "whole.psnr=50,lip_r=0.7",
        "-q",
    )
    assert (
        done.exit_code == 5
        and "whole.psnr is" in done.stderr
        and "lip_r was not measured" in done.stderr
    )
    found = json.loads(done.stdout)
    assert not found["ok"] and found["error"]["code"] == 5 and found["whole"]["psnr"] < 50
    assert Path(found["files"]["report"]).is_file()


class Puppet:
    """An engine whose mouth closes exactly where the built-in voice says p, b or m."""

    @classmethod
    def load(cls, *_, **__):
        return cls()

    def close(self):
        pass

    def encode(self, audio):
        times = np.arange(frame_count(audio)) / 25
        closed = np.zeros(len(times), bool)
        for symbol, start, stop in speak(cross_module.TEXT, "hibari").phonemes:
            if symbol in CLOSURE_SYMBOLS:
                closed |= np.abs(times - (start + stop) / 2 - PEAK_DELAY + 0.06) < 0.06
        return np.where(closed, 0.0, 1.0)

    def stream(self, openings):
        for opening in openings:
            yield np.full((8, 8, 3), round(255 * opening), np.uint8)


class GreyReader:
    """Reads the lip aperture from the brightness of the puppet's image."""

    def read(self, pictures):
        points = np.zeros((len(pictures), 478, 3), np.float32)
        points[:, 263, 0] = 10
        points[:, 14, 1] = pictures[:, 0, 0, 0] / 255
        return [
            Landmarks(
                points,
                np.zeros((len(pictures), 52), np.float32),
                np.ones(len(pictures), np.float32),
            )
        ]


def test_an_avatar_that_follows_the_voice_reaches_the_figures_of_the_footage(scene, monkeypatch):
    load_or_skip(lambda: speak("Mama", "hibari"))
    monkeypatch.setattr(cross_module, "Engine", Puppet)
    monkeypatch.setattr(cross_module, "FaceReader", GreyReader)
    dataset = Dataset.open(scene)
    monkeypatch.setattr(
        cross_module,
        "footage_figures",
        lambda _: {
            "closed_on_closures": 0.8,
            "open_on_vowels": 0.9,
            "closed_in_silence": None,
            "vowels_over_closures": 4.0,
        },
    )
    monkeypatch.setattr(
        cross_module, "footage_mouth", lambda _: MouthMeasures(low=0.0, high=0.1, jump=0.2)
    )
    figures, driven = cross_driven(Path(), dataset, ["hibari"])
    one = figures["sounds"]["hibari"]
    assert one["closed_on_closures"] == 1 and one["closures"] >= 40 and one["misses"] == 0
    assert one["vowels_over_closures"] > 4 and "own phoneme times" in one["source"]
    assert figures["against_footage"]["closed_on_closures"] == pytest.approx(1.25)
    assert figures["against_footage"]["closed_in_silence"] is None and figures["jumps"] == 0
    grey = np.zeros((8, 8, 3), np.uint8)
    measurement = Measurement(
        {"lpips_reason": "", "lips": None, "lips_reason": "none", "first_frame": 0},
        {"whole.psnr": np.ones(3)},
        {},
    )
    html = report_page(ReportContent("puppet", [], measurement, grey, grey, b"", figures, driven))
    assert "Driven by other audio" in html and "NaN" not in html
    assert html.count('stroke="#2e9e6b"') >= 40, "a line for each closure"
