"""Triton kernel of the projection's backward pass: gradients of each Gaussian's parameters.

It adds up the pairs of each Gaussian, then goes back from the screen to mean, quaternion, scale,
opacity and coefficients.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.blend import GRADIENT_FLOATS
from being.splat.cuda.geometry import (
    HALF_LOG2E,
    ROOT_HALF_LOG2E,
    SPLAT_FLOATS,
    axes_row,
    camera_at,
    clamped_slope,
    jacobian_row,
    load3,
    load_unit_quaternion,
    rotation_matrix,
    to_view,
)
from being.splat.cuda.harmonics import colour_backward, direction_from
from being.splat.cuda.project import COUNTS, STRIDES

PAIRS_IN_FLIGHT = tl.constexpr(4)  # pairs that are loaded at the same time


@triton.jit
def store3(base, index, mask, x, y, z):
    """Write three numbers to each row inside the mask."""
    tl.store(base + index * 3, x, mask)
    tl.store(base + index * 3 + 1, y, mask)
    tl.store(base + index * 3 + 2, z, mask)


@triton.jit
def sum_pairs(gradients, first, number, DEPTH: tl.constexpr):
    """Return the sums of rows first .. first + number of `gradients`, in a fixed order."""
    g = tl.zeros_like(first).to(tl.float32)
    u, v, uu, uv, vv, red, green, blue, depth = g, g, g, g, g, g, g, g, g
    step = 0
    most = tl.max(number, 0)
    while step < most:
        for ahead in tl.static_range(PAIRS_IN_FLIGHT):
            at, mask = gradients + (first + step + ahead) * GRADIENT_FLOATS, step + ahead < number
            g += tl.load(at, mask, 0.0)
            u += tl.load(at + 1, mask, 0.0)
            v += tl.load(at + 2, mask, 0.0)
            uu += tl.load(at + 3, mask, 0.0)
            uv += tl.load(at + 4, mask, 0.0)
            vv += tl.load(at + 5, mask, 0.0)
            red += tl.load(at + 6, mask, 0.0)
            green += tl.load(at + 7, mask, 0.0)
            blue += tl.load(at + 8, mask, 0.0)
            if DEPTH:
                depth += tl.load(at + 9, mask, 0.0)
        step += PAIRS_IN_FLIGHT
    return g, u, v, uu, uv, vv, red, green, blue, depth


@triton.jit
def slope_backward(d_position, d_clamped, inside, inverse_z):
    """Return the gradient of view-space x or y.

    d_position: gradient of the pixel position, times the focal length; d_clamped: gradient of the
    clamped slope.
    """
    return (d_position + tl.where(inside, d_clamped, 0.0)) * inverse_z


@triton.jit
def quaternion_backward(w, x, y, z, length, d00, d01, d02, d10, d11, d12, d20, d21, d22):
    """Return the gradient of a quaternion of any length from that of its rotation matrix."""
    dw = 2 * (x * (d21 - d12) + y * (d02 - d20) + z * (d10 - d01))
    dx = 2 * (w * (d21 - d12) + y * (d01 + d10) + z * (d02 + d20) - 2 * x * (d11 + d22))
    dy = 2 * (w * (d02 - d20) + x * (d01 + d10) + z * (d12 + d21) - 2 * y * (d00 + d22))
    dz = 2 * (w * (d10 - d01) + x * (d02 + d20) + y * (d12 + d21) - 2 * z * (d00 + d11))
    along = dw * w + dx * x + dy * y + dz * z
    return (
        (dw - w * along) / length,
        (dx - x * along) / length,
        (dy - y * along) / length,
        (dz - z * along) / length,
    )


@triton.jit(do_not_specialize=[*STRIDES, *COUNTS[:4], "capacity"])
def project_backward(
    means, quaternions, scales, opacities, sh, world_to_camera, focal,
    means_stride, quaternions_stride, scales_stride, opacities_stride, sh_stride,
    camera_stride, focal_stride,
    splats, touched, first_slot, gradients, capacity,
    d_means, d_quaternions, d_scales, d_opacities, d_sh, d_offsets,
    count, coefficients, width, height,
    DEGREE: tl.constexpr, DEPTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a block of Gaussians of one frame.

    Inputs as in `project`, plus its outputs and the pair gradients [capacity, GRADIENT_FLOATS].
    Outputs: d_means, d_quaternions, d_scales, d_opacities, d_sh and d_offsets [B, N, ...], each
    None where it is not wanted.
    """
    # Add up the gradients of each Gaussian's pairs.
    frame = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    row = frame * count + index
    first = tl.load(first_slot + row, mask, 0)
    number = tl.load(touched + row, mask, 0).to(tl.int64)
    number = tl.maximum(tl.minimum(number, capacity - first), 0)
    seen = mask & (number > 0)
    g, u, v, uu, uv, vv, red, green, blue, depth = sum_pairs(gradients, first, number, DEPTH)
    splat = splats + row * SPLAT_FLOATS
    opacity = tl.load(splat + 5, seen, 1.0)
    if d_opacities is not None:
        tl.store(d_opacities + row, tl.where(seen, g / opacity, 0.0), mask)

    # Centre and covariance. With z = W d whitened: dL/dcentre = W^T sum(g z) and
    # dL/dcovariance = W^T sum(g z z^T) W / 2, in units of powers of e.
    a, a_lean = tl.load(splat + 2, seen, 1.0), tl.load(splat + 3, seen, 0.0)
    b = tl.load(splat + 4, seen, 1.0)
    w00, w01, w11 = a / ROOT_HALF_LOG2E, -a_lean / ROOT_HALF_LOG2E, b / ROOT_HALF_LOG2E
    u, v = u / ROOT_HALF_LOG2E, v / ROOT_HALF_LOG2E
    uu, uv, vv = uu * 0.5 / HALF_LOG2E, uv * 0.5 / HALF_LOG2E, vv * 0.5 / HALF_LOG2E
    d_px, d_py = w00 * u, w01 * u + w11 * v
    d_xx, d_xy = w00 * w00 * uu, w00 * (w01 * uu + w11 * uv)
    d_yy = w01 * w01 * uu + 2 * w01 * w11 * uv + w11 * w11 * vv
    if d_offsets is not None:
        tl.store(d_offsets + row * 2, tl.where(seen, d_px, 0.0), mask)
        tl.store(d_offsets + row * 2 + 1, tl.where(seen, d_py, 0.0), mask)

    # The forward projection again.
    r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2, f = camera_at(
        world_to_camera, focal, frame, camera_stride, focal_stride
    )
    x, y, z = load3(means + frame * means_stride, index, seen)
    qw, qx, qy, qz, length = load_unit_quaternion(
        quaternions + frame * quaternions_stride, index, seen
    )
    s0, s1, s2 = load3(scales + frame * scales_stride, index, seen)
    vx, vy, vz = to_view(x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2)
    vz = tl.where(seen, vz, 1.0)
    slope_x, slope_y, near = vx / vz, vy / vz, f / vz
    clamped_x, inside_x = clamped_slope(slope_x, width, f)
    clamped_y, inside_y = clamped_slope(slope_y, height, f)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = rotation_matrix(qw, qx, qy, qz)
    jx0, jx1, jx2 = jacobian_row(near, clamped_x, r00, r01, r02, r20, r21, r22)
    jy0, jy1, jy2 = jacobian_row(near, clamped_y, r10, r11, r12, r20, r21, r22)
    ax0, ax1, ax2 = axes_row(jx0, jx1, jx2, m00, m01, m02, m10, m11, m12, m20, m21, m22)
    ay0, ay1, ay2 = axes_row(jy0, jy1, jy2, m00, m01, m02, m10, m11, m12, m20, m21, m22)

    # From the covariance to the scaled axes (an axis times its scale), then to scales and axes.
    d_xx, d_xy, d_yy = 2 * d_xx, 2 * d_xy, 2 * d_yy
    x0, x1, x2 = (
        s0 * (d_xx * ax0 + d_xy * ay0),
        s1 * (d_xx * ax1 + d_xy * ay1),
        s2 * (d_xx * ax2 + d_xy * ay2),
    )
    y0, y1, y2 = (
        s0 * (d_xy * ax0 + d_yy * ay0),
        s1 * (d_xy * ax1 + d_yy * ay1),
        s2 * (d_xy * ax2 + d_yy * ay2),
    )
    if d_scales is not None:
        ds0, ds1, ds2 = x0 * ax0 + y0 * ay0, x1 * ax1 + y1 * ay1, x2 * ax2 + y2 * ay2
        store3(
            d_scales,
            row,
            mask,
            tl.where(seen, ds0, 0.0),
            tl.where(seen, ds1, 0.0),
            tl.where(seen, ds2, 0.0),
        )

    # From the axes to the rotation matrix, then to the quaternion.
    x0, x1, x2, y0, y1, y2 = x0 * s0, x1 * s1, x2 * s2, y0 * s0, y1 * s1, y2 * s2
    if d_quaternions is not None:
        dw, dx, dy, dz = quaternion_backward(
            qw,
            qx,
            qy,
            qz,
            length,
            jx0 * x0 + jy0 * y0,
            jx0 * x1 + jy0 * y1,
            jx0 * x2 + jy0 * y2,
            jx1 * x0 + jy1 * y0,
            jx1 * x1 + jy1 * y1,
            jx1 * x2 + jy1 * y2,
            jx2 * x0 + jy2 * y0,
            jx2 * x1 + jy2 * y1,
            jx2 * x2 + jy2 * y2,
        )
        tl.store(d_quaternions + row * 4, tl.where(seen, dw, 0.0), mask)
        tl.store(d_quaternions + row * 4 + 1, tl.where(seen, dx, 0.0), mask)
        tl.store(d_quaternions + row * 4 + 2, tl.where(seen, dy, 0.0), mask)
        tl.store(d_quaternions + row * 4 + 3, tl.where(seen, dz, 0.0), mask)

    # From the axes to the rows of the Jacobian, near * (camera's row - slope * camera's third row),
    # then to the mean.
    dj0, dj1, dj2 = (
        x0 * m00 + x1 * m01 + x2 * m02,
        x0 * m10 + x1 * m11 + x2 * m12,
        x0 * m20 + x1 * m21 + x2 * m22,
    )
    d_clamped_x = -near * (dj0 * r20 + dj1 * r21 + dj2 * r22)
    d_near = (
        dj0 * (r00 - clamped_x * r20)
        + dj1 * (r01 - clamped_x * r21)
        + dj2 * (r02 - clamped_x * r22)
    )
    dj0, dj1, dj2 = (
        y0 * m00 + y1 * m01 + y2 * m02,
        y0 * m10 + y1 * m11 + y2 * m12,
        y0 * m20 + y1 * m21 + y2 * m22,
    )
    d_clamped_y = -near * (dj0 * r20 + dj1 * r21 + dj2 * r22)
    d_near += (
        dj0 * (r10 - clamped_y * r20)
        + dj1 * (r11 - clamped_y * r21)
        + dj2 * (r12 - clamped_y * r22)
    )
    d_vx = slope_backward(f * d_px, d_clamped_x, inside_x, 1 / vz)
    d_vy = slope_backward(f * d_py, d_clamped_y, inside_y, 1 / vz)
    d_vz = depth - d_near * near / vz - d_vx * slope_x - d_vy * slope_y
    dx = r00 * d_vx + r10 * d_vy + r20 * d_vz
    dy = r01 * d_vx + r11 * d_vy + r21 * d_vz
    dz = r02 * d_vx + r12 * d_vy + r22 * d_vz

    # From the colour to the coefficients and to the viewing direction. Colours clamped at 0 have no
    # gradient.
    red = tl.where(tl.load(splat + 6, seen, 0.0) > 0, red, 0.0)
    green = tl.where(tl.load(splat + 7, seen, 0.0) > 0, green, 0.0)
    blue = tl.where(tl.load(splat + 8, seen, 0.0) > 0, blue, 0.0)
    nx, ny, nz, distance = direction_from(
        x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2
    )
    nx, ny, nz = tl.where(seen, nx, 0.0), tl.where(seen, ny, 0.0), tl.where(seen, nz, 1.0)
    coefficient = index.to(tl.int64) * coefficients * 3
    ex, ey, ez = colour_backward(
        sh + frame * sh_stride + coefficient,
        d_sh,
        frame * count * coefficients * 3 + coefficient,
        nx,
        ny,
        nz,
        seen,
        mask,
        red,
        green,
        blue,
        DEGREE,
    )

    # The viewing direction also moves with the mean.
    if d_means is not None:
        along = ex * nx + ey * ny + ez * nz
        dx += (ex - nx * along) / distance
        dy += (ey - ny * along) / distance
        dz += (ez - nz * along) / distance
        store3(
            d_means,
            row,
            mask,
            tl.where(seen, dx, 0.0),
            tl.where(seen, dy, 0.0),
            tl.where(seen, dz, 0.0),
        )
