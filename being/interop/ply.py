"""Reads and writes Gaussians as a .ply file in the layout of 3D Gaussian Splatting.

The layout is that of Kerbl et al. 2023: one element `vertex` with float properties by name. They
are x y z (head units), nx ny nz (zero), f_dc_0 to 2, f_rest_* (channel by channel: all of red, then
green, then blue), opacity (logit), scale_0 to 2 (log), rot_0 to 3 (w first). Files are not trusted:
sizes are checked before anything is read, and values before anything is built.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import torch

from being.errors import BeingError, InputRejected
from being.files import write_bytes
from being.interop.export_files import MARK
from being.model.gaussians import CanonicalGaussians
from being.reading.content import TEXT_MAX, Unreadable, check_regular, reason, rejected

PLY_FILE = "point_cloud.ply"
VALUE_MAX = 1e6  # of a parameter: no product overflows
HEADER_MAX = 64 * 1024  # bytes
COUNT_MAX = 2_000_000  # Gaussians; the model of record has 34,650
FILE_MAX = 2 << 30  # bytes
# Numbers of f_rest properties, of degree 0 to 3 of the spherical harmonics.
REST_COUNTS = (0, 9, 24, 45)
# Type in the header -> type of numpy, without byte order.
TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
FORMATS = ("binary_little_endian", "binary_big_endian", "ascii")

MEANS = ("x", "y", "z")
SH_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALES = ("scale_0", "scale_1", "scale_2")
ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
REQUIRED_PROPERTIES = (*MEANS, *SH_DC, "opacity", *SCALES, *ROTATION)

COPY_AGAIN = "Copy the file again, or give another iteration"


def read_ply(path: Path) -> CanonicalGaussians:
    """The Gaussians of a .ply file, binary in either byte order or text.

    Raises InputRejected naming what is wrong.
    """
    table = _read_table(path)
    absent = [name for name in REQUIRED_PROPERTIES if name not in table]
    if absent:
        raise InputRejected(
            f"{path} lacks the properties {', '.join(absent)}",
            "expected those of 3D Gaussian Splatting: "
            "x y z, f_dc_*, f_rest_*, opacity, scale_*, rot_*",
            "Give the point_cloud.ply of a trained run, not a cloud of plain points",
        )
    rest_names = [f"f_rest_{k}" for k in range(sum(name.startswith("f_rest_") for name in table))]
    if len(rest_names) not in REST_COUNTS or not all(name in table for name in rest_names):
        raise InputRejected(
            f"{path} has {len(rest_names)} properties f_rest_*",
            "expected 0, 9, 24 or 45, numbered from 0 (degree 0 to 3)",
            COPY_AGAIN,
        )

    def columns(*names: str) -> torch.Tensor:
        """float32 [N, len(names)]. Raises InputRejected unless all are finite."""
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below
            values = np.stack([table[name].astype(np.float32) for name in names], 1)
        wrong = ~(np.abs(values) <= VALUE_MAX)
        if wrong.any():
            raise InputRejected(
                f"{path}: {names[int(wrong.any(0).argmax())]} holds values that are not finite",
                f"in {int(wrong.any(1).sum())} of {len(values)} Gaussians",
                COPY_AGAIN,
            )
        return torch.from_numpy(values)

    sh_rest = columns(*rest_names) if rest_names else torch.zeros(len(table["x"]), 0)
    return CanonicalGaussians(
        columns(*MEANS),
        columns(*SCALES),
        columns(*ROTATION),
        columns("opacity"),
        columns(*SH_DC)[:, None],
        # [N, 3 K] channel by channel -> [N, K, 3]
        sh_rest.unflatten(1, (3, len(rest_names) // 3)).transpose(1, 2),
    )


def write_ply(path: Path, gaussians: CanonicalGaussians) -> None:
    """Write raw parameters as binary little-endian .ply; `read_ply` returns the same bits."""
    rest = gaussians.sh_rest.detach().cpu().transpose(1, 2).flatten(1)
    parts = {
        "x y z": gaussians.means,
        "nx ny nz": torch.zeros_like(gaussians.means),
        "f_dc_0 f_dc_1 f_dc_2": gaussians.sh_dc[:, 0],
        " ".join(f"f_rest_{k}" for k in range(rest.shape[1])): rest,
        "opacity": gaussians.opacity_logits,
        "scale_0 scale_1 scale_2": gaussians.log_scales,
        "rot_0 rot_1 rot_2 rot_3": gaussians.quaternions,
    }
    names = [name for group in parts for name in group.split()]
    values = torch.cat([value.detach().cpu().float() for value in parts.values()], 1)
    table = values.numpy().astype("<f4")
    assert table.shape == (len(gaussians), len(names)), (table.shape, len(names))
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {MARK}",
        f"element vertex {len(table)}",
        *(f"property float {name}" for name in names),
        "end_header",
        "",
    ]
    try:
        write_bytes(path, "\n".join(header).encode() + table.tobytes())
    except OSError as error:
        raise BeingError(
            f"cannot write {path}", str(error), "Free disk space or choose another folder"
        ) from error


def _read_table(path: Path) -> dict[str, np.ndarray]:
    """Columns [N] of the element `vertex` by name."""
    try:
        size = check_regular(path, FILE_MAX)
        with open(path, "rb") as file:
            form, count, properties = _read_header(path, file)
            if form == "ascii":
                check_regular(path, TEXT_MAX)
                return _parse_text(path, file.read(TEXT_MAX), count, properties)
            order = "<" if form == "binary_little_endian" else ">"
            row = np.dtype([(name, order + TYPES[type_]) for name, type_ in properties])
            if size - file.tell() < count * row.itemsize:
                raise InputRejected(
                    f"{path} is cut off",
                    f"{count} Gaussians of {row.itemsize} bytes need "
                    f"{count * row.itemsize} bytes, {size - file.tell()} are there",
                    COPY_AGAIN,
                )
            rows = np.frombuffer(file.read(count * row.itemsize), row, count)
    except (OSError, Unreadable) as error:
        raise rejected(path, error, COPY_AGAIN) from error
    return {name: rows[name] for name, _ in properties}


def _read_header(path: Path, file: io.BufferedReader) -> tuple[str, int, list[tuple[str, str]]]:
    """Format, number of vertices and (name, type) of their properties.

    Leaves the file at the first byte after the header.
    """

    def wrong(why: str) -> InputRejected:
        return InputRejected(f"{path} is no .ply of Gaussians", why, COPY_AGAIN)

    if file.readline(HEADER_MAX).strip() != b"ply":
        raise wrong("it does not begin with 'ply'")
    form, count, element = "", -1, ""
    properties: list[tuple[str, str]] = []
    while file.tell() < HEADER_MAX:
        words = file.readline(HEADER_MAX).decode("ascii", "replace").split()
        if not words:
            raise wrong("its header does not end")
        if words[0] == "end_header":
            break
        if words[0] == "format" and len(words) > 1:
            form = words[1]
        elif words[0] == "element" and len(words) == 3:
            # The values of the first element follow the header directly.
            if not element and words[1] != "vertex":
                raise wrong(f"its first element is '{words[1]}', not 'vertex'")
            element = words[1]
            if element == "vertex":
                count = int(words[2]) if re.fullmatch("[0-9]{1,18}", words[2]) else -1
        elif words[0] == "property" and element == "vertex":
            if len(words) != 3 or words[1] not in TYPES or words[2] in dict(properties):
                raise wrong(f"its header has the line '{' '.join(words)[:80]}'")
            properties.append((words[2], words[1]))
    if form not in FORMATS:
        raise wrong(f"its format is '{form}'")
    if not 0 < count <= COUNT_MAX or not properties:
        raise wrong(f"it has {count} vertices of {len(properties)} properties")
    return form, count, properties


def _parse_text(
    path: Path, content: bytes, count: int, properties: list[tuple[str, str]]
) -> dict[str, np.ndarray]:
    """Columns [N] by name of a .ply in text format."""
    words = content.split()
    needed = count * len(properties)
    if len(words) < needed:
        raise InputRejected(
            f"{path} is cut off",
            f"{count} Gaussians need {needed} numbers, {len(words)} are there",
            COPY_AGAIN,
        )
    try:
        table = np.array(words[:needed], np.float64).reshape(count, len(properties))
    except ValueError as error:
        raise InputRejected(
            f"{path} holds text that is no number", reason(error), COPY_AGAIN
        ) from error
    return {name: table[:, k] for k, (name, _) in enumerate(properties)}
