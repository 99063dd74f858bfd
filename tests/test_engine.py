"""The engine: poses without a jump, the plain model's pictures, one frame for every frame of sound."""

import numpy as np
import pytest
import torch

from being.config import ModelConfig
from being.data.cameras import world_to_camera
from being.data.clip import Clip, head_window
from being.data.conditions import Conditions
from being.inference.engine import Engine
from being.inference.pose_path import pose_path
from being.model.avatar import Avatar
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import composite

SIZE, POSES, WIDTH = 32, 5, 7


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    from io import BytesIO

    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    points = torch.rand(60, 3, generator=generator) - 0.5
    model = TalkingHead(ModelConfig(plane_resolution=8, sh_degree=1), WIDTH,
                        CanonicalGaussians.from_points(points, torch.rand(60, 3, generator=generator), 1, 0.7)).eval()
    euler = np.zeros((POSES, 3))
    euler[:, 1] = np.linspace(-0.3, 0.3, POSES)
    matrices = torch.from_numpy(world_to_camera(euler, np.tile([0.0, 0, -7], (POSES, 1))))
    plates = []
    for k in range(POSES):
        file = BytesIO()
        Image.fromarray(np.full((SIZE, SIZE, 3), 40 * k, np.uint8)).save(file, "PNG")
        plates.append(file.getvalue())
    manifest = {"size": SIZE, "focal": 150.0, "encoder": "hama", "audio_width": WIDTH}
    return Engine(Avatar(tmp_path_factory.mktemp("avatar"), manifest, model, matrices, torch.rand(POSES, 1), plates))


@pytest.mark.parametrize("poses", [1, 2, 5])
def test_poses_go_back_and_forth_without_a_jump(poses):
    path = pose_path(23, poses)
    assert len(path) == 23 and path[0] == 0 and path.max() == poses - 1 and path.min() == 0
    steps = np.abs(np.diff(path))
    assert (steps == (0 if poses == 1 else 1)).all()


def test_frames_equal_the_plain_model_over_their_own_plate(engine):
    features = torch.randn(9, 16, WIDTH, generator=torch.Generator().manual_seed(1))
    frames = list(engine.stream(features, batch=4))
    assert len(frames) == 9 and all(f.shape == (SIZE, SIZE, 3) and f.dtype == np.uint8 for f in frames)
    from being.audio.features import windows

    at, pose = torch.tensor([6]), torch.tensor([2])  # poses 0 1 2 3 4 3 2 1 0
    with torch.no_grad():
        conditions = Conditions(windows(features, at), engine.avatar.expression[pose], engine.camera[pose])
        plain = engine.avatar.model(conditions, engine.avatar.world_to_camera[pose], 150.0, SIZE)
        picture = composite(plain.output, torch.full((1, 3, SIZE, SIZE), 80 / 255))
    expected = picture[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(expected - frames[6]).max() <= 0.51
    other = composite(plain.output, torch.full((1, 3, SIZE, SIZE), 120 / 255))
    assert (other - picture).abs().max() > 0.05  # so the plate shows through: that of pose 2 it was


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
    clip = Clip(torch.full((1, 3, 16, 16), 200, dtype=torch.uint8), torch.full((1, 3, 16, 16), 50, dtype=torch.uint8),
                head, *[blank] * 9, (slice(2, 14), slice(3, 13)), 1.0, 16)
    target = clip.target(torch.tensor([0])) * 255
    assert torch.allclose(target[..., 4:12, 4:12], torch.tensor(200.0))  # grown by two pixels
    assert torch.allclose(target[..., :4, :], torch.tensor(50.0))
    assert torch.equal(clip.target(torch.tensor([0]), window=True) * 255, target[..., 2:14, 3:13])
