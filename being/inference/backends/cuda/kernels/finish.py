"""Kernel: the blended parts of a frame over its pose's plate -> the picture, uint8, channels last."""

from __future__ import annotations

import triton
import triton.language as tl

POSE = tl.constexpr(8)  # where `given` holds a frame's pose


@triton.jit(do_not_specialize=["given_stride"])
def finish(
    blended, plates, given, given_stride, pictures, pixels, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    """pictures [B, pixels, 3] of blended [B, PARTS, 4, pixels] (see `blend`) over plates uint8 [P,
    pixels, 3].
    """
    frame = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < pixels
    pose = tl.load(given + frame * given_stride + POSE).to(tl.int64)
    blended += frame * PARTS * 4 * pixels + at
    for channel in tl.static_range(3):
        value = tl.load(plates + (pose * pixels + at) * 3 + channel, mask, 0).to(tl.float32)
        for before in tl.static_range(PARTS):
            part = blended + (PARTS - 1 - before) * 4 * pixels
            value = (
                tl.load(part + channel * pixels, mask, 0.0) * 255.0
                + tl.load(part + 3 * pixels, mask, 0.0) * value
            )
        value = tl.minimum(tl.maximum(value, 0.0), 255.0) + 0.5
        tl.store(
            pictures + (frame * pixels + at) * 3 + channel, value.to(tl.int32).to(tl.uint8), mask
        )
