"""The training objective: the mask term must move the opacities of the Gaussians."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import settings

from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset
from being.model.talking_head import TalkingHead
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.trainer import untrained_model

SIZE = 48


@pytest.fixture(scope="module")
def clip(scene: Path) -> Clip:
    return load_clip(Dataset.open(scene), SIZE, "hama")


@pytest.fixture(scope="module")
def model(scene: Path, clip: Clip) -> TalkingHead:
    config, dataset = settings(1, 1), Dataset.open(scene)
    points, colours = initial_cloud(dataset, clip, dataset.split().train, 400, 0)
    return untrained_model(config, clip.features.shape[2], points, colours, len(clip.channels))


def mask_term(model: TalkingHead, clip: Clip, reference: bool = False) -> torch.Tensor:
    """The mask term of two frames of the coarse head."""
    weights = settings(1, 1).train.loss
    planes = model.network.tri_plane.grid
    objective = Objective(weights, clip, planes, reference=reference, low_precision=False)
    index = torch.tensor([0, 5])
    rendering = model(None, clip.world_to_camera[index], clip.focal, clip.size, 0)
    return objective.terms(rendering, index)["mask"]


def opacity_gradient(term: torch.Tensor, model: TalkingHead) -> torch.Tensor:
    """Gradient of a loss term with respect to the opacity logits [N, 1]."""
    assert term.requires_grad, "the term has no gradient"
    (gradient,) = torch.autograd.grad(term, model.gaussians.opacity_logits, allow_unused=True)
    assert gradient is not None, "the term does not depend on the opacities"
    return gradient


def with_mask(clip: Clip, value: int) -> Clip:
    """The clip with a head mask of one value, 0 to 255, everywhere."""
    return replace(clip, head=torch.full_like(clip.head, value))


@pytest.mark.parametrize("value, sign", [(255, -1), (0, 1)])
def test_the_mask_term_raises_opacities_inside_the_mask_and_lowers_them_outside(
    model: TalkingHead, clip: Clip, value: int, sign: int
) -> None:
    gradient = opacity_gradient(mask_term(model, with_mask(clip, value)), model)
    moved = gradient[gradient != 0]
    assert len(moved) > 0.9 * len(gradient), "nearly every Gaussian is visible"
    assert (moved.sign() == sign).float().mean() > 0.99


def test_a_step_against_its_gradient_lowers_the_mask_term(model: TalkingHead, clip: Clip) -> None:
    logits = model.gaussians.opacity_logits
    before = mask_term(model, clip)
    gradient = opacity_gradient(before, model)
    step = 0.05 / gradient.abs().max()
    kept = logits.detach().clone()
    try:
        with torch.no_grad():
            logits -= step * gradient
            after = mask_term(model, clip)
    finally:
        logits.data.copy_(kept)
    expected = step * gradient.square().sum()
    assert (before - after).item() == pytest.approx(expected.item(), rel=0.1)


def test_with_compat_reference_the_mask_term_has_no_gradient(
    model: TalkingHead, clip: Clip
) -> None:
    term = mask_term(model, clip, reference=True)
    assert term > 0 and not term.requires_grad
