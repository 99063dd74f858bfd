"""Evaluation of a tiny synthetic run: figures of known images, head box, late lips, report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scene import FRAMES, SIZE, WIDTH, head_mesh

from being.config import load
from being.data.clip import head_box
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.eval import evaluate
from being.eval.image_fidelity import image_fidelity
from being.eval.lips import shuffled_frames
from being.eval.measured_run import MeasuredRun, open_measured_run
from being.eval.run_evaluation import evaluate_run, measure_run
from being.face.landmarks import Landmarks
from being.media import probe, read_audio, read_frames
from being.provenance.mark import SOURCE_TYPE
from being.report.line_chart import line_chart
from being.runs.run_directory import Run
from being.train.trainer import untrained_model

SETTINGS = [
    f"data.size={SIZE}",
    "data.holdout=0.5",
    "model.plane_resolution=16",
    "model.mouth=audio",
]
HELD = FRAMES // 2


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory) -> Run:
    """A run whose only checkpoint is an untrained model over the scene's own mesh."""
    folder = tmp_path_factory.mktemp("eval")
    config = load("quick", SETTINGS, environment={})
    points = torch.from_numpy(head_mesh()[0]).float()
    model = untrained_model(config, WIDTH, points, torch.full((len(points), 3), 0.5))
    made = Run.create(scene, "scene", config, "test", folder / "runs")
    made.save(
        "best", model.state_dict(), {"stage": "fine", "step": 7, "best": 20.0, "audio_width": WIDTH}
    )
    return made


class LateRun(MeasuredRun):
    """Renders, for each frame, the true image of two frames before that of the audio."""

    def render(self, frames, audio_frames=None):
        for i in frames if audio_frames is None else audio_frames:
            yield self.true_frame(max(int(i) - 2, int(self.frames[0])))


class RedReader:
    """Replaces the landmarks: the lip aperture is how far down the red mouth reaches."""

    def read(self, *sequences):
        return [self.track(pictures) for pictures in sequences]

    def track(self, pictures):
        red = np.clip(pictures[..., 0].astype(np.float32) - pictures[..., 1], 0, None)
        rows = np.arange(pictures.shape[1], dtype=np.float32)[None, :, None]
        points = np.tile(
            np.random.default_rng(0).uniform(0, 9, (478, 3)).astype(np.float32),
            (len(pictures), 1, 1),
        )
        points[:, [33, 263], :2] = np.array([[0, 0], [10, 0]])
        points[:, 14, :2] = points[:, 13, :2]
        points[:, 14, 1] += (red * rows).sum((1, 2)) / red.sum((1, 2))
        return Landmarks(
            points, np.zeros((len(pictures), 52), np.float32), np.ones(len(pictures), np.float32)
        )


def test_figures_of_known_images():
    true = np.full((40, 40, 3), 100, np.uint8)
    rendered = true.copy()
    # An error of 0.2 in 1/16 of the image, which is a quarter of the box.
    rendered[10:20, 10:20] += 51
    found = image_fidelity(rendered, true, {"head": [5, 25, 5, 25]}, None)
    assert found["whole.psnr"] == pytest.approx(-10 * np.log10(0.04 / 16), abs=1e-4)
    assert found["head.psnr"] == pytest.approx(-10 * np.log10(0.04 / 4), abs=1e-4)
    assert found["head.ssim"] < found["whole.ssim"] < 1 and np.isnan(found["head.lpips"])
    same = image_fidelity(true, true, {"head": [5, 25, 5, 25]}, None)
    assert same["whole.psnr"] == 100 and same["whole.ssim"] == pytest.approx(1, abs=1e-5)


def test_ssim_of_two_flat_images_is_that_of_their_means():
    flat, c1 = [np.full((40, 40, 3), v, np.uint8) for v in (51, 102)], 0.01**2
    expected = (2 * 0.2 * 0.4 + c1) / (0.2**2 + 0.4**2 + c1)
    assert image_fidelity(*flat, {"head": [15, 25, 15, 25]}, None)["head.ssim"] == pytest.approx(
        expected, abs=1e-3
    )


def test_a_frame_without_a_head_has_whole_frame_figures_only():
    picture = np.zeros((40, 40, 3), np.uint8)
    found = image_fidelity(picture, picture, {"head": [0, 0, 0, 0]}, None)
    assert found["whole.psnr"] == 100 and all(
        np.isnan(found[f"head.{k}"]) for k in ("psnr", "ssim", "lpips")
    )


def test_the_head_box_is_the_masks_box_grown_by_a_tenth():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:60, 30:50] = 255
    assert head_box(mask).tolist() == [18, 62, 29, 51]


def test_rendered_lips_that_follow_by_two_frames_have_lag_two(run, monkeypatch):
    monkeypatch.setattr("being.eval.evaluator.FaceReader", RedReader)
    measured = open_measured_run(run)
    late = LateRun(**{f.name: getattr(measured, f.name) for f in dataclasses.fields(measured)})
    measurement = measure_run(late)
    lips = measurement.figures["lips"]
    assert lips["best_lag"] == 2 and lips["best_correlation"] > 0.98
    assert lips["correlation"] < 0.9 and abs(lips["shuffled_correlation"]) < 0.5
    assert (lips["frames"], lips["misses"], lips["true_misses"]) == (HELD, 0, 0)
    series = measurement.series
    assert np.allclose(series["aperture.rendered"][2:], series["aperture.true"][:-2])


def test_shuffling_changes_the_audio_and_nothing_else(run):
    measured = open_measured_run(run)
    shuffled = shuffled_frames(measured.frames)
    torch.manual_seed(0)
    with torch.no_grad():  # an untrained network moves nothing: let it move the Gaussians at random
        for parameter in measured.model.network.pos_deform.parameters():
            parameter.normal_(std=0.1)
    own, again = (np.stack(list(measured.render(measured.frames))) for _ in range(2))
    assert (own == again).all(), "rendering is deterministic"
    assert (np.stack(list(measured.render(measured.frames, measured.frames))) == own).all()
    assert (np.stack(list(measured.render(measured.frames, shuffled))) != own).any()


def test_figures_of_an_untrained_run_without_a_visible_face(run):
    figures = evaluate_run(run)
    assert (figures["part"], figures["first_frame"], figures["frames"], figures["size"]) == (
        "test",
        HELD,
        HELD,
        SIZE,
    )
    assert figures["checkpoint"] == "best" and figures["step"] == 7
    assert 5 < figures["head"]["psnr"] < figures["whole"]["psnr"] < 40
    assert 0 < figures["head"]["ssim"] < 1 and figures["head"]["frames_without_box"] == 0
    if figures["lips"] is None:
        assert "cannot" in figures["lips_reason"] or "BEING_OFFLINE" in figures["lips_reason"]
    else:
        lips = figures["lips"]
        assert lips["frames"] + lips["true_misses"] == HELD
        assert lips["correlation"] is None and lips["best_lag"] is None and lips["reason"]
    json.dumps(figures, allow_nan=False)


def test_measures_that_cannot_be_loaded_say_why(run, monkeypatch):
    def missing(*_):
        raise EnvironmentFault("cannot fetch the weights", "no network")

    monkeypatch.setattr("being.eval.evaluator.Lpips", missing)
    monkeypatch.setattr("being.eval.evaluator.FaceReader", missing)
    figures = evaluate_run(run, part="validation")
    assert figures["head"]["lpips"] is None and "no network" in figures["lpips_reason"]
    assert figures["lips"] is None and "no network" in figures["lips_reason"]
    assert (
        figures["whole"]["psnr"] > 0 and figures["part"] == "validation" and figures["frames"] == 2
    )


def test_the_report_is_written_whole_and_replaced(run):
    first = evaluate(run.path, device="cpu")
    second = evaluate(run.path, device="cpu")
    assert first == second, "the same run gives the same figures"
    folder = run.path / "eval"
    assert {p.name for p in folder.iterdir()} == {
        "metrics.json",
        "report.html",
        "sheet.jpg",
        "side_by_side.mp4",
    }
    assert not [p for p in run.path.iterdir() if p.name.startswith(".eval")]
    saved = json.loads((folder / "metrics.json").read_text())
    assert saved["whole"] == second["whole"] and len(saved["per_frame"]["head.psnr"]) == HELD
    page = (folder / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and f"{second['head']['psnr']:.2f} dB" in page
    assert "http" not in page.replace(SOURCE_TYPE, ""), "nothing is loaded from elsewhere"
    video = Path(second["files"]["side_by_side"])
    assert probe(video).width == 2 * SIZE and len(list(read_frames(video))) == HELD
    assert len(read_audio(video)) == pytest.approx(HELD * 640, abs=1100)


def test_a_run_is_measured_with_another_size_or_share_held_out_into_a_folder_of_its_own(
    run, capsys, monkeypatch
):
    def missing(*_):
        raise EnvironmentFault("left out")

    monkeypatch.setattr("being.eval.evaluator.Lpips", missing)
    monkeypatch.setattr("being.eval.evaluator.FaceReader", missing)
    larger = evaluate(run.path, device="cpu", frames=4, override=[f"data.size={2 * SIZE}"])
    assert larger["size"] == 2 * SIZE and f"trained at {SIZE}" in larger["target"]
    assert probe(run.path / f"eval_size{2 * SIZE}/side_by_side.mp4").height == 2 * SIZE
    assert "trained on" not in capsys.readouterr().err
    longer = evaluate(run.path, device="cpu", override=["data.holdout=0.75"])
    assert (
        longer["frames"] == FRAMES * 3 // 4
        and longer["split"] == "the last 75% of the clip held out"
    )
    assert Path(longer["files"]["report"]).parent.name == "eval_holdout0.75"
    trained = len(
        np.intersect1d(open_measured_run(run, "train").frames, np.arange(FRAMES // 4, FRAMES))
    )
    assert (
        f"{trained} of the {FRAMES * 3 // 4} frames of the test part were trained on"
        in capsys.readouterr().err
    )
    assert run.config == load("quick", SETTINGS, environment={}), "the run stays as it is"
    with pytest.raises(UsageError, match="has no effect on a measurement.*data.size, data.holdout"):
        open_measured_run(run, override=["train.seed=3"])
    with pytest.raises(UsageError, match="at least 16"):
        open_measured_run(run, override=["data.size=3"])


def test_what_cannot_be_evaluated_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown part"):
        evaluate(run.path, part="tset")
    empty = Run.create(run.dataset, "scene", run.config, "empty", tmp_path)
    with pytest.raises(InputRejected, match="no checkpoint"):
        evaluate(empty.path)
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no run"):
        evaluate(None)
    assert not list(empty.path.glob("*eval*"))


def test_the_plot_breaks_its_line_and_ticks_where_a_face_is_missed():
    values = np.ones(20)
    values[8:10] = np.nan
    drawn = line_chart({"true": np.ones(20), "rendered": values}, "lips")
    assert drawn.count("<polyline") == 3 and drawn.count("<rect") == 2
    assert "NaN" not in drawn and "nan" not in drawn
    assert line_chart({"rendered": np.full(5, np.nan)}, "lips").count("<rect") == 5
