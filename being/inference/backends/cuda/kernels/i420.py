"""Triton kernel: RGB images to I420, the input of video encoders; the same bytes as `i420.cpp`."""

from __future__ import annotations

import triton
import triton.language as tl

SHIFT = tl.constexpr(15)  # fraction bits of the matrices
HALF = tl.constexpr(1 << 14)  # for rounding
# Of the sum of four pixels.
CHROMA_SHIFT = tl.constexpr(17)
CHROMA_OFFSET = tl.constexpr((128 << 17) + (1 << 16))
ROW = tl.constexpr(10)  # numbers of a kind of colours: the matrix, and luma of black


@triton.jit
def to_i420(images, kinds, matrices, planes, width, height, BLOCK: tl.constexpr):
    """Write planes uint8 [B, 1.5 H W]: Y [H, W], then Cb and Cr [H / 2, W / 2] of each image.

    images uint8 [B, H, W, 3]; kinds int32 [B], rows of matrices int32 [kinds, 10]. A program
    converts BLOCK squares of 2 x 2 pixels.
    """
    frame = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    half = width // 2
    squares = half * (height // 2)
    mask = at < squares
    first = at // half * 2 * width + at % half * 2
    matrix = matrices + tl.load(kinds + frame) * ROW
    images += frame * width * height * 3
    planes += frame * squares * 6

    luma_offset = (tl.load(matrix + 9) << SHIFT) + HALF
    red = tl.zeros([BLOCK], tl.int32)
    green = tl.zeros([BLOCK], tl.int32)
    blue = tl.zeros([BLOCK], tl.int32)
    for part in tl.static_range(4):
        pixel = first + part // 2 * width + part % 2
        r = tl.load(images + pixel * 3, mask, 0).to(tl.int32)
        g = tl.load(images + pixel * 3 + 1, mask, 0).to(tl.int32)
        b = tl.load(images + pixel * 3 + 2, mask, 0).to(tl.int32)
        luma = tl.load(matrix) * r + tl.load(matrix + 1) * g + tl.load(matrix + 2) * b
        tl.store(planes + pixel, ((luma + luma_offset) >> SHIFT).to(tl.uint8), mask)
        red += r
        green += g
        blue += b

    # Chroma of the mean colour of the square.
    for plane in tl.static_range(2):
        row = matrix + 3 + 3 * plane
        value = tl.load(row) * red + tl.load(row + 1) * green + tl.load(row + 2) * blue
        value = tl.minimum((value + CHROMA_OFFSET) >> CHROMA_SHIFT, 255)
        tl.store(planes + squares * (4 + plane) + at, value.to(tl.uint8), mask)
