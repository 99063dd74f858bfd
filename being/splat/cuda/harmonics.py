"""Spherical harmonics in Triton: colour from coefficients and view direction, with gradients.

The functions `term` and `term_backward` are called once for each coefficient, with its basis value,
so the basis is never stored.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat import torch_rasterizer
from being.splat.cuda.geometry import SH_C0

SH_C1 = tl.constexpr(torch_rasterizer.SH_C1)
C20, C21, C22, C23, C24 = map(tl.constexpr, torch_rasterizer.SH_C2)
C30, C31, C32, C33, C34, C35, C36 = map(tl.constexpr, torch_rasterizer.SH_C3)


@triton.jit
def direction_from(x, y, z, r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2):
    """Return the unit vector from the camera to a point, and the distance."""
    # The camera's centre is -R^T t.
    x += r00 * t0 + r10 * t1 + r20 * t2
    y += r01 * t0 + r11 * t1 + r21 * t2
    z += r02 * t0 + r12 * t1 + r22 * t2
    distance = tl.sqrt_rn(x * x + y * y + z * z)
    return x / distance, y / distance, z / distance, distance


@triton.jit
def term(base, k: tl.constexpr, basis, mask, r, g, b):
    """Return red, green and blue with coefficient k times its basis value added."""
    return (
        r + basis * tl.load(base + 3 * k, mask, 0.0),
        g + basis * tl.load(base + 3 * k + 1, mask, 0.0),
        b + basis * tl.load(base + 3 * k + 2, mask, 0.0),
    )


@triton.jit
def colour(base, x, y, z, mask, DEGREE: tl.constexpr):
    """Return red, green, blue of the coefficients at `base` in the direction x, y, z (unit).

    The result is not yet clamped at 0.
    """
    half = tl.zeros_like(x) + 0.5
    r, g, b = term(base, 0, tl.zeros_like(x) + SH_C0, mask, half, half, half)
    if DEGREE > 0:
        r, g, b = term(base, 1, y * -SH_C1, mask, r, g, b)
        r, g, b = term(base, 2, z * SH_C1, mask, r, g, b)
        r, g, b = term(base, 3, x * -SH_C1, mask, r, g, b)
    if DEGREE > 1:
        xx, yy, zz = x * x, y * y, z * z
        r, g, b = term(base, 4, x * y * C20, mask, r, g, b)
        r, g, b = term(base, 5, y * z * C21, mask, r, g, b)
        r, g, b = term(base, 6, (2 * zz - xx - yy) * C22, mask, r, g, b)
        r, g, b = term(base, 7, x * z * C23, mask, r, g, b)
        r, g, b = term(base, 8, (xx - yy) * C24, mask, r, g, b)
        if DEGREE > 2:
            r, g, b = term(base, 9, y * (3 * xx - yy) * C30, mask, r, g, b)
            r, g, b = term(base, 10, x * y * z * C31, mask, r, g, b)
            r, g, b = term(base, 11, y * (4 * zz - xx - yy) * C32, mask, r, g, b)
            r, g, b = term(base, 12, z * (2 * zz - 3 * xx - 3 * yy) * C33, mask, r, g, b)
            r, g, b = term(base, 13, x * (4 * zz - xx - yy) * C34, mask, r, g, b)
            r, g, b = term(base, 14, z * (xx - yy) * C35, mask, r, g, b)
            r, g, b = term(base, 15, x * (xx - 3 * yy) * C36, mask, r, g, b)
    return r, g, b


@triton.jit
def term_backward(base, out, at, k: tl.constexpr, basis, seen, mask, dr, dg, db):
    """Write the gradient of coefficient k; return the gradient of its basis value.

    Nothing is written where `out` is None.
    """
    if out is not None:
        tl.store(out + at + 3 * k, basis * dr, mask)
        tl.store(out + at + 3 * k + 1, basis * dg, mask)
        tl.store(out + at + 3 * k + 2, basis * db, mask)
    return (
        dr * tl.load(base + 3 * k, seen, 0.0)
        + dg * tl.load(base + 3 * k + 1, seen, 0.0)
        + db * tl.load(base + 3 * k + 2, seen, 0.0)
    )


@triton.jit
def colour_backward(base, out, at, x, y, z, seen, mask, dr, dg, db, DEGREE: tl.constexpr):
    """Write the gradients of the active coefficients to `out` + `at`.

    Returns the gradient of the unit vector x, y, z. Where `mask` is true but `seen` is not, dr, dg
    and db are 0, so zeros are written.
    """
    dx, dy, dz = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    term_backward(base, out, at, 0, tl.zeros_like(x) + SH_C0, seen, mask, dr, dg, db)
    if DEGREE > 0:
        dy -= term_backward(base, out, at, 1, y * -SH_C1, seen, mask, dr, dg, db) * SH_C1
        dz += term_backward(base, out, at, 2, z * SH_C1, seen, mask, dr, dg, db) * SH_C1
        dx -= term_backward(base, out, at, 3, x * -SH_C1, seen, mask, dr, dg, db) * SH_C1
    if DEGREE > 1:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        h = term_backward(base, out, at, 4, xy * C20, seen, mask, dr, dg, db) * C20
        dx += y * h
        dy += x * h
        h = term_backward(base, out, at, 5, yz * C21, seen, mask, dr, dg, db) * C21
        dy += z * h
        dz += y * h
        h = term_backward(base, out, at, 6, (2 * zz - xx - yy) * C22, seen, mask, dr, dg, db) * C22
        dx -= 2 * x * h
        dy -= 2 * y * h
        dz += 4 * z * h
        h = term_backward(base, out, at, 7, xz * C23, seen, mask, dr, dg, db) * C23
        dx += z * h
        dz += x * h
        h = term_backward(base, out, at, 8, (xx - yy) * C24, seen, mask, dr, dg, db) * C24
        dx += 2 * x * h
        dy -= 2 * y * h
        if DEGREE > 2:
            h = (
                term_backward(base, out, at, 9, y * (3 * xx - yy) * C30, seen, mask, dr, dg, db)
                * C30
            )
            dx += 6 * xy * h
            dy += 3 * (xx - yy) * h
            h = term_backward(base, out, at, 10, xy * z * C31, seen, mask, dr, dg, db) * C31
            dx += yz * h
            dy += xz * h
            dz += xy * h
            h = (
                term_backward(
                    base, out, at, 11, y * (4 * zz - xx - yy) * C32, seen, mask, dr, dg, db
                )
                * C32
            )
            dx -= 2 * xy * h
            dy += (4 * zz - xx - 3 * yy) * h
            dz += 8 * yz * h
            h = (
                term_backward(
                    base, out, at, 12, z * (2 * zz - 3 * xx - 3 * yy) * C33, seen, mask, dr, dg, db
                )
                * C33
            )
            dx -= 6 * xz * h
            dy -= 6 * yz * h
            dz += (6 * zz - 3 * xx - 3 * yy) * h
            h = (
                term_backward(
                    base, out, at, 13, x * (4 * zz - xx - yy) * C34, seen, mask, dr, dg, db
                )
                * C34
            )
            dx += (4 * zz - 3 * xx - yy) * h
            dy -= 2 * xy * h
            dz += 8 * xz * h
            h = term_backward(base, out, at, 14, z * (xx - yy) * C35, seen, mask, dr, dg, db) * C35
            dx += 2 * xz * h
            dy -= 2 * yz * h
            dz += (xx - yy) * h
            h = (
                term_backward(base, out, at, 15, x * (xx - 3 * yy) * C36, seen, mask, dr, dg, db)
                * C36
            )
            dx += 3 * (xx - yy) * h
            dy -= 6 * xy * h
    return dx, dy, dz
