"""Writes Gaussians as .spz, the compressed format of Niantic, about a tenth of a .ply.

Version 3: one gzip stream of a header of 16 bytes and six arrays. Axes are those of head space (x
right, y up, z towards the camera), which are the format's own. Values are rounded: positions to
1/4096 unit, scales to a sixteenth of a natural logarithm, rotations to 9 bits and a sign, opacity
and colour to 8 bits, spherical harmonics to 5 bits in degree 1 and 4 above, as the format's own
program does. Format:
github.com/nianticlabs/spz.
"""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.errors import BeingError, InputRejected
from being.files import write_bytes
from being.interop.export_files import MARK
from being.model.gaussians import CanonicalGaussians

SPZ_FILE = "gaussians.spz"
MAGIC, VERSION = 0x5053474E, 3
FRACTION_BITS = 12  # of a position
POSITION_MAX = 2047.0  # units
COLOUR_SCALE = 0.15
ROTATION_MAX = 511  # of a part of a quaternion, which stands for the square root of a half
# Steps of 8-bit values of spherical harmonics: 5 bits in degree 1, 4 bits above.
STEP_FIRST, STEP_REST = 8, 16
FIRST = 3  # coefficients of degree 1
DEGREES = {0: 0, 3: 1, 8: 2, 15: 3}  # by the number of coefficients beside the first


def write_spz(path: Path, gaussians: CanonicalGaussians) -> None:
    """Write the Gaussians. Raises InputRejected for positions that the format cannot hold,
    BeingError where the file cannot be written.
    """
    means = _array(gaussians.means)
    if np.abs(means).max(initial=0.0) > POSITION_MAX:
        raise InputRejected(
            "the Gaussians cannot be written as .spz",
            f"one lies more than {POSITION_MAX:.0f} units from the head's origin",
            "Train again, or export them as .ply",
        )
    rest = _array(gaussians.sh_rest)
    header = struct.pack(
        "<IIIBBBB", MAGIC, VERSION, len(means), DEGREES[rest.shape[1]], FRACTION_BITS, 0, 0
    )
    parts = (
        _fixed_point(means),
        _bytes(torch.sigmoid(gaussians.opacity_logits).detach().cpu().numpy() * 255),
        _bytes(_array(gaussians.sh_dc) * (COLOUR_SCALE * 255) + 127.5),
        _bytes((_array(gaussians.log_scales) + 10) * 16),
        _three_smallest(_array(gaussians.quaternions)),
        _harmonics(rest),
    )
    packed = io.BytesIO()
    # The mark stands where gzip keeps a file's name: readers pass over it.
    with gzip.GzipFile(MARK, "wb", 9, packed, mtime=0) as stream:
        stream.write(header + b"".join(parts))
    try:
        write_bytes(path, packed.getvalue())
    except OSError as error:
        raise BeingError(
            f"cannot write {path}", str(error), "Free disk space or choose another folder"
        ) from error


def _array(values: Tensor) -> np.ndarray:
    """The values as float64 on the host."""
    return values.detach().cpu().double().numpy()


def _fixed_point(means: np.ndarray) -> bytes:
    """Positions [N, 3] as signed integers of 24 bits, little-endian."""
    whole = np.round(means * (1 << FRACTION_BITS)).astype("<i4")
    return whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def _bytes(values: np.ndarray) -> bytes:
    """Values rounded to 8 bits."""
    return np.round(values).clip(0, 255).astype(np.uint8).tobytes()


def _three_smallest(quaternions: np.ndarray) -> bytes:
    """Rotations [N, 4], w first, as 32 bits: the place of the largest part in the order x, y, z, w
    (2 bits), then sign and size of the others (1 and 9 bits each).
    """
    values = np.roll(quaternions, -1, axis=1)
    values = values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
    rows, largest = np.arange(len(values)), np.abs(values).argmax(1)
    values = values * np.where(values[rows, largest] < 0, -1.0, 1.0)[:, None]
    sizes = np.round(np.abs(values) * (ROTATION_MAX * np.sqrt(2))).clip(0, ROTATION_MAX)
    codes = sizes.astype(np.uint32) | ((values < 0).astype(np.uint32) << 9)
    packed = largest.astype(np.uint32)
    for axis in range(4):
        packed = np.where(axis == largest, packed, packed << 10 | codes[:, axis])
    return packed.astype("<u4").tobytes()


def _harmonics(rest: np.ndarray) -> bytes:
    """Coefficients [N, K, 3] beside the first, as bytes in steps."""
    steps = np.full((rest.shape[1], 1), STEP_REST)
    steps[:FIRST] = STEP_FIRST
    whole = np.round(rest * 128) + 128
    return _bytes(np.floor((whole + steps // 2) / steps) * steps)
