"""Kernel: blended colour over the pose's plate -> the picture, uint8, channels last."""

from __future__ import annotations

import triton
import triton.language as tl

POSE = tl.constexpr(8)  # where `given` holds a frame's pose


@triton.jit(do_not_specialize=["given_stride"])
def finish(rgb, alpha, plates, given, given_stride, pictures, pixels, BLOCK: tl.constexpr):
    """pictures [B, pixels, 3] of rgb [B, 3, pixels], alpha [B, pixels] over plates uint8 [P, pixels, 3]."""
    frame = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < pixels
    pose = tl.load(given + frame * given_stride + POSE).to(tl.int64)
    through = 1.0 - tl.load(alpha + frame * pixels + at, mask, 0.0)
    for channel in tl.static_range(3):
        behind = tl.load(plates + (pose * pixels + at) * 3 + channel, mask, 0).to(tl.float32)
        value = tl.load(rgb + (frame * 3 + channel) * pixels + at, mask, 0.0) * 255.0 + through * behind
        value = tl.minimum(tl.maximum(value, 0.0), 255.0) + 0.5
        tl.store(pictures + (frame * pixels + at) * 3 + channel, value.to(tl.int32).to(tl.uint8), mask)
