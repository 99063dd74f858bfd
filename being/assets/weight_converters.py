"""Converters of pretrained weights to safetensors: LPIPS, face recognition, voices of Kokoro."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import Any

import numpy as np

# Where the npm package has the styles of Kokoro's voices, and their shape: numbers of symbols in a
# passage (1 to 510), width of a style.
KOKORO_STYLES = "package/voices"
STYLE_SHAPE = (510, 256)


class SourceFailed(Exception):
    """One source failed, for the reason in the text. `fetch` then tries the next source."""


class NumpyUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and numpy arrays, and refuses all other types."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        ):
            # The same function, wherever this version of numpy keeps it.
            return np.ndarray(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise SourceFailed(f"the pickle asks for {module}.{name}: refused")


def lpips_safetensors(content: bytes) -> bytes:
    """A safetensors file with the LPIPS network of a pickled Flax parameter tree.

    Tensors, all float32: `conv{k}.weight` [out, in, h, w] and `conv{k}.bias` [out] of the feature
    network in order, and `head{k}.weight` [C], the weights of the squared differences after stage k
    (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    v0.1).
    """
    try:
        tree = NumpyUnpickler(io.BytesIO(content)).load()
        tensors = {}
        for group, layers in tree.items():
            for layer, values in layers.items():
                if group.startswith("NetLinLayer_"):
                    tensors[f"head{group.rsplit('_', 1)[1]}.weight"] = values["kernel"].reshape(-1)
                else:
                    k = layer.rsplit("_", 1)[1]
                    # HWIO -> OIHW
                    tensors[f"conv{k}.weight"] = values["kernel"].transpose(3, 2, 0, 1)
                    tensors[f"conv{k}.bias"] = values["bias"]
        return to_safetensors(tensors)
    except (
        pickle.UnpicklingError,
        AttributeError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        EOFError,
        ArithmeticError,
        MemoryError,
        ImportError,
    ) as error:
        raise SourceFailed(f"not the expected parameter tree: {error}") from error


def dlib_safetensors(content: bytes) -> bytes:
    """A safetensors file of dlib's face-recognition network.

    content: of `dlib_face_recognition_resnet_model_v1.dat`. Tensors, all float32, layers numbered
    from the image on: `conv{k}.weight` [out, in, h, w], `conv{k}.bias` [out], `scale{k}` and
    `shift{k}` [out] after it, and `fc.weight` [256, 128]. dlib writes a layer as its name (the last
    one's widths after it), then a tensor: five whole numbers (version and shape), each after a byte
    with its length, and little-endian floats.
    """
    tensors: dict[str, np.ndarray] = {}

    def read_floats(position: int, skipped: int) -> np.ndarray:
        """The tensor at `position`; skipped: whole numbers between the layer's name and it."""
        numbers = []
        for _ in range(skipped + 5):
            length = content[position]
            numbers.append(int.from_bytes(content[position + 1 : position + 1 + length], "little"))
            position += 1 + length
        return np.frombuffer(content, "<f4", int(np.prod(numbers[-4:], dtype=np.int64)), position)

    try:
        # The positions of all layers, in the order of the file.
        layers = []
        for name in (b"\x05con_4", b"\x07affine_", b"\x04fc_2"):
            position = -1
            while (position := content.find(name, position + 1)) >= 0:
                layers.append((position, name))

        width, number = 3, 0
        for position, name in sorted(layers):
            values = read_floats(position + len(name), 2 if name.endswith(b"fc_2") else 0)
            if name.endswith(b"con_4"):
                side = 7 if number == 0 else 3
                out = values.size // (width * side * side + 1)
                tensors[f"conv{number}.weight"] = values[:-out].reshape(out, width, side, side)
                tensors[f"conv{number}.bias"], width = values[-out:], out
            elif name.endswith(b"affine_"):
                tensors[f"scale{number}"], tensors[f"shift{number}"] = values.reshape(2, width)
                number += 1
            else:
                tensors["fc.weight"] = values.reshape(width, -1)
    except (IndexError, ValueError, ArithmeticError) as error:
        raise SourceFailed(f"not the expected network: {error}") from error
    return to_safetensors(tensors)


def kokoro_safetensors(content: bytes) -> bytes:
    """A safetensors file of Kokoro's voice styles: one tensor float32 [510, 256] for each voice.

    content: the archive (.tgz) of the npm package kokoro-js, with one file of little-endian floats
    for each voice. Files of another size are refused.
    """
    size = STYLE_SHAPE[0] * STYLE_SHAPE[1] * 4
    styles = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for entry in archive:
                path = PurePosixPath(entry.name)
                if str(path.parent) != KOKORO_STYLES or path.suffix != ".bin":
                    continue
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None or entry.size != size:
                    raise SourceFailed(f"{entry.name} is not a style of {size} bytes: refused")
                styles[path.stem] = np.frombuffer(stream.read(), "<f4").reshape(STYLE_SHAPE)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise SourceFailed(f"the archive cannot be read: {error}") from error
    if not styles:
        raise SourceFailed(f"the archive has no {KOKORO_STYLES}/*.bin")
    return to_safetensors(styles)


def to_safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of float32 arrays. The same arrays give the same bytes, for the hash."""
    header: dict[str, Any] = {}
    blocks, start = [], 0
    for name in sorted(tensors):
        block = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [start, start + len(block)],
        }
        blocks.append(block)
        start += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    # The data begin at a multiple of 8 bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blocks)
