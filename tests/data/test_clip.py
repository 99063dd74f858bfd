"""The clip of a training run: the window around the head, and the target image."""

import numpy as np
import torch

from being.data.clip import Clip, head_window


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
