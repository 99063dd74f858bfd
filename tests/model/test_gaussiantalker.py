"""Tests of GaussianTalker's network against its own code's outputs, and of the model around it."""

import numpy as np
import pytest
import torch

from being.config import ModelConfig
from being.data.conditions import Conditions
from being.model.gaussians import CanonicalGaussians
from being.model.gaussiantalker import GaussianTalker
from being.model.talking_head import TalkingHead
from being.model.tokens import encode_blink

UNUSED = (
    "pos_poc",
    "rotation_scaling_poc",
    "opacity_poc",
    "aud_ch_att_net",
    "eye_att_net",
    "enc_x_mlp",
)


@pytest.mark.shared
def test_network_equals_gaussiantalkers_own_code(shared_dir):
    golden = np.load(shared_dir / "golden/network.npz")
    state = torch.load(shared_dir / "golden/deformation.pth", weights_only=True)
    network = GaussianTalker(ModelConfig(), audio_width=29).eval()
    loaded = network.load_state_dict(
        {k.removeprefix("deformation_net."): v.float() for k, v in state.items()}, strict=False
    )
    assert not loaded.missing_keys
    assert all(key.startswith(UNUSED) for key in loaded.unexpected_keys), loaded.unexpected_keys

    def value(name):
        return torch.from_numpy(golden[name].astype(np.float32))

    with torch.no_grad():
        out = network(value("xyz"), Conditions(value("audio"), value("blink"), value("camera")))
        opacity, sh = network.tri_plane.canonical(value("xyz"))
    pairs = {
        "xyz": out.means,
        "log_scale": out.log_scales,
        "rotation": out.quaternions,
        "opacity_logit": out.opacity_logits,
        "sh": out.sh,
    }
    for name, offset in pairs.items():
        assert torch.allclose(value(name) + offset, value(f"out_{name}"), atol=1e-4), name
    assert torch.allclose(out.attention, value("attention"), atol=1e-4)
    assert torch.allclose(opacity[None], value("canonical_opacity"), atol=1e-4)
    assert torch.allclose(sh[None], value("canonical_sh"), atol=1e-4)


def small_network(width=5):
    torch.manual_seed(0)
    return GaussianTalker(ModelConfig(plane_resolution=8, drop_prob=0.0, sh_degree=1), width).eval()


def test_frames_of_a_batch_do_not_touch_each_other():
    network, generator = small_network(), torch.Generator().manual_seed(1)
    means = torch.rand(20, 3, generator=generator) - 0.5
    conditions = Conditions(
        torch.randn(3, 8, 5, 16, generator=generator),
        torch.rand(3, 1, generator=generator),
        torch.randn(3, 12, generator=generator),
    )
    together = network(means, conditions)
    alone = network(
        means, Conditions(conditions.audio[1:2], conditions.expression[1:2], conditions.camera[1:2])
    )
    assert torch.allclose(together.means[1:2], alone.means, atol=1e-6)
    assert torch.allclose(together.attention.sum(-1), torch.ones(3, 1, 20), atol=1e-6)


def test_sound_reaches_the_offsets_through_a_gradient():
    network, generator = small_network(), torch.Generator().manual_seed(1)
    audio = torch.randn(2, 8, 5, 16, generator=generator, requires_grad=True)
    out = network(
        torch.rand(6, 3, generator=generator),
        Conditions(audio, torch.zeros(2, 1), torch.zeros(2, 12)),
    )
    out.means.square().sum().backward()
    assert audio.grad.abs().sum() > 0


def test_planes_are_mirrored_against_space_and_clamped_outside_their_box():
    grid = small_network().tri_plane.grid
    grid.aabb.copy_(torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]))
    with torch.no_grad():
        for planes in grid.grids:
            for plane in planes:
                plane.fill_(1.0)
        side = grid.grids[0][0].shape[-1]
        grid.grids[0][0].copy_(
            torch.arange(side).float().expand(1, 32, side, side)
        )  # plane xy, rising along x
        at = torch.tensor([[1.0, 0, 0], [0.0, 0, 0], [-1.0, 0, 0], [-5.0, 0, 0]])
        values = grid(at)[:, 0]
    assert torch.allclose(values, torch.tensor([0.0, (side - 1) / 2, side - 1.0, side - 1.0]))


def test_baking_the_canonical_stage_keeps_its_image():
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(30, 3, generator=generator) - 0.5
    config = ModelConfig(plane_resolution=8, sh_degree=1)
    model = TalkingHead(config, 5, CanonicalGaussians.from_points(points, points + 0.5, 1))
    before = model.canonical()
    model.bake_canonical()
    after = model.gaussians.activate()
    assert torch.allclose(before.opacities, after.opacities, atol=1e-6)
    assert torch.allclose(before.sh, after.sh, atol=1e-6)


def test_an_untrained_blink_token_changes_steadily_from_open_to_closed():
    """The path of the token from blink 0 to 1 is not a random walk, which a short training misses.

    GaussianTalker's own initialisation gives a ratio of 0.01.
    """
    torch.manual_seed(0)
    network = GaussianTalker(ModelConfig(), audio_width=5)
    with torch.no_grad():
        path = network.eye_mlp(encode_blink(torch.linspace(0, 1, 101)[:, None]))
    assert (path[-1] - path[0]).norm() > 0.25 * path.diff(dim=0).norm(dim=1).sum()


def test_channels_at_zero_do_not_change_the_token_and_others_do_before_training():
    conditions = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    wide = GaussianTalker(ModelConfig(plane_resolution=8, sh_degree=1), 5, expression_width=4)
    alone = small_network()
    alone.load_state_dict(
        {k: v for k, v in wide.state_dict().items() if k != "expression_lift.weight"}
    )
    resting = conditions * torch.tensor([1.0, 0, 0, 0])
    assert torch.equal(wide.expression_token(resting), alone.expression_token(conditions[:, :1]))
    change = wide.expression_token(resting + torch.eye(4)[3]) - wide.expression_token(resting)
    assert (change.norm(dim=1) > 4).all()

    # A network of one channel ignores further channels.
    assert torch.equal(
        alone.expression_token(conditions), alone.expression_token(conditions[:, :1])
    )
    wide.expression_token(conditions).sum().backward()
    assert torch.allclose(
        wide.expression_lift.weight.grad, conditions[:, 1:].sum(0).expand(64, 3), atol=1e-6
    )


@pytest.mark.parametrize("width", [1, 4])
def test_the_number_of_channels_is_read_from_a_saved_model(width):
    points = torch.rand(9, 3, generator=torch.Generator().manual_seed(2))
    config = ModelConfig(plane_resolution=8, sh_degree=1)
    model = TalkingHead(config, 5, CanonicalGaussians.from_points(points, points, 1), width)
    again = TalkingHead.from_state(config, 5, model.state_dict())
    assert again.network.expression_width == width
    assert ("network.expression_lift.weight" in model.state_dict()) == (width > 1)
