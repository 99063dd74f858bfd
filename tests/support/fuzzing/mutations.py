"""Hostile variants of valid files: structured changes of their values, and changed bytes."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import re
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np

NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    7,
    255,
    65_536,
    2**31 - 1,
    2**31,
    2**53 + 1,
    2**63,
    10**30,
    10**390,
    0.5,
    -0.0,
    1e-300,
    1e6,
    1e38,
    1e39,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
)
TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../escape",
    "/etc/passwd",
    "a/../../../escape",
    "C:\\escape",
    "-o",
    "\x1b[31mred\x1b[0m",
    "\x9b31m",
    "\u202egpj.exe",
    "line\nbreak",
    "nul\0byte",
    "\udcff\ud800",
    "名前",
    "x" * 300,
    "9" * 5000,
    "null",
    "nan",
    "1e999",
    "{}",
    "[[]]",
    "%s%n{0}",
)


def hostile_value(rng: random.Random, depth: int = 0) -> Any:
    """A value that a parser may not expect."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice((None, True, False))
    if kind == 5:
        return rng.choice(([], {}, [[]], [None], {"": None}))
    if kind == 6:
        return [hostile_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind == 7:
        texts = [str(rng.choice(TEXTS)) for _ in range(rng.randrange(4))]
        return {text: hostile_value(rng, depth + 1) for text in texts}
    return [0] * rng.choice((100, 5000))


def changed_value(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one to three places changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.randrange(1, 4)):
        value = _change_one(rng, value)
    return value


def _change_one(rng: random.Random, value: Any) -> Any:
    # Walk to a random place.
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        action = rng.random()
        if action < 0.1:
            del value[key]
        elif action < 0.15:
            value[str(rng.choice(TEXTS))] = value.pop(key)
        else:
            value[key] = _change_one(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        action = rng.random()
        if action < 0.1:
            del value[place]
        elif action < 0.2:
            value.insert(place, copy.deepcopy(value[place]))
        else:
            value[place] = _change_one(rng, value[place])
        return value
    if isinstance(value, str) and rng.random() < 0.3:
        return value + str(rng.choice(TEXTS))
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.3:
        return rng.choice((-value, value + 1, value * 1000, value - 1))
    return hostile_value(rng)


def json_bytes(rng: random.Random, value: Any) -> bytes:
    """A changed JSON value as text; sometimes with damaged bytes, or very deep."""
    kind = rng.random()
    if kind < 0.04:
        opening = rng.choice(("[", '{"a":', '[{"a":'))
        return (opening * rng.choice((500, 5000, 100_000))).encode()
    text = json.dumps(changed_value(rng, value)).encode()
    if kind < 0.1:
        # Some key holds a deep list.
        deep = rng.choice((50, 900, 20_000))
        place = text.find(b":")
        return text[: place + 1] + b"[" * deep + b"]" * deep + b"," + b'"z":' + text[place + 1 :]
    return changed_bytes(rng, text) if kind < 0.25 else text


def changed_bytes(rng: random.Random, content: bytes) -> bytes:
    """Content with flipped, lost, repeated, moved or replaced bytes; sometimes only noise."""
    kind = rng.random()
    if kind < 0.03:
        return rng.randbytes(rng.choice((0, 1, 7, 100, 5000)))
    if kind < 0.13:
        return content[: rng.randrange(len(content) + 1)]
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        # Headers lie at the start and at the end.
        where = rng.choice((min(64, len(data)), min(1024, len(data)), len(data)))
        at = rng.randrange(where) if rng.random() < 0.8 else len(data) - 1 - rng.randrange(where)
        action = rng.randrange(7)
        if action == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif action == 2:
            width = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            limit = 1 << 8 * struct.calcsize(width)
            number = rng.choice((0, 1, limit - 1, limit // 2, limit // 2 - 1, limit // 16))
            data[at : at + struct.calcsize(width)] = struct.pack(width, number)
        elif action == 3:
            del data[at : at + rng.choice((1, 4, 100))]
        elif action == 4:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        elif action == 5:
            data[at:at] = data[at : at + rng.choice((4, 64))] * rng.choice((1, 3))
        else:
            size = rng.choice((4, 32, 256))
            data[at : at + size] = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    return bytes(data)


def changed_text(rng: random.Random, text: str) -> bytes:
    """A text whose numbers, words or lines are replaced by hostile ones."""
    kind = rng.random()
    if kind < 0.25:
        return changed_bytes(rng, text.encode())
    if kind < 0.3:
        deep = rng.choice(("[", "(", "{a: ", "- ", "-", "{'a': ", "not ", "lambda:"))
        return (text + "\nx = " + deep * rng.choice((90, 5000, 50_000))).encode()
    for _ in range(rng.randrange(1, 4)):
        tokens = list(re.finditer(r"-?\d+\.?\d*(?:e-?\d+)?|[A-Za-z_]+|[^\s\w]", text))
        if not tokens:
            break
        token = rng.choice(tokens)
        new = rng.choice(
            (
                str(rng.choice(NUMBERS)),
                rng.choice(TEXTS),
                token.group() * rng.choice((2, 200)),
                "",
                repr(hostile_value(rng)),
                "{[1]: 2}",
                "{{}: 1}",
                "{1, {}}",
                "0x" + "f" * 500,
                "2001-99-99",
                "1:99:99999",
                "&a [*a]",
                "*undefined",
                "!!python/object:os.system x",
                "<<: {a: 1}",
                "b'x'",
                "-'a'",
                "1+2j",
                "'\\d'",
            )
        )
        text = text[: token.start()] + new + text[token.end() :]
    lines = text.split("\n")
    if rng.random() < 0.2:
        place = rng.randrange(len(lines))
        lines[place:place] = [lines[place]] * rng.choice((1, 50))
    if rng.random() < 0.03:
        lines.append("x" * rng.choice((200_000, 2_000_000)))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def npy_bytes(rng: random.Random, array: np.ndarray) -> bytes:
    """A .npy file of an array of another type, shape or header."""
    kind = rng.random()
    if kind < 0.35:
        return changed_bytes(rng, _npy(array))
    if kind < 0.7:
        # A header that claims something else.
        header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
        key = rng.choice(list(header))
        claims = {
            "descr": ("<f8", "<f4", ">f4", "|O", "|V100000000", "<U1000000", "<c16", "<i8", "<m8"),
            "fortran_order": (True, 1, "x", None),
            "shape": (
                (10**12,),
                (10**30, 1),
                (0, 10**18),
                (2**31, 2**31),
                (),
                (-1,),
                (1,) * 40,
                (array.size,),
                "x",
                (1.5,),
                array.shape[::-1],
                (True,),
            ),
        }
        header[key] = rng.choice((*claims[key], hostile_value(rng)))
        text = repr(header).encode("utf-8", "replace")
        if rng.random() < 0.1:
            text = rng.choice((b"(", b"[", b"-", b"{'a':")) * rng.choice((200, 9000))
        text += b" " * (-len(text) % 64) + b"\n"
        version = rng.choice((1, 1, 2, 3, 9))
        length = (
            struct.pack("<H", len(text) % 65536) if version == 1 else struct.pack("<I", len(text))
        )
        return b"\x93NUMPY" + bytes([version, 0]) + length + text + array.tobytes()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        change = rng.choice(
            (
                lambda a: a.astype(np.float64) * 1e300,
                lambda a: a.astype(np.float32) * np.float32(1e38),
                lambda a: np.full(a.shape, np.nan, np.float32),
                lambda a: a[:0],
                lambda a: a[: max(1, len(a) // 2)],
                lambda a: a.ravel(),
                lambda a: a[..., None],
                lambda a: a.astype(np.int64),
                lambda a: a > 0,
                lambda a: a.astype(np.complex64),
                lambda a: a.astype("U8"),
                lambda a: np.zeros((len(a), *([1] * 20)), a.dtype),
                lambda a: np.asfortranarray(a),
                lambda a: np.array(["\x1b[31m", "../x"]),
                lambda a: np.array({"a": 1}, dtype=object),
                lambda a: np.zeros(3, [("x", "<f4"), ("y", "<i8", (3,))]),
            )
        )
        try:
            return _npy(change(array))
        except (ValueError, TypeError, IndexError):  # what this array has not
            return changed_bytes(rng, _npy(array))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz_bytes(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz file with changed arrays, names, compression or bytes, or with a bomb."""
    buffer = io.BytesIO()
    names = list(arrays)
    changed = rng.choice(names)
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, array in arrays.items():
            if name == changed and rng.random() < 0.05:
                continue
            content = npy_bytes(rng, array) if name == changed else _npy(array)
            archive.writestr(f"{name}.npy", content)
            if rng.random() < 0.05:
                archive.writestr(f"{name}.npy", content)
        if rng.random() < 0.003:
            archive.writestr("extra.npy", _npy(np.zeros(1, np.uint8)) + bytes(100_000_000))
        if rng.random() < 0.003:
            size = 80_000_000
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".encode()
            text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
            head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
            archive.writestr(f"{changed}.npy", head + bytes(size))
    content = buffer.getvalue()
    return changed_bytes(rng, content) if rng.random() < 0.3 else content


def safetensors_bytes(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file with a changed header or changed bytes."""
    if rng.random() < 0.35:
        return changed_bytes(rng, content)
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(changed_value(rng, json.loads(content[8 : 8 + size]))).encode()
    header += b" " * (-len(header) % 8)
    length = len(header) if rng.random() < 0.95 else rng.choice((0, 2**40, 2**64 - 1))
    return length.to_bytes(8, "little") + header + content[8 + size :]


def torch_bytes(rng: random.Random, value: Any) -> bytes:
    """A torch.save file of a changed dict of tensors, or with changed bytes."""
    import torch

    value = copy.deepcopy(value)
    kind = rng.random()
    if kind < 0.55 and isinstance(value, dict):
        name = rng.choice(list(value))
        tensor = value[name]
        changes = (
            lambda: torch.zeros(1).expand(10**9),
            lambda: torch.zeros(3, 1).expand(3, 10**8),
            lambda: torch.zeros(2, 2).to_sparse(),
            lambda: torch.full_like(tensor.float(), math.nan),
            lambda: torch.full_like(tensor.float(), 3e38),
            lambda: tensor.double() * 1e300,
            lambda: tensor.to(torch.complex64),
            lambda: tensor.to(torch.bool),
            lambda: tensor.to(torch.int64),
            lambda: tensor.to(torch.bfloat16),
            lambda: tensor[:0],
            lambda: tensor.reshape(-1),
            lambda: tensor[None],
            lambda: tensor.to("meta"),
            lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
            lambda: [tensor],
            lambda: {"a": {"b": [tensor] * 3}},
            lambda: hostile_value(rng),
            lambda: torch.nn.Parameter(tensor.float()),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value[name] = rng.choice(changes)()
        except (RuntimeError, NotImplementedError):
            value.pop(name)
        if rng.random() < 0.1:
            value[rng.choice(TEXTS)] = value.pop(name, None)
    elif kind < 0.6:
        value = hostile_value(rng)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, buffer, _use_new_zipfile_serialization=rng.random() < 0.9)
    content = buffer.getvalue()
    action = rng.random()
    if action < 0.2:
        return changed_bytes(rng, content)
    if action < 0.35 and content[:2] == b"PK":
        return _changed_archive(rng, content)
    return content


def _changed_archive(rng: random.Random, content: bytes) -> bytes:
    """A zip archive with one part changed, and sometimes compressed."""
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", method) as new:
        names = source.namelist()
        changed = rng.choice(names)
        for name in names:
            part = source.read(name)
            new.writestr(name, changed_bytes(rng, part) if name == changed else part)
    return out.getvalue()


def pack_bytes(rng: random.Random, content: bytes) -> bytes:
    """A packed dataset with a changed index, manifest or part."""
    if rng.random() < 0.15:
        return changed_bytes(rng, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as new:
        names = source.namelist()
        changed = "pack.json" if rng.random() < 0.8 else rng.choice(names)
        for name in names:
            part = source.read(name)
            if name == "pack.json" == changed:
                index = json.loads(part)
                if rng.random() < 0.4:
                    manifest = changed_value(rng, json.loads(index["manifest"]))
                    index["manifest"] = json.dumps(manifest)
                else:
                    index = changed_value(rng, index)
                part = json.dumps(index).encode()
            elif name == changed:
                part = changed_bytes(rng, part)
            new.writestr(name, part)
    return out.getvalue()


def image_bytes(rng: random.Random, content: bytes) -> bytes:
    """A PNG or JPEG file with another size in its header, or with changed bytes."""
    if rng.random() < 0.6:
        return changed_bytes(rng, content)
    side = struct.pack(">I", rng.choice((0, 1, 9, 4097, 30_000, 65_535, 2**31 - 1)))
    if content.startswith(b"\x89PNG"):
        header = bytearray(content[12:29])
        at = rng.choice((4, 8))
        header[at : at + 4] = side
        if rng.random() < 0.3:
            header[12] = rng.choice((1, 2, 4, 16, 7))
            header[13] = rng.choice((0, 2, 3, 4, 6, 9))
        check = struct.pack(">I", zlib.crc32(header))
        return content[:12] + bytes(header) + check + content[33:]
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"), 2)
    data = bytearray(content)
    place = at + rng.choice((5, 7))
    data[place : place + 2] = side[2:]
    return bytes(data)
