"""Two videos compared: equal ones, a late one, a smaller and slower one, refused ones; gates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_face import talking_head
from needs import load_or_skip
from PIL import Image

from being.errors import BeingError, EnvironmentFault, ExitCode, InputRejected, UsageError
from being.eval import evaluate_pair
from being.eval.gates import check_bounds, missed_bounds, parse_bounds
from being.eval.pair_evaluation import VideoPair, measure_pair
from being.face.face_reader import FaceReader
from being.media import VideoSettings, VideoWriter
from being.provenance.mark import SOURCE_TYPE

SIDE, FRAMES = 192, 40


@pytest.fixture(autouse=True)
def no_lpips(monkeypatch, request) -> None:
    """LPIPS takes most of the time and has tests of its own."""

    def missing(*_):
        raise EnvironmentFault("left out")

    if "itself" not in request.node.name:
        monkeypatch.setattr("being.eval.evaluator.Lpips", missing)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    load_or_skip(FaceReader)
    return talking_head(FRAMES + 3, SIDE)[0]


def video(path: Path, pictures: list[np.ndarray], fps: int = 25) -> Path:
    with VideoWriter(
        path, pictures[0].shape[1], pictures[0].shape[0], fps=fps, settings=VideoSettings(crf=10)
    ) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


@pytest.fixture(scope="module")
def truth(pictures, tmp_path_factory) -> Path:
    return video(tmp_path_factory.mktemp("pair") / "truth.mp4", pictures[:FRAMES])


def test_a_video_against_itself_has_no_error(truth, tmp_path):
    found = evaluate_pair(truth, truth, out=tmp_path / "report", frames=24)
    assert found["whole"]["psnr"] == found["mouth"]["psnr"] == 100 and found["whole"][
        "ssim"
    ] == pytest.approx(1)
    assert found["face"]["lpips"] in (None, 0) and found["frames"] == 24
    lips = found["lips"]
    assert lips["correlation"] == pytest.approx(1) and lips["best_lag"] == 0 and lips["lmd"] == 0
    assert lips["width_correlation"] == pytest.approx(1) and lips["motion"] == pytest.approx(1)
    assert found["upper_face"]["action_unit_error"] == pytest.approx(0, abs=0.01)
    assert found["steadiness"]["ratio"] == 1
    assert found["identity"] is None or found["identity"]["distance"] == 0
    page = (tmp_path / "report/report.html").read_text()
    assert "http" not in page.replace(SOURCE_TYPE, "")
    assert "data:video/mp4;base64," in page and "100.00 dB" in page
    assert len(json.loads((tmp_path / "report/metrics.json").read_text())["per_frame"]["lmd"]) == 24
    assert {p.name for p in (tmp_path / "report").iterdir()} == {
        "metrics.json",
        "report.html",
        "sheet.jpg",
        "side_by_side.mp4",
    }


def test_a_video_that_comes_three_frames_late_has_lag_three(pictures, truth, tmp_path):
    late = video(tmp_path / "late.mp4", [pictures[0]] * 3 + pictures[: FRAMES - 3])
    found = measure_pair(VideoPair.open(late, truth)).figures
    assert found["lips"]["best_lag"] == 3 and found["lips"]["best_correlation"] > 0.97
    assert (
        found["lips"]["correlation"] < found["lips"]["best_correlation"]
        and found["whole"]["psnr"] < 40
    )


def test_a_shifted_picture_has_an_offset_and_no_lmd(pictures, truth, tmp_path):
    shifted = [np.roll(picture, (3, 6), (0, 1)) for picture in pictures[:FRAMES]]
    found = measure_pair(VideoPair.open(video(tmp_path / "shifted.mp4", shifted), truth)).figures
    assert found["steadiness"]["offset"] == pytest.approx(512 / SIDE * np.hypot(3, 6), rel=0.1), (
        "px at 512"
    )
    assert found["lips"]["lmd"] < 0.6 and found["lips"]["correlation"] > 0.98


def test_another_size_and_rate_are_brought_to_the_truths(pictures, truth, tmp_path, capsys):
    small = [
        np.asarray(Image.fromarray(p).resize((160, 160), Image.Resampling.BICUBIC))
        for p in pictures[:FRAMES]
        for _ in range(2)
    ]
    found = measure_pair(
        VideoPair.open(video(tmp_path / "small.mp4", small, fps=50), truth)
    ).figures
    assert (
        abs(found["frames"] - FRAMES) <= 1
        and found["lips"]["best_lag"] == 0
        and found["lips"]["correlation"] > 0.95
    )
    assert 20 < found["whole"]["psnr"] < 45
    printed = capsys.readouterr()
    for words in ("resized", "frames/s"):
        assert words in printed.err + printed.out


def test_pairs_that_cannot_be_compared_are_refused(pictures, truth, tmp_path):
    wide = video(
        tmp_path / "wide.mp4", [np.pad(p, ((0, 0), (40, 40), (0, 0))) for p in pictures[:9]]
    )
    with pytest.raises(InputRejected, match="proportions"):
        evaluate_pair(wide, truth, out=tmp_path / "no")
    short = video(tmp_path / "short.mp4", pictures[:15])
    with pytest.raises(InputRejected, match="too little"):
        evaluate_pair(short, truth, out=tmp_path / "no")
    with pytest.raises(InputRejected, match="does not exist"):
        evaluate_pair(tmp_path / "none.mp4", truth, out=tmp_path / "no")
    assert not list(tmp_path.glob("*no*"))


def test_gates():
    bounds = parse_bounds("lip_r=0.7, lag=1,mouth.lpips=0.07,shuffled_r=0.15")
    good = {
        "lips": {"correlation": 0.8, "best_lag": -1, "shuffled_correlation": -0.1},
        "mouth": {"lpips": 0.05},
    }
    assert missed_bounds(good, bounds) == []
    bad = {
        "lips": {"correlation": 0.6, "best_lag": -2, "shuffled_correlation": -0.2},
        "mouth": None,
    }
    assert len(missed_bounds(bad, bounds)) == 4 and "mouth.lpips was not measured" in missed_bounds(
        bad, bounds
    )
    with pytest.raises(BeingError, match="lip_r is 0.6, at least 0.7 required") as caught:
        check_bounds(bad, bounds)
    assert caught.value.code == ExitCode.QUALITY and caught.value.details is bad
    for text, message in (
        ("lips_r=1", "Did you mean"),
        ("lip_r=good", "needs a number"),
        ("lip_r", "needs a number"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_bounds(text)


def test_a_missed_gate_leaves_the_report_behind(truth, tmp_path):
    with pytest.raises(BeingError, match="whole.psnr is 100, at least 101 required") as caught:
        evaluate_pair(
            truth, truth, out=tmp_path / "kept", frames=10, require="whole.psnr=101,lmd=1"
        )
    assert caught.value.code == ExitCode.QUALITY and (tmp_path / "kept/report.html").is_file()
