"""Oversampling of blinks: frames are repeated, and their copies have gradients only at the eyes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from being.face.mouth_code import MOUTH_CHANNELS
from being.splat import RenderOutput
from being.train.oversampling import balance_mouths, oversample_blinks, restrict_gradient_to_eyes


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_frames_whose_eyes_close_are_sampled_more_often_and_none_less(share):
    frames, blink = np.arange(100, 400), np.zeros(300)
    blink[[7, 8, 200]] = 0.5, 1.0, 0.3
    often, copies = oversample_blinks(frames, blink, share)
    assert np.array_equal(often[:300], frames) and np.array_equal(
        np.flatnonzero(copies), np.arange(300, len(often))
    )
    closing = np.isin(often, [107, 108, 300])
    assert closing.mean() == pytest.approx(max(share, 0.01), abs=0.01)
    assert len(set(np.unique(often[closing], return_counts=True)[1])) == 1
    for nothing_rare in (np.zeros(300), np.ones(300)):
        same, copies = oversample_blinks(frames, nothing_rare, share)
        assert np.array_equal(same, frames) and not copies.any()


def test_a_copy_of_a_blinking_frame_has_gradients_only_at_the_eyes():
    torch.manual_seed(0)
    rgb, alpha = (
        torch.rand(3, 3, 12, 10, requires_grad=True),
        torch.rand(3, 1, 12, 10, requires_grad=True),
    )
    boxes = torch.tensor([[2, 5, 1, 9], [3, 6, -2, 4], [0, 0, 0, 0]])
    output = RenderOutput(
        rgb, alpha, torch.zeros(3, 1, 12, 10), torch.zeros(3, 4, dtype=torch.int32)
    )
    shown = restrict_gradient_to_eyes(output, boxes, torch.tensor([False, True, True]))
    assert torch.equal(shown.rgb, rgb) and torch.equal(shown.alpha, alpha)
    (shown.rgb.sum() + shown.alpha.sum()).backward()
    wanted = torch.zeros(3, 1, 12, 10)
    wanted[0], wanted[1, :, 3:6, :4] = 1, 1
    assert torch.equal(alpha.grad, wanted) and torch.equal(rgb.grad, wanted.expand_as(rgb))


def test_rare_mouths_are_repeated_and_every_frame_is_kept():
    codes = np.zeros((300, len(MOUTH_CHANNELS)), np.float32)
    rng = np.random.default_rng(0)
    codes[:, MOUTH_CHANNELS.index("lip_opening")] = rng.random(300) * 0.1
    rare = [7, 80, 250]
    codes[rare, MOUTH_CHANNELS.index("lip_width")] = -1, -1.1, -0.9
    frames = np.arange(50, 350)
    drawn, times = np.unique(balance_mouths(frames, codes), return_counts=True)
    assert np.array_equal(drawn, frames) and times.max() <= 8
    assert times[rare].min() >= 2 * np.delete(times, rare).mean()
    still = balance_mouths(frames, np.zeros_like(codes))
    assert len(set(np.unique(still, return_counts=True)[1])) == 1
    assert len(balance_mouths(frames[:0], codes[:0])) == 0
