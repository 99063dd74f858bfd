"""The engine: images of the torch renderer, one frame for every row of speech features."""

import numpy as np
import pytest
import torch
from tiny_avatar import POSES, SIZE, WIDTH, tiny_avatar

from being.audio.feature_windows import attention_windows
from being.bench.compared_frames import ComparedFrames
from being.bench.torch_variants import interpolated_images
from being.data.conditions import Conditions
from being.errors import UsageError
from being.inference.backends.cpu.head import status
from being.inference.backends.cpu.tokens import TokenNetworks
from being.inference.engine import Engine
from being.inference.feature_pool import FeaturePool, FeatureTrack
from being.inference.pose_path import pose_path
from being.splat import composite


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(tiny_avatar(tmp_path_factory.mktemp("avatar")), "float32")


@pytest.mark.parametrize("poses", [1, 2, 5])
def test_poses_go_back_and_forth_without_a_jump(poses):
    path = pose_path(23, poses)
    assert len(path) == 23 and path[0] == 0 and path.max() == poses - 1 and path.min() == 0
    steps = np.abs(np.diff(path))
    assert (steps == (0 if poses == 1 else 1)).all()


def test_frames_equal_the_model_over_their_own_plate(engine):
    features = torch.randn(9, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    frames = list(engine.stream(features, batch=4))
    assert len(frames) == 9
    assert all(f.shape == (SIZE, SIZE, 3) and f.dtype == np.uint8 for f in frames)

    frame, pose = torch.tensor([6]), torch.tensor([2])  # poses 0 1 2 3 4 3 2 1 0
    with torch.no_grad():
        conditions = Conditions(
            attention_windows(features, frame), engine.avatar.expression[pose], engine.camera[pose]
        )
        rendered = engine.avatar.model(conditions, engine.avatar.world_to_camera[pose], 150.0, SIZE)
        image = composite(rendered.output, torch.full((1, 3, SIZE, SIZE), 80 / 255))
    expected = image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(expected - frames[6]).max() <= 0.51

    # The plate shows through the head, so another plate would have been noticed.
    other = composite(rendered.output, torch.full((1, 3, SIZE, SIZE), 120 / 255))
    assert (other - image).abs().max() > 0.05


def one_by_one(values):
    """An `ExpressionSource` that returns the rows of `values` in order."""
    rows = iter(values)
    return lambda pose_expression: np.stack([next(rows) for _ in pose_expression])


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12))


@pytest.mark.parametrize(("layers", "degree", "channels"), [(1, 3, 1), (2, 1, 4)])
@pytest.mark.parametrize(("precision", "least"), [("float32", 60), ("auto", 45)])
def test_every_frame_is_that_of_the_torch_renderer(
    tmp_path, layers, degree, channels, precision, least
):
    avatar = tiny_avatar(tmp_path, 500, 64, layers, degree, channels)
    features = torch.randn(2 * POSES, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    expression = np.random.default_rng(0).random((2 * POSES, channels), np.float32)
    images = [
        np.stack(list(engine.stream(features, 3, one_by_one(expression))))
        for engine in (Engine(avatar, precision), Engine(avatar, renderer="torch"))
    ]
    assert min(map(psnr, *images)) >= least


@pytest.mark.skipif(not status().startswith("OK"), reason=status())
@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_interpolated_frames_lie_between_the_key_frames(tmp_path, every, count):
    avatar = tiny_avatar(tmp_path, 300, channels=3, degree=0)
    features = torch.randn(count, 16, WIDTH, generator=torch.Generator().manual_seed(2))
    compared = ComparedFrames(avatar, features)
    interpolated = interpolated_images(compared, every)  # by the torch renderer
    expression = np.random.default_rng(0).random((count, 3), np.float32)
    deformed = list(Engine(avatar, "float32").stream(features, expression=one_by_one(expression)))

    for batch in (1, 2, 8):
        engine = Engine(avatar, "float32", deform_every=every)
        images = list(engine.stream(features.split(5), batch, one_by_one(expression)))
        assert len(images) == count
        for key in {*range(0, count, every), count - 1}:
            assert psnr(images[key], deformed[key]) > 65, (batch, key)
        assert min(map(psnr, engine.stream(features, batch), interpolated)) > 55

    # The test would notice frames that are not interpolated: they move.
    if count > 2:
        assert min(map(psnr, interpolated, compared.reference)) < 45


def test_interpolation_is_refused_where_the_renderer_cannot_do_it(tmp_path):
    with pytest.raises(UsageError, match="only the native renderer on a CPU.*TorchRenderer"):
        Engine(tiny_avatar(tmp_path), renderer="torch", deform_every=2)
    with pytest.raises(UsageError, match="deform_every is 0"):
        Engine(tiny_avatar(tmp_path), deform_every=0)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_track_of_small_capacity_gives_the_windows_of_the_whole_clip(batch):
    count, features = 300, torch.randn(300, 16, WIDTH)
    pool = FeaturePool(WIDTH, torch.device("cpu"))
    with FeatureTrack(pool, 40) as other, FeatureTrack(pool, max(16, 2 * batch)) as track:
        other.push(torch.ones(40, 16, WIDTH))
        for start in range(0, count, batch):
            frames = np.arange(start, min(start + batch, count))
            track.push(features[track.pushed : frames[-1] + 4])
            windows = pool.table[torch.from_numpy(track.rows(frames)).long()].swapaxes(2, 3)
            assert torch.equal(windows, attention_windows(features, torch.from_numpy(frames)))
    assert pool._free == [(1, len(pool.table))]


@pytest.mark.parametrize("channels", [1, 5])
def test_tokens_in_numpy_are_those_of_torch(tmp_path, channels):
    avatar = tiny_avatar(tmp_path, 10, channels=channels)
    network, camera = avatar.model.network, torch.randn(POSES, 12)
    features, expression = torch.randn(6, 16, WIDTH), torch.rand(6, channels)
    poses = np.array([0, 3, 1, 4, 4, 2])
    windows = attention_windows(features, torch.arange(6))
    with torch.no_grad():
        conditions = Conditions(windows, expression, camera[torch.from_numpy(poses)])
        expected = network.tokens(conditions).numpy()

    networks = TokenNetworks(network, camera)
    vectors = networks.audio_vectors(windows.flatten(0, 1).swapaxes(1, 2).numpy())
    tokens = networks.tokens(vectors.reshape(6, 8, 32), expression.numpy(), poses)
    assert np.linalg.norm(tokens - expected) < 1e-6 * np.linalg.norm(expected)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown precision 'int4'"):
        Engine(tiny_avatar(tmp_path), "int4")
    with pytest.raises(UsageError, match="unknown renderer 'vulkan'"):
        Engine(tiny_avatar(tmp_path), renderer="vulkan")


def test_audio_changes_the_image(engine):
    quiet = torch.zeros(4, 16, WIDTH)
    loud = quiet.clone()
    loud[2] = 3.0
    still, moved = (np.stack(list(engine.stream(f))).astype(int) for f in (quiet, loud))
    assert np.abs(still[2] - moved[2]).max() > 0
