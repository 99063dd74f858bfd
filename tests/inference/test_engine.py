"""The engine: poses without a jump, the plain model's pictures, one frame for every frame of sound."""

import numpy as np
import pytest
import torch
from tiny_avatar import POSES, SIZE, WIDTH, tiny_avatar

from being.audio.feature_windows import windows
from being.bench.variants import Frames, _interpolated
from being.data.clip import Clip, head_window
from being.data.conditions import Conditions
from being.errors import UsageError
from being.inference.backends.cpu.head import status
from being.inference.backends.cpu.tokens import TokenNets
from being.inference.engine import Engine
from being.inference.feature_pool import Sound, Sounds
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


def test_frames_equal_the_plain_model_over_their_own_plate(engine):
    features = torch.randn(9, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    frames = list(engine.stream(features, batch=4))
    assert len(frames) == 9 and all(
        f.shape == (SIZE, SIZE, 3) and f.dtype == np.uint8 for f in frames
    )
    at, pose = torch.tensor([6]), torch.tensor([2])  # poses 0 1 2 3 4 3 2 1 0
    with torch.no_grad():
        conditions = Conditions(
            windows(features, at), engine.avatar.expression[pose], engine.camera[pose]
        )
        plain = engine.avatar.model(conditions, engine.avatar.world_to_camera[pose], 150.0, SIZE)
        picture = composite(plain.output, torch.full((1, 3, SIZE, SIZE), 80 / 255))
    expected = picture[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(expected - frames[6]).max() <= 0.51
    other = composite(plain.output, torch.full((1, 3, SIZE, SIZE), 120 / 255))
    assert (other - picture).abs().max() > 0.05  # so the plate shows through: that of pose 2 it was


def one_by_one(values):
    """What `Engine.stream` asks for the expression of its frames: rows of `values` in order."""
    rows = iter(values)
    return lambda own: np.stack([next(rows) for _ in own])


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12))


@pytest.mark.parametrize(("layers", "degree", "channels"), [(1, 3, 1), (2, 1, 4)])
@pytest.mark.parametrize(("precision", "least"), [("float32", 60), ("auto", 45)])
def test_every_frame_is_the_plain_model_s(tmp_path, layers, degree, channels, precision, least):
    avatar = tiny_avatar(tmp_path, 500, 64, layers, degree, channels)
    mine, plain = Engine(avatar, precision), Engine(avatar, plain=True)
    features = torch.randn(2 * POSES, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    face = np.random.default_rng(0).random((2 * POSES, channels), np.float32)
    pictures = [np.stack(list(e.stream(features, 3, one_by_one(face)))) for e in (mine, plain)]
    assert min(map(psnr, *pictures)) >= least


@pytest.mark.skipif(not status().startswith("OK"), reason=status())
@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_frames_that_are_not_deformed_lie_between_those_that_are(tmp_path, every, count):
    avatar = tiny_avatar(tmp_path, 300, channels=3, degree=0)
    features = torch.randn(count, 16, WIDTH, generator=torch.Generator().manual_seed(2))
    frames = Frames(avatar, features)
    mixed = _interpolated(frames, every)  # by the plain model
    face = np.random.default_rng(0).random((count, 3), np.float32)
    whole = list(Engine(avatar, "float32").stream(features, expression=one_by_one(face)))
    for batch in (1, 2, 8):
        engine = Engine(avatar, "float32", deform_every=every)
        made = list(engine.stream(features.split(5), batch, one_by_one(face)))
        assert len(made) == count
        for k in {*range(0, count, every), count - 1}:
            assert psnr(made[k], whole[k]) > 65, (batch, k)
        assert min(map(psnr, engine.stream(features, batch), mixed)) > 55
    if count > 2:
        assert min(map(psnr, mixed, frames.true)) < 45  # so it is not that nothing moves


def test_leaving_out_frames_is_refused_where_it_brings_nothing(tmp_path):
    with pytest.raises(UsageError, match="only the native engine on the CPU.*PlainHead"):
        Engine(tiny_avatar(tmp_path), plain=True, deform_every=2)
    with pytest.raises(UsageError, match="every 0th"):
        Engine(tiny_avatar(tmp_path), deform_every=0)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_long_sound_in_a_small_room_is_heard_as_the_whole(batch):
    """Rows taken from a ring as they come are the windows of the whole clip."""
    count, features = 300, torch.randn(300, 16, WIDTH)
    sounds = Sounds(WIDTH, torch.device("cpu"))
    with Sound(sounds, 40) as other, Sound(sounds, max(16, 2 * batch)) as sound:
        other.push(torch.ones(40, 16, WIDTH))
        for start in range(0, count, batch):
            frames = np.arange(start, min(start + batch, count))
            sound.push(features[sound.pushed : frames[-1] + 4])
            heard = sounds.table[torch.from_numpy(sound.rows(frames)).long()]
            assert torch.equal(heard.swapaxes(2, 3), windows(features, torch.from_numpy(frames)))
    assert sounds._free == [(1, len(sounds.table))]


@pytest.mark.parametrize("channels", [1, 5])
def test_tokens_on_the_host_are_torch_s(tmp_path, channels):
    avatar = tiny_avatar(tmp_path, 10, channels=channels)
    network, camera = avatar.model.network, torch.randn(POSES, 12)
    features, face = torch.randn(6, 16, WIDTH), torch.rand(6, channels)
    poses = np.array([0, 3, 1, 4, 4, 2])
    nets = TokenNets(network, camera)
    heard = windows(features, torch.arange(6))
    vectors = nets.vectors(heard.flatten(0, 1).swapaxes(1, 2).numpy()).reshape(6, 8, 32)
    with torch.no_grad():
        true = network.tokens(Conditions(heard, face, camera[torch.from_numpy(poses)])).numpy()
    mine = nets.tokens(vectors, face.numpy(), poses)
    assert np.linalg.norm(mine - true) < 1e-6 * np.linalg.norm(true)


def test_a_precision_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="unknown precision 'int4'"):
        Engine(tiny_avatar(tmp_path), "int4")


def test_sound_moves_the_picture(engine):
    quiet = torch.zeros(4, 16, WIDTH)
    loud = quiet.clone()
    loud[2] = 3.0
    still, moved = (np.stack(list(engine.stream(f))).astype(int) for f in (quiet, loud))
    assert np.abs(still[2] - moved[2]).max() > 0


def test_head_window_holds_every_box_and_everything_without_one():
    boxes = np.array([[10, 20, 12, 18], [0, 0, 0, 0], [8, 24, 14, 30]])
    assert head_window(boxes, 64) == (slice(0, 32), slice(4, 38))
    assert head_window(np.zeros((3, 4), int), 64) == (slice(0, 64), slice(0, 64))


def test_training_target_is_the_frame_on_the_head_and_the_plate_elsewhere():
    head = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    head[..., 6:10, 6:10] = 255
    blank = torch.zeros(1)
    clip = Clip(
        torch.full((1, 3, 16, 16), 200, dtype=torch.uint8),
        torch.full((1, 3, 16, 16), 50, dtype=torch.uint8),
        head,
        *[blank] * 9,
        (slice(2, 14), slice(3, 13)),
        1.0,
        16,
    )
    target = clip.target(torch.tensor([0])) * 255
    assert torch.allclose(target[..., 4:12, 4:12], torch.tensor(200.0))  # grown by two pixels
    assert torch.allclose(target[..., :4, :], torch.tensor(50.0))
    assert torch.equal(clip.target(torch.tensor([0]), window=True) * 255, target[..., 2:14, 3:13])
