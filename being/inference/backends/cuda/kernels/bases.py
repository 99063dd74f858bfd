"""Triton kernel: adds bases to the Gaussians of the mean frame and activates them.

Raw parameters = those of the mean frame + sum over k of coefficient k times basis k (see
`being.model.bases`). Bases may be narrower than float32; sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Columns of a basis: mean 3, log scale 3, quaternion 4, opacity 1, constant harmonic 3, padding 2.
COLUMNS = tl.constexpr(16)


@triton.jit(do_not_specialize=["count"])  # one compilation for every avatar of as many bases
def deform_by_bases(
    coefficients,
    basis,
    raw,
    raw_sh,
    means,
    quaternions,
    scales,
    opacities,
    sh,
    count,
    bases: tl.constexpr,
    harmonics: tl.constexpr,
    sh_padded: tl.constexpr,
    rows_: tl.constexpr,
):
    """Write the Gaussians of block `program_id(0)` in frame `program_id(1)`.

    coefficients float32 [B, bases]; basis [bases, N, COLUMNS]; raw float32 [N, 11], raw_sh
    [N, harmonics].
    """
    frame = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    inside = (rows < count)[:, None]
    o = tl.arange(0, COLUMNS)[None, :]
    place = rows.to(tl.int64)[:, None] * COLUMNS + o

    y = tl.load(raw + rows[:, None] * 11 + o, inside & (o < 11), 0.0)
    for k in range(bases):
        value = tl.load(coefficients + frame * bases + k)
        at = basis + k * count.to(tl.int64) * COLUMNS + place
        y += value * tl.load(at, inside, 0.0).to(tl.float32)

    row = frame * count + rows.to(tl.int64)[:, None]
    tl.store(means + row * 3 + o, y, inside & (o < 3))
    tl.store(scales + row * 3 + o - 3, tl.exp(y), inside & (o >= 3) & (o < 6))
    tl.store(quaternions + row * 4 + o - 6, y, inside & (o >= 6) & (o < 10))
    tl.store(opacities + row + o - 10, tl.sigmoid(y), inside & (o == 10))

    # The harmonics of the mean frame; the bases move the constant one of each colour.
    n = tl.arange(0, sh_padded)[None, :]
    values = tl.load(raw_sh + rows[:, None] * harmonics + n, inside & (n < harmonics), 0.0)
    for colour in tl.static_range(3):
        moved = tl.sum(tl.where(o == 11 + colour, y, 0.0), 1)
        values += tl.where(n == colour, moved[:, None], 0.0)
    tl.store(sh + row * harmonics + n, values, inside & (n < harmonics))
