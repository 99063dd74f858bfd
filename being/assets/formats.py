"""Other programs' weight files turned into safetensors, for the files that `assets` does not keep
as they come.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import numpy as np


class SourceFailed(Exception):
    """One source could not deliver; the text says why. `fetch` collects these and goes on to the
    next source.
    """


class NumpyUnpickler(pickle.Unpickler):
    """Reads pickles made of plain containers and numpy arrays, and refuses to name anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        ):
            return np.ndarray(0).__reduce__()[0]  # the same function, wherever this numpy keeps it
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
                    tensors[f"conv{k}.weight"] = values["kernel"].transpose(
                        3, 2, 0, 1
                    )  # HWIO -> OIHW
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
    ) as error:
        raise SourceFailed(f"not the expected parameter tree: {error}") from error


def dlib_safetensors(content: bytes) -> bytes:
    """A safetensors file with dlib's face-recognition network
    (`dlib_face_recognition_resnet_model_v1.dat`).

    Tensors, all float32, layers numbered from the picture on: `conv{k}.weight` [out, in, h, w],
    `conv{k}.bias` [out], `scale{k}` and `shift{k}` [out] behind it, and `fc.weight` [256, 128].
    dlib writes a layer as its name (the last one's widths after it), then a tensor: five whole
    numbers (version and shape), each with a byte before it that says its length, and little-endian
    floats.
    """
    tensors: dict[str, np.ndarray] = {}
    places, number = [], 0

    def floats(at: int, before: int) -> np.ndarray:
        numbers = []
        for _ in range(before + 5):
            length = content[at]
            numbers.append(int.from_bytes(content[at + 1 : at + 1 + length], "little"))
            at += 1 + length
        return np.frombuffer(content, "<f4", int(np.prod(numbers[-4:], dtype=np.int64)), at)

    try:
        for name in (b"\x05con_4", b"\x07affine_", b"\x04fc_2"):
            at = -1
            while (at := content.find(name, at + 1)) >= 0:
                places.append((at, name))
        width = 3
        for at, name in sorted(places):
            values = floats(at + len(name), 2 if name.endswith(b"fc_2") else 0)
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
    except (IndexError, ValueError) as error:
        raise SourceFailed(f"not the expected network: {error}") from error
    return to_safetensors(tensors)


def to_safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of float32 arrays, byte for byte the same for the same arrays (so that it
    can be hashed).
    """
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
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + b"".join(blocks)
