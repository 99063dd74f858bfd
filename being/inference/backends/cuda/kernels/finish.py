"""Triton kernel: adds up the blended parts, lays them over the background image, gives uint8."""

from __future__ import annotations

import triton
import triton.language as tl

POSE = tl.constexpr(8)  # position of the pose in a frame's inputs


@triton.jit(do_not_specialize=["input_stride"])
def finish(
    blended, plates, inputs, input_stride, images, pixels, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    """Write images uint8 [B, pixels, 3].

    blended float32 [B, PARTS, 4, pixels] from `blend_part`; plates uint8 [P, pixels, 3]; inputs
    int32 [B, input_stride].
    """
    frame = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < pixels
    pose = tl.load(inputs + frame * input_stride + POSE).to(tl.int64)
    blended += frame * PARTS * 4 * pixels + at
    for channel in tl.static_range(3):
        value = tl.load(plates + (pose * pixels + at) * 3 + channel, mask, 0).to(tl.float32)
        # The parts lie over the plate from back to front.
        for before in tl.static_range(PARTS):
            part = blended + (PARTS - 1 - before) * 4 * pixels
            value = (
                tl.load(part + channel * pixels, mask, 0.0) * 255.0
                + tl.load(part + 3 * pixels, mask, 0.0) * value
            )
        value = tl.minimum(tl.maximum(value, 0.0), 255.0) + 0.5
        tl.store(
            images + (frame * pixels + at) * 3 + channel, value.to(tl.int32).to(tl.uint8), mask
        )
