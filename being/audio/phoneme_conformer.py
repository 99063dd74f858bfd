"""The phoneme conformer network (package `hama`): hidden states and phoneme probabilities.

50 steps a second. hama's own runtime gives log-probabilities only, but the hidden states are the
better lip features. A conformer (Gulati et al. 2020, "Conformer: Convolution-augmented Transformer
for Speech Recognition") of four blocks, 144 wide, 4 heads, no positional code, trained with CTC on
191 symbols. Batch norms are folded into the convolutions in the file.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from being import assets
from being.audio.conformer_shape import HEADS, MEL_FLOOR, MEL_HOP, MEL_WINDOW, SUBSAMPLING
from being.errors import EnvironmentFault

BLOCKS = 4

# The .hama file: alignment of its data in bytes, element types by their number, and limits.
DATA_ALIGNMENT = 16
ELEMENT_TYPES = ("<f4", "<f2")
MAX_TENSORS, MAX_DIMENSIONS = 4096, 8
FETCH_AGAIN = "Delete it: it is fetched again"


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .hama file by name, as float32 arrays.

    Layout, little-endian: "HAMAPK", 2 bytes of version, uint32 count; for each tensor a uint16-long
    name, uint8 element type (0 float32, 1 float16), uint8 number of dimensions, uint32 dimensions,
    uint64 offset and size in bytes; then the data from the next multiple of 16. Raises
    EnvironmentFault for a file of any other layout.
    """
    content = path.read_bytes()
    try:
        entries, start = _read_entries(content)
        tensors = {}
        for name, dtype, shape, offset, size in entries:
            expected = dtype.itemsize * int(np.prod(shape, dtype=object))
            if size != expected or start + offset + size > len(content):
                raise ValueError(f"tensor {name!r} does not fit the file")
            values = np.frombuffer(content, dtype, size // dtype.itemsize, start + offset)
            tensors[name] = values.astype(np.float32).reshape(shape)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise EnvironmentFault(
            f"{path} is not a readable .hama file", str(error), FETCH_AGAIN
        ) from error
    return tensors


def _read_entries(
    content: bytes,
) -> tuple[list[tuple[str, np.dtype, list[int], int, int]], int]:
    """The entries (name, dtype, shape, offset, size) of a .hama file, and where its data start."""
    position = 12
    (count,) = struct.unpack_from("<I", content, 8)
    if content[:6] != b"HAMAPK" or count > MAX_TENSORS:
        raise ValueError("its header is another one")
    entries = []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, position)
        name = content[position + 2 : position + 2 + length].decode()
        element, dimensions = struct.unpack_from("<BB", content, position + 2 + length)
        if element >= len(ELEMENT_TYPES) or dimensions > MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has an unknown element type")
        layout = f"<{dimensions}IQQ"
        *shape, offset, size = struct.unpack_from(layout, content, position + 4 + length)
        entries.append((name, np.dtype(ELEMENT_TYPES[element]), shape, offset, size))
        position += 4 + length + struct.calcsize(layout)
    return entries, -(-position // DATA_ALIGNMENT) * DATA_ALIGNMENT


class FeedForward(nn.Module):
    """LayerNorm -> Linear -> SiLU -> Linear, [B, S, C] -> [B, S, C]."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(self.norm(x))))


class Attention(nn.Module):
    """Self-attention over all steps of the piece, [B, S, C] -> [B, S, C]."""

    def __init__(self, width: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        split = self.in_proj(x).view(batch, steps, 3, HEADS, width // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).reshape(batch, steps, width))


class Convolution(nn.Module):
    """LayerNorm -> pointwise -> GLU -> depthwise -> SiLU -> pointwise, [B, S, C] -> [B, S, C].

    The depthwise kernel is 31 steps = 0.62 s.
    """

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.pointwise1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.pointwise2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.pointwise1(self.norm(x).transpose(1, 2)), dim=1)
        return self.pointwise2(F.silu(self.depthwise(x))).transpose(1, 2)


class Block(nn.Module):
    """One conformer block; the output is LayerNormed, [B, S, C] -> [B, S, C]."""

    def __init__(self, width: int, inner: int, kernel: int):
        super().__init__()
        self.ffn1, self.ffn2 = FeedForward(width, inner), FeedForward(width, inner)
        self.attn_norm, self.attn = nn.LayerNorm(width), Attention(width)
        self.conv, self.norm = Convolution(width, kernel), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.ffn1(x)
        x = x + self.attn(self.attn_norm(x))
        x = x + self.conv(x)
        x = x + 0.5 * self.ffn2(x)
        return self.norm(x)


class Conformer(nn.Module):
    """Audio at 16 kHz -> log-mel (100/s) -> hidden states (50/s) -> phoneme log-probabilities."""

    stft: Tensor
    mel: Tensor

    def __init__(
        self,
        width: int = 144,
        inner: int = 576,
        kernel: int = 31,
        bands: int = 80,
        symbols: int = 191,
    ):
        super().__init__()
        self.width = width
        bins = MEL_WINDOW // 2 + 1
        # Windowed cosines, then sines.
        self.register_buffer("stft", torch.zeros(2 * bins, 1, MEL_WINDOW))
        self.register_buffer("mel", torch.zeros(bands, bins))
        self.subsample = nn.Conv1d(bands, width, 3, stride=SUBSAMPLING, padding=1)
        self.blocks = nn.ModuleList(Block(width, inner, kernel) for _ in range(BLOCKS))
        self.proj = nn.Conv1d(width, symbols, 1)

    def log_mel(self, samples: Tensor) -> Tensor:
        """Log power of mel bands, float32 [B, 80, 1 + T // 160]; frame j centred on sample 160 j.

        samples: float32 [B, T] in [-1, 1] at 16 kHz, T > 200; mirrored at both ends.
        """
        assert samples.ndim == 2 and samples.shape[1] > MEL_WINDOW // 2, (
            f"samples are {tuple(samples.shape)}"
        )
        padded = F.pad(samples[:, None], (MEL_WINDOW // 2, MEL_WINDOW // 2), mode="reflect")
        real, imaginary = F.conv1d(padded, self.stft, stride=MEL_HOP).chunk(2, dim=1)
        return (self.mel @ (real.square() + imaginary.square())).clamp_min(MEL_FLOOR).log()

    def hidden(self, mel: Tensor, blocks: int) -> Tensor:
        """Hidden states after `blocks` blocks (0 to 4), float32 [B, ceil(M / 2), 144].

        Step k is centred on mel frame 2 k. mel: float32 [B, 80, M] as from `log_mel`.
        """
        assert 0 <= blocks <= BLOCKS, blocks
        x = F.gelu(self.subsample(mel)).transpose(1, 2)
        for block in self.blocks[:blocks]:
            x = block(x)
        return x

    def log_probabilities(self, samples: Tensor) -> Tensor:
        """CTC log-probabilities of the phoneme symbols, float32 [B, S, 191], as hama's own runtime.

        samples: float32 [B, T] in [-1, 1] at 16 kHz.
        """
        return self.phonemes(self.hidden(self.log_mel(samples), BLOCKS), BLOCKS)

    def phonemes(self, hidden: Tensor, blocks: int) -> Tensor:
        """Log-probabilities of the phoneme symbols, float32 [B, S, 191].

        hidden: float32 [B, S, 144], the hidden states after `blocks` blocks.
        """
        for block in self.blocks[blocks:]:
            hidden = block(hidden)
        return F.log_softmax(self.proj(hidden.transpose(1, 2)).transpose(1, 2), dim=-1)


@functools.lru_cache(maxsize=4)
def pretrained_conformer(device: str = "cpu") -> Conformer:
    """The conformer with its published weights on `device`. It is loaded once and then kept.

    Raises EnvironmentFault where the weights cannot be had.
    """
    return load_conformer(assets.fetch("hama")).to(device)


def load_conformer(path: Path) -> Conformer:
    """The conformer with the weights of a .hama file, float32 on the CPU, frozen.

    Raises EnvironmentFault if the file is no .hama file or holds another network.
    """
    tensors = read_tensors(path)
    try:
        model = Conformer()
        state = {name: torch.from_numpy(array) for name, array in _state_arrays(tensors).items()}
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise EnvironmentFault(
            f"{path} holds another network than the phoneme conformer", str(error), FETCH_AGAIN
        ) from error
    return model.eval().requires_grad_(False)


def _state_arrays(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The file's tensors under the names of `Conformer`'s parameters.

    The exporter gave numbers instead of names to matrices and folded convolutions.
    """
    named = {
        "stft": np.concatenate([tensors["stft_real_kernel"], tensors["stft_imag_kernel"]]),
        "mel": np.ascontiguousarray(tensors["mel_fb"].T),
    }
    prefix = "acoustic_model.model."
    for name, array in tensors.items():
        if name.startswith(prefix):
            named[name.removeprefix(prefix).replace("in_proj_bias", "in_proj.bias")] = array

    # Convolutions: the weight and the bias of each, in order.
    convolutions = _numbered(tensors, "onnx::Conv_")
    targets = ["subsample"] + [f"blocks.{k}.conv.depthwise" for k in range(BLOCKS)]
    for target, weight, bias in zip(targets, convolutions[::2], convolutions[1::2], strict=True):
        named[f"{target}.weight"], named[f"{target}.bias"] = weight, bias

    # Matrices of the linear layers, which are stored as [in, out].
    order = ("ffn1.fc1", "ffn1.fc2", "attn.in_proj", "attn.out_proj", "ffn2.fc1", "ffn2.fc2")
    targets = [f"blocks.{k}.{layer}.weight" for k in range(BLOCKS) for layer in order]
    for target, matrix in zip(targets, _numbered(tensors, "onnx::MatMul_"), strict=True):
        named[target] = np.ascontiguousarray(matrix.T)
    return named


def _numbered(tensors: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """The tensors called `prefix` and a number, in order of the numbers."""
    found = {
        int(name.rsplit("_", 1)[1]): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    return [found[number] for number in sorted(found)]
