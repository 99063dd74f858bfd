"""The benchmark: its figures are consistent, and every variant renders the right images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_avatar import WIDTH, tiny_avatar
from tiny_bases import avatar_with_bases

from being.bench.avatars import random_avatar, resampled, screen_coverage, with_random_bases
from being.bench.benchmark import find_max_sessions
from being.bench.compared_frames import ComparedFrames, worst_psnr
from being.bench.deformations import compare_deformations, comparison_table
from being.bench.fps import memory_growth, time_engine
from being.bench.sessions import bench_sessions
from being.bench.torch_variants import interpolated_images, onnx_row
from being.bench.variants import all_variants, compare
from being.inference.engine import Engine
from being.inference.pruning import contributions, pruned
from being.interop.onnx import export_onnx
from being.splat import Cameras, rasterize


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    return tiny_avatar(tmp_path_factory.mktemp("avatar"), 300, 64, channels=3)


@pytest.mark.parametrize("renderer", ["torch", "auto"])
def test_rows_steps_and_memory(avatar, renderer):
    result = time_engine(Engine(avatar, renderer=renderer), 16)
    assert [row["batch"] for row in result["rows"]] == [1, 8] and result["rows"][0]["calls"] == 16
    for row in result["rows"]:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["frames_per_second"] == pytest.approx(
            1000 * row["batch"] / row["avg_ms"], rel=0.02
        )
    assert {"tri-plane", "attention", "heads"} <= set(result["split_ms"])
    assert sum(result["split_ms"].values()) < 3 * result["rows"][0]["max_ms"]
    assert result["encode_mp4_ms"] > 0 and json.dumps(result)


def test_sessions_are_never_early_and_all_served(avatar):
    found = bench_sessions(Engine(avatar), 3, 0.4)
    assert found["frames"] == 30 and 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["held"] == (found["p99_ms"] <= 40)


def test_memory_does_not_grow_with_frames(avatar):
    found = memory_growth(Engine(avatar), 600)
    assert found["host_mib_after"] - found["host_mib_before"] < 8


def test_gaussians_that_show_nothing_go_first(avatar):
    """A transparent Gaussian contributes least, and the images hardly change without it."""
    hidden = tiny_avatar(avatar.path, 300, 64)
    hidden.model.gaussians.opacity_logits[7] = -9.0
    share = contributions(hidden)
    assert int(share.argmin()) == 7 and share[7] < 1e-3 * share.median()
    fewer = pruned(hidden, 299 / 300)
    assert len(fewer.model.gaussians) == 299
    features = torch.randn(4, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    images = [np.stack(list(Engine(one, "float32").stream(features))) for one in (hidden, fewer)]
    assert worst_psnr(*images) > 45
    assert len(pruned(hidden, 0.25).model.gaussians) == 75


def test_an_untrained_avatar_and_one_of_more_gaussians():
    """Resampled, a surface is covered about as it was."""
    one = random_avatar(1000, 64)
    two = resampled(one, 4000)
    assert len(two.model.gaussians) == 4000 and screen_coverage(two)[0] > 3000
    image = Engine(one).render(torch.zeros(1, 16, 44), np.array([0]), np.array([0]))
    assert image.shape == (1, 64, 64, 3) and image.std() > 8
    cameras = Cameras(one.world_to_camera[:1], one.focal, 64, 64)
    covered = [
        float(rasterize(a.model.gaussians.activate(), cameras).alpha.mean()) for a in (one, two)
    ]
    assert covered[1] == pytest.approx(covered[0], rel=0.1)


def test_variants_of_the_torch_renderer_give_its_images(avatar):
    pytest.importorskip("onnxruntime")
    smooth = torch.linspace(0, 1, 8)[:, None, None] * torch.ones(8, 16, WIDTH)
    frames = ComparedFrames(avatar, smooth)
    assert onnx_row(frames, "ONNX", "CPUExecutionProvider")["psnr"] > 60
    row = onnx_row(frames, "TensorRT", "TensorrtExecutionProvider")
    assert row["frames_per_second"] is None and "not installed" in row["note"]
    assert worst_psnr(interpolated_images(frames, 1), frames.reference) == 99
    interpolated = interpolated_images(frames, 2)
    assert np.array_equal(interpolated[::2], frames.reference[::2])
    assert worst_psnr(interpolated, frames.reference) > 20


def test_a_variant_that_fails_has_a_row_and_the_others_are_measured(avatar, monkeypatch):
    from being.bench import variants

    def broken(frames, name):
        raise RuntimeError("no compiler\nsecond line")

    kept = {"torch, eager, float32", "torch, torch.compile", "engine, one frame of 2 deformed"}
    every_variant = variants.all_variants
    monkeypatch.setattr(variants, "compiled_row", broken)
    monkeypatch.setattr(
        variants,
        "all_variants",
        lambda *given: [variant for variant in every_variant(*given) if variant.name in kept],
    )
    lines: list[str] = []
    rows = compare(avatar, torch.zeros(4, 16, WIDTH), show=lines.append)
    by_name = {row["road"]: row for row in rows}
    assert by_name["torch, eager, float32"]["psnr"] == 99
    assert by_name["torch, torch.compile"]["note"] == "RuntimeError: no compiler"
    assert by_name["torch, torch.compile"]["frames_per_second"] is None
    assert len(lines) == len(rows) and "no compiler" in lines[1]


@pytest.mark.parametrize(
    ("limit", "expected"), [(100, 15), (3, 3), (0, 0)], ids=["fast", "slow", "too slow"]
)
def test_the_number_of_sessions_is_searched(monkeypatch, limit, expected):
    """At 4 ms a frame the first of 4 trials has 8 sessions; the machine serves up to `limit`."""
    tried = []

    def trial(engine, count, seconds):
        tried.append(count)
        return {"sessions": count, "held": count <= limit}

    monkeypatch.setattr("being.bench.benchmark.bench_sessions", trial)
    found = find_max_sessions(None, 4.0)
    assert tried[0] == 8 and found["sessions"] == expected, tried


@pytest.mark.parametrize(("layers", "degree", "channels"), [(1, 3, 1), (2, 0, 4)])
def test_onnx_files_compute_what_torch_does_at_any_batch(tmp_path, layers, degree, channels):
    onnxruntime = pytest.importorskip("onnxruntime")
    avatar = tiny_avatar(tmp_path, 40, layers=layers, degree=degree, channels=channels)
    made = export_onnx(avatar, tmp_path / "export")
    assert max(made["difference"].values()) < 1e-5
    session = onnxruntime.InferenceSession(
        made["files"]["deformation"], providers=["CPUExecutionProvider"]
    )
    tokens = np.random.default_rng(0).normal(size=(5, 4, 64)).astype(np.float32)
    outputs = session.run(None, {"tokens": tokens})
    assert [part.shape for part in outputs] == [
        (5, 40, k) for k in (3, 3, 4, 1, 3 * (degree + 1) ** 2)
    ]


@pytest.mark.parametrize("renderer", ["torch", "auto"])
def test_steps_of_an_engine_by_bases(tmp_path, renderer):
    engine = Engine(avatar_with_bases(tmp_path, 300, 64), renderer=renderer, deform="bases")
    result = time_engine(engine, 16)
    assert result["network"] == "none: 5 bases" and {"coefficients", "bases"} <= set(
        result["split_ms"]
    )
    assert not {"attention", "heads"} & set(result["split_ms"])


def test_network_and_bases_are_timed_in_turn():
    avatar = with_random_bases(400)
    assert avatar.bases.size == 400 and avatar.model.network.config.mouth == "code"
    rows = compare_deformations(avatar, "auto", 8)
    assert [row["batch"] for row in rows] == [1, 8] and json.dumps(rows)
    for row in rows:
        times = [row[deform]["p50_ms"] for deform in ("network", "bases")]
        assert row["ratio"] == pytest.approx(times[0] / times[1], abs=0.02)
        assert row["calls"] == 8 and row["bases"]["processor_ms_a_frame"] > 0
    assert f"{rows[1]['ratio']:.2f}" in comparison_table(rows)


def test_bases_are_compared_with_the_other_variants(tmp_path, monkeypatch):
    monkeypatch.setattr("being.bench.compared_frames.MAX_PASSES", 1)
    avatar = avatar_with_bases(tmp_path, 60, 32)
    frames = ComparedFrames(avatar, torch.zeros(2, 16, WIDTH))
    names = [variant.name for variant in all_variants(frames, ())]
    assert "engine, 5 bases" in names
