"""Triton functions that several kernels share: cameras, the EWA projection, tiles of an ellipse.

The torch rasterizer (`being.splat.torch_rasterizer`) has the same formulas in a short form.

Whitened coordinates, as in the native backend: the exponential of a Gaussian is 2^-(u^2 + v^2) with
u = a (dx - lean dy) and v = b dy. This is a sum of squares, so thin Gaussians lose no digits.

A splat is SPLAT_FLOATS floats: x, y, a, a * lean, b, opacity, red, green, blue, depth, radius, and
an unused one. `a_lean` is a * lean.

Lists are kept for tiles of LIST_TILE px, half the side of the TILE that the blending rules use. So
fewer pixels wait for Gaussians that miss them, and the longest list is half as long; that list
decides the time of a small batch.

Every name that a kernel reads from a module is a `tl.constexpr`; write it to the right of a tensor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being import conventions
from being.splat import torch_rasterizer

TILE = tl.constexpr(conventions.TILE)
LOW_PASS = tl.constexpr(conventions.LOW_PASS)
LOW_PASS_SQUARED = tl.constexpr(conventions.LOW_PASS**2)
NEAR_PLANE = tl.constexpr(conventions.NEAR_PLANE)
ALPHA_MIN = tl.constexpr(conventions.ALPHA_MIN)
ALPHA_MAX = tl.constexpr(conventions.ALPHA_MAX)
TRANSMITTANCE_MIN = tl.constexpr(conventions.TRANSMITTANCE_MIN)
FIELD_OF_VIEW_MARGIN = tl.constexpr(torch_rasterizer.FIELD_OF_VIEW_MARGIN)
EIGENVALUE_FLOOR = tl.constexpr(torch_rasterizer.EIGENVALUE_FLOOR)
QUATERNION_MIN = tl.constexpr(torch_rasterizer.QUATERNION_MIN)
SCREEN_MAX = tl.constexpr(torch_rasterizer.SCREEN_MAX)
SH_C0 = tl.constexpr(torch_rasterizer.SH_C0)

FINITE_MAX = tl.constexpr(3.4028234e38)
# Factor from the power of e to the power of 2 in 2^-(u^2 + v^2), and its square root.
HALF_LOG2E = tl.constexpr(0.72134752)
ROOT_HALF_LOG2E = tl.constexpr(0.84932180)
LEVEL_SLACK = tl.constexpr(1e-3)  # added to the power at which alpha falls under ALPHA_MIN
LIST_TILE = tl.constexpr(8)  # px of a list tile
SPLAT_FLOATS = tl.constexpr(12)  # floats of a splat


@triton.jit
def finite(x):
    """Return whether a number is neither infinite nor NaN."""
    return tl.abs(x) <= FINITE_MAX


@triton.jit
def camera_at(world_to_camera, focal, frame, camera_stride, focal_stride):
    """Return the rotation row by row, the translation and the focal length of one frame."""
    m = world_to_camera + frame * camera_stride
    return (
        tl.load(m),
        tl.load(m + 1),
        tl.load(m + 2),
        tl.load(m + 4),
        tl.load(m + 5),
        tl.load(m + 6),
        tl.load(m + 8),
        tl.load(m + 9),
        tl.load(m + 10),
        tl.load(m + 3),
        tl.load(m + 7),
        tl.load(m + 11),
        tl.load(focal + frame * focal_stride),
    )


@triton.jit
def load3(base, index, mask):
    """Return the three numbers of each row; 0 outside the mask."""
    return (
        tl.load(base + index * 3, mask, 0.0),
        tl.load(base + index * 3 + 1, mask, 0.0),
        tl.load(base + index * 3 + 2, mask, 0.0),
    )


@triton.jit
def load_unit_quaternion(base, index, mask):
    """Return w, x, y, z of the normalised quaternion, and its original length."""
    w, x = tl.load(base + index * 4, mask, 1.0), tl.load(base + index * 4 + 1, mask, 0.0)
    y, z = tl.load(base + index * 4 + 2, mask, 0.0), tl.load(base + index * 4 + 3, mask, 0.0)
    length = tl.sqrt_rn(w * w + x * x + y * y + z * z)
    return w / length, x / length, y / length, z / length, length


@triton.jit
def rotation_matrix(w, x, y, z):
    """Return the nine entries of the rotation matrix of a unit quaternion, row by row."""
    return (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )


@triton.jit
def to_view(x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2):
    """Return a point in the camera's coordinates."""
    return (
        r00 * x + r01 * y + r02 * z + t0,
        r10 * x + r11 * y + r12 * z + t1,
        r20 * x + r21 * y + r22 * z + t2,
    )


@triton.jit
def clamped_slope(slope, size, focal):
    """Return x/z or y/z clamped for the Jacobian, and whether it was within the limit."""
    limit = size * FIELD_OF_VIEW_MARGIN / (2 * focal)
    return tl.minimum(tl.maximum(slope, -limit), limit), tl.abs(slope) <= limit


@triton.jit
def jacobian_row(magnification, slope, a0, a1, a2, r20, r21, r22):
    """Return one row of d(pixel) / d(world); a0, a1, a2 is the camera's row of the same axis."""
    return (
        magnification * (a0 - slope * r20),
        magnification * (a1 - slope * r21),
        magnification * (a2 - slope * r22),
    )


@triton.jit
def axes_row(j0, j1, j2, m00, m01, m02, m10, m11, m12, m20, m21, m22):
    """Return one row of Jacobian times rotation.

    It is how far one unit along each axis of the Gaussian moves the pixel.
    """
    return (
        j0 * m00 + j1 * m10 + j2 * m20,
        j0 * m01 + j1 * m11 + j2 * m21,
        j0 * m02 + j1 * m12 + j2 * m22,
    )


@triton.jit
def covariance(s00, s01, s02, s10, s11, s12):
    """Return xx, xy, yy with the low-pass filter added, and their determinant.

    The determinant is computed by the Cauchy-Binet formula, so thin Gaussians lose no digits.
    """
    xx = s00 * s00 + s01 * s01 + s02 * s02
    xy = s00 * s10 + s01 * s11 + s02 * s12
    yy = s10 * s10 + s11 * s11 + s12 * s12
    a, b, c = s01 * s12 - s02 * s11, s02 * s10 - s00 * s12, s00 * s11 - s01 * s10
    determinant = (a * a + b * b + c * c) + (xx + yy) * LOW_PASS + LOW_PASS_SQUARED
    return xx + LOW_PASS, xy, yy + LOW_PASS, determinant


@triton.jit
def tile_at(position, tiles):
    """Return the list tile, within 0..tiles, at which the 16 px tile of a position (px) begins."""
    coarse = tl.minimum(tl.maximum(tl.floor(position / TILE), 0.0), tiles * 1.0).to(tl.int32)
    return tl.minimum(coarse * (TILE // LIST_TILE), tiles)


@triton.jit
def tile_rectangle(x, y, radius, tiles_x, tiles_y):
    """Return first and past-the-last list tile in x and y of the square of `radius`.

    They are those of the 16 px tiles that the square meets, as in the torch rasterizer.
    """
    first_x, first_y = tile_at(x - radius, tiles_x), tile_at(y - radius, tiles_y)
    reach = radius + (TILE - 1)
    return first_x, first_y, tile_at(x + reach, tiles_x), tile_at(y + reach, tiles_y)


@triton.jit
def ellipse(a, a_lean, b, opacity):
    """Return the numbers of the ellipse, in which alpha reaches ALPHA_MIN, for `row_of_tiles`.

    They are: its level, half its height, the y offset at which it reaches farthest to the right,
    and the slope of the line through the middles of its rows.
    """
    level = tl.log2(tl.maximum(opacity / ALPHA_MIN, 1.0)) + LEVEL_SLACK
    lean = a_lean / a
    variance_x = 1 / (a * a) + lean * lean / (b * b)
    extreme = tl.sqrt(level / variance_x) * lean / (b * b)
    return level, tl.sqrt(level) / b, extreme, lean


@triton.jit
def row_of_tiles(row, x, y, a, b, level, half, extreme, lean, left, right):
    """Return first and past-the-last tile that the ellipse meets in one row of tiles.

    Both are within left..right.
    """
    start = row * LIST_TILE - y
    low_row, high_row = (
        tl.maximum(start - 0.01, -half),
        tl.minimum(start + (LIST_TILE - 0.99), half),
    )

    # The rightmost and the leftmost point in these rows, with some slack for rounding.
    at = tl.minimum(tl.maximum(extreme, low_row), high_row)
    slack = tl.abs(lean * at) * 2e-6 + 0.01
    high = x + lean * at + tl.sqrt(tl.maximum(level - b * b * at * at, 0.0)) / a + slack
    at = tl.minimum(tl.maximum(-extreme, low_row), high_row)
    slack = tl.abs(lean * at) * 2e-6 + 0.01
    low = x + lean * at - tl.sqrt(tl.maximum(level - b * b * at * at, 0.0)) / a - slack

    # The tiles between the two.
    first = tl.maximum(tl.ceil(low), left * LIST_TILE * 1.0)
    last = tl.minimum(tl.floor(high), right * LIST_TILE - 1.0)
    met = (low_row <= high_row) & (first <= last)
    first, last = tl.where(met, first, 0.0).to(tl.int32), tl.where(met, last, -1.0).to(tl.int32)
    return first // LIST_TILE, tl.where(met, last // LIST_TILE + 1, first // LIST_TILE)
