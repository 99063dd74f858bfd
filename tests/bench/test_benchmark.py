"""The benchmark's own figures: what it times is what the engine does, and roads compute what the
plain model does.
"""

import json

import numpy as np
import pytest
import torch
from tiny_avatar import WIDTH, tiny_avatar

from being.bench.avatars import coverage, random_avatar, resampled
from being.bench.fps import bench, growth
from being.bench.sessions import bench_sessions
from being.bench.variants import Frames, _interpolated, _onnx, psnr
from being.inference.engine import Engine
from being.inference.pruning import contribution, pruned
from being.interop.onnx import export_onnx
from being.splat import Cameras, rasterize


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    return tiny_avatar(tmp_path_factory.mktemp("avatar"), 300, 64, channels=3)


@pytest.mark.parametrize("plain", [True, False])
def test_rows_split_and_memory(avatar, plain):
    result = bench(Engine(avatar, plain=plain), 16)
    assert [row["batch"] for row in result["rows"]] == [1, 8] and result["rows"][0]["calls"] == 16
    for row in result["rows"]:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["frames_per_second"] == pytest.approx(
            1000 * row["batch"] / row["avg_ms"], rel=0.02
        )
    assert {"tri-plane", "attention", "heads"} <= set(result["split_ms"]) and result[
        "encode_mp4_ms"
    ] > 0
    assert sum(result["split_ms"].values()) < 3 * result["rows"][0]["max_ms"] and json.dumps(result)


def test_sessions_are_never_early_and_all_served(avatar):
    found = bench_sessions(Engine(avatar), 3, 0.4)
    assert found["frames"] == 30 and 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["held"] == (found["p99_ms"] <= 40)


def test_memory_does_not_grow_with_frames(avatar):
    found = growth(Engine(avatar), 600)
    assert found["host_mib_after"] - found["host_mib_before"] < 8


def test_gaussians_that_show_nothing_go_first(avatar):
    """One hidden behind all others contributes least; all weights of a picture sum to its alpha."""
    hidden = tiny_avatar(avatar.path, 300, 64)
    hidden.model.gaussians.opacity_logits[7] = -9.0
    share = contribution(hidden)
    assert int(share.argmin()) == 7 and share[7] < 1e-3 * share.median()
    fewer = pruned(hidden, 299 / 300)
    assert len(fewer.model.gaussians) == 299
    features = torch.randn(4, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    two = [np.stack(list(Engine(one, "float32").stream(features))) for one in (hidden, fewer)]
    assert psnr(*two) > 45
    assert len(pruned(hidden, 0.25).model.gaussians) == 75


def test_an_untrained_avatar_and_one_of_more_gaussians():
    """Resampled, a surface is covered about as it was."""
    one = random_avatar(1000, 64)
    two = resampled(one, 4000)
    assert len(two.model.gaussians) == 4000 and coverage(two)[0] > 3000
    picture = Engine(one).render(torch.zeros(1, 16, 44), np.array([0]), np.array([0]))
    assert picture.shape == (1, 64, 64, 3) and picture.std() > 8
    cameras = Cameras(one.world_to_camera[:1], one.focal, 64, 64)
    covered = [
        float(rasterize(a.model.gaussians.activate(), cameras).alpha.mean()) for a in (one, two)
    ]
    assert covered[1] == pytest.approx(covered[0], rel=0.1)


def test_roads_give_the_plain_pictures(avatar):
    smooth = torch.linspace(0, 1, 8)[:, None, None] * torch.ones(8, 16, WIDTH)
    frames = Frames(avatar, smooth)
    assert _onnx(frames, "CPUExecutionProvider")["psnr"] > 60
    row = _onnx(frames, "TensorrtExecutionProvider")
    assert row["frames_per_second"] is None and "not installed" in row["note"]
    assert psnr(_interpolated(frames, 1), frames.true) == 99
    interpolated = _interpolated(frames, 2)
    assert (
        np.array_equal(interpolated[::2], frames.true[::2]) and psnr(interpolated, frames.true) > 20
    )


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
