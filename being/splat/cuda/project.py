"""Triton kernel of the EWA projection (Zwicker et al. 2001): screen shape, colour, tiles."""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.geometry import (
    ALPHA_MIN,
    EIGENVALUE_FLOOR,
    NEAR_PLANE,
    QUATERNION_MIN,
    ROOT_HALF_LOG2E,
    SCREEN_MAX,
    SPLAT_FLOATS,
    axes_row,
    camera_at,
    clamped_slope,
    covariance,
    ellipse,
    finite,
    jacobian_row,
    load3,
    load_unit_quaternion,
    rotation_matrix,
    row_of_tiles,
    tile_rectangle,
    to_view,
)
from being.splat.cuda.harmonics import colour, direction_from

# Arguments that Triton must not specialise: one compilation serves every size.
STRIDES = [
    f"{name}_stride"
    for name in ("means", "quaternions", "scales", "opacities", "sh", "camera", "focal")
]
COUNTS = ["count", "coefficients", "width", "height", "tiles_x", "tiles_y"]


@triton.jit(do_not_specialize=STRIDES + COUNTS)
def project(
    means, quaternions, scales, opacities, sh, world_to_camera, focal, offsets,
    means_stride, quaternions_stride, scales_stride, opacities_stride, sh_stride,
    camera_stride, focal_stride,
    splats, depths, radii, touched, needed,
    count, coefficients, width, height, tiles_x, tiles_y,
    DEGREE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Project a block of Gaussians of one frame.

    Inputs as in `being.splat.rasterize`; `offsets` [B, N, 2] may be None. Outputs: splats
    [B, N, SPLAT_FLOATS] float32, depths [B, N] float32, radii and touched [B, N] int32; the pairs
    are added to needed [1] int64.
    """
    # Load the camera and the Gaussians.
    frame = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    row = frame * count + index
    r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2, f = camera_at(
        world_to_camera, focal, frame, camera_stride, focal_stride
    )
    x, y, z = load3(means + frame * means_stride, index, mask)
    qw, qx, qy, qz, length = load_unit_quaternion(
        quaternions + frame * quaternions_stride, index, mask
    )
    s0, s1, s2 = load3(scales + frame * scales_stride, index, mask)
    opacity = tl.load(opacities + frame * opacities_stride + index, mask, 0.0)

    # Centre on the screen.
    vx, vy, vz = to_view(x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2)
    slope_x, slope_y = tl.div_rn(vx, vz), tl.div_rn(vy, vz)
    px, py = f * slope_x + (width - 1) * 0.5, f * slope_y + (height - 1) * 0.5
    if offsets is not None:
        px += tl.load(offsets + row * 2, mask, 0.0)
        py += tl.load(offsets + row * 2 + 1, mask, 0.0)

    # Covariance on the screen, and its whitening: a, b, lean.
    clamped_x, _ = clamped_slope(slope_x, width, f)
    clamped_y, _ = clamped_slope(slope_y, height, f)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = rotation_matrix(qw, qx, qy, qz)
    j0, j1, j2 = jacobian_row(f / vz, clamped_x, r00, r01, r02, r20, r21, r22)
    a00, a01, a02 = axes_row(j0, j1, j2, m00, m01, m02, m10, m11, m12, m20, m21, m22)
    j0, j1, j2 = jacobian_row(f / vz, clamped_y, r10, r11, r12, r20, r21, r22)
    a10, a11, a12 = axes_row(j0, j1, j2, m00, m01, m02, m10, m11, m12, m20, m21, m22)
    xx, xy, yy, determinant = covariance(a00 * s0, a01 * s1, a02 * s2, a10 * s0, a11 * s1, a12 * s2)
    root_yy = tl.sqrt_rn(yy)
    a = root_yy / tl.sqrt_rn(determinant) * ROOT_HALF_LOG2E
    b, lean = 1 / root_yy * ROOT_HALF_LOG2E, xy / yy

    # Colour.
    dx, dy, dz, _ = direction_from(x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2)
    red, green, blue = colour(
        sh + frame * sh_stride + index.to(tl.int64) * coefficients * 3, dx, dy, dz, mask, DEGREE
    )

    # Radius, and whether the Gaussian can be drawn at all.
    middle = (xx + yy) * 0.5
    largest = middle + tl.sqrt_rn(tl.maximum(middle * middle - determinant, EIGENVALUE_FLOOR))
    radius = tl.ceil(tl.sqrt_rn(largest) * 3.0)
    drawable = mask & (vz > NEAR_PLANE) & (length >= QUATERNION_MIN) & finite(vz) & finite(opacity)
    drawable = (
        drawable & finite(determinant) & finite(xx) & finite(xy) & finite(yy) & finite(a) & (a > 0)
    )
    drawable = drawable & finite(red) & finite(green) & finite(blue)
    drawable = (
        drawable & (tl.abs(px) < SCREEN_MAX) & (tl.abs(py) < SCREEN_MAX) & (radius < SCREEN_MAX)
    )
    px, py = tl.where(drawable, px, 0.0), tl.where(drawable, py, 0.0)
    radius = tl.where(drawable, radius, 0.0)
    left, top, right, bottom = tile_rectangle(px, py, radius, tiles_x, tiles_y)
    drawable = drawable & (left < right) & (top < bottom)
    tl.store(radii + row, tl.where(drawable, radius, 0.0).to(tl.int32), mask)

    # Count the list tiles that its ellipse meets.
    drawn = drawable & (opacity >= ALPHA_MIN)
    a, b, lean = tl.where(drawn, a, 1.0), tl.where(drawn, b, 1.0), tl.where(drawn, lean, 0.0)
    top, bottom = tl.where(drawn, top, 0), tl.where(drawn, bottom, 0)
    level, half, extreme, lean_back = ellipse(a, a * lean, b, tl.where(drawn, opacity, 1.0))
    tiles = tl.zeros_like(top)
    step = 0
    rows = tl.max(bottom - top, 0)
    while step < rows:
        at = top + step
        first, last = row_of_tiles(at, px, py, a, b, level, half, extreme, lean_back, left, right)
        tiles += tl.where(at < bottom, last - first, 0)
        step += 1
    tl.store(touched + row, tiles, mask)
    tl.atomic_add(needed, tl.sum(tiles.to(tl.int64), 0))

    # Write the splat.
    tl.store(depths + row, tl.where(tiles > 0, vz, float("inf")), mask)
    out = splats + row * SPLAT_FLOATS
    mask = mask & (tiles > 0)
    tl.store(out, px, mask)
    tl.store(out + 1, py, mask)
    tl.store(out + 2, a, mask)
    tl.store(out + 3, a * lean, mask)
    tl.store(out + 4, b, mask)
    tl.store(out + 5, opacity, mask)
    tl.store(out + 6, tl.maximum(red, 0.0), mask)
    tl.store(out + 7, tl.maximum(green, 0.0), mask)
    tl.store(out + 8, tl.maximum(blue, 0.0), mask)
    tl.store(out + 9, vz, mask)
    tl.store(out + 10, radius, mask)
