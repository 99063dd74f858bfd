"""A whole clip on a device: pictures as bytes at training resolution, cameras, sound windows,
boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from being.audio.feature_windows import SAMPLES_PER_FRAME, encode, windows
from being.audio.voice_augmentation import voices as other_voices
from being.console import Progress
from being.conventions import FPS, PARSING_HEAD
from being.data.cameras import camera_numbers
from being.data.conditions import Conditions
from being.data.dataset import Dataset
from being.data.expression_channels import BLINK_ALONE, Channels, expression
from being.errors import InputRejected
from being.media import read_audio

LIPS = (
    61,
    291,
    0,
    17,
    37,
    267,
    84,
    314,
    78,
    308,
    13,
    14,
)  # outline and middle of the lips in the 478 points
EYES = (33, 133, 159, 145, 362, 263, 386, 374)  # corners and middles of the lids
BROWS = (
    46,
    53,
    52,
    65,
    55,
    70,
    63,
    105,
    66,
    107,
    276,
    283,
    282,
    295,
    285,
    300,
    293,
    334,
    296,
    336,
)  # lower, upper rim
HEAD_BOX_MARGIN = 0.1  # the head box is the box of the head mask grown by this share of its sides
WINDOW_MARGIN = 8  # px round all head boxes
APERTURE_RANGE = (2.0, 98.0)  # percentiles of the lip aperture
SHUT = 0.2  # share of that range under which a mouth is closed
TARGET_GROW = 2  # px: soft hair edges lie just outside the hard head mask and belong to the head


@dataclass
class Clip:
    """Tensors of a clip at training resolution S x S, all on one device."""

    frames: Tensor  # [F, 3, S, S] uint8, the raw frames
    plates: Tensor  # [F, 3, S, S] uint8, the frame's torso over the background
    head: Tensor  # [F, 1, S, S] uint8, head mask 0..255
    world_to_camera: Tensor  # [F, 4, 4] float32
    camera: Tensor  # [F, 12] float32
    features: Tensor  # [F, 16, C] float32
    expression: Tensor  # [F, E] float32, `data.expression`: the blink in [0, 1] first
    mouth: Tensor  # [E] bool: which of its channels are the sound's
    # [F, 4] int64: top, bottom, left, right of the lip square in px (bottom, right exclusive)
    lips: Tensor
    eyes: Tensor  # [F, 4] int64: the same of a box round both eyes
    brows: Tensor  # [F, 4] int64: the same of a box round both brows
    boxes: Tensor  # [F, 4] int64: the same of the head box
    window: tuple[slice, slice]  # rows and columns that hold the head in every frame, with a margin
    focal: float  # px at resolution S
    size: int  # S
    channels: Channels = BLINK_ALONE  # names and units of the expression
    bounds: Tensor | None = (
        None  # [F, 2] int64: first and last frame of each frame's segment; None: the clip is one
    )
    voices: Tensor | None = (
        None  # [V, F, 16, C] float32: the features of the same words in other voices
    )
    silence: Tensor | None = (
        None  # [16, C] float32: the features of a frame in long digital silence
    )
    silent: Tensor | None = (
        None  # [F] float32, chance that a frame hears `silence`: only frames with a closed mouth
    )

    @property
    def device(self) -> torch.device:
        """Where the clip lies."""
        return self.frames.device

    def pick(self, index: Tensor) -> Tensor:
        """Rows [B] int64 for `conditions` and `sound`, by torch's generator of the device: each of
        the frames `index` [B] int64 in one of its voices, the clip's own among them, or in silence.
        Without these they are the frames."""
        if self.voices is None and self.silent is None:
            return index
        spoken = 1 if self.voices is None else 1 + len(self.voices)
        voice = torch.randint(spoken, index.shape, device=index.device)
        if self.silent is not None:
            voice = voice.masked_fill(
                torch.rand(index.shape, device=index.device) < self.silent[index], spoken
            )
        return index + len(self.frames) * voice

    def conditions(self, index: Tensor, mouth_told: float = 0.0) -> Conditions:
        """What drives the frames `index` [B] int64, or the rows of `pick`.

        The mouth's channels of expression are neutral: the lips belong to the sound. `mouth_told`
        is the share of frames, drawn at random, that are given the true ones all the same, for
        training to learn what they mean.
        """
        frame = index % len(self.frames)
        values = self.expression[frame]
        hidden = self.mouth
        if mouth_told > 0:
            hidden = hidden & (torch.rand(len(index), 1, device=self.device) >= mouth_told)
        return Conditions(self.sound(index), values.masked_fill(hidden, 0.0), self.camera[frame])

    def sound(self, index: Tensor) -> Tensor:
        """Sound windows float32 [B, 8, C, 16] of the frames `index` [B] int64, or the rows of
        `pick`; none hears across a break."""
        if self.voices is None and self.silent is None:
            return windows(self.features, index, self.bounds)
        features, bounds = self._all_voices
        return windows(features, index, bounds)

    @cached_property
    def _all_voices(self) -> tuple[Tensor, Tensor]:
        """Features [V F, 16, C] of the clip's own voice, the others and silence in this order, and
        their bounds.
        """
        heard, count = (
            [self.features, *(() if self.voices is None else self.voices)],
            len(self.features),
        )
        if self.silence is not None:
            heard.append(self.silence.expand_as(self.features))
        assert all(voice.shape == self.features.shape for voice in heard), (
            "voices are of another clip"
        )
        one = self.bounds
        if one is None:
            one = torch.tensor([[0, count - 1]], device=self.device).expand(count, 2)
        starts = count * torch.arange(len(heard), device=self.device)
        return torch.cat(heard), (one + starts[:, None, None]).flatten(0, 1)

    def plate(self, index: Tensor, window: bool = False) -> Tensor:
        """Plates float32 [B, 3, S, S] in [0, 1], or [B, 3, h, w] of the window."""
        return self._pictures(self.plates, index, window)

    def frame(self, index: Tensor, window: bool = False) -> Tensor:
        """Raw frames float32 [B, 3, S, S] in [0, 1], or [B, 3, h, w] of the window."""
        return self._pictures(self.frames, index, window)

    def mask(self, index: Tensor, window: bool = False) -> Tensor:
        """Soft head masks float32 [B, 1, S, S] in [0, 1], or [B, 1, h, w] of the window."""
        return self._pictures(self.head, index, window)

    def target(self, index: Tensor, window: bool = False) -> Tensor:
        """Training target, float32 as `frame`: the frame inside the grown head mask, the plate
        elsewhere.
        """
        mask = self.mask(index, window)
        grown = torch.nn.functional.max_pool2d(mask, 2 * TARGET_GROW + 1, 1, TARGET_GROW)
        return torch.lerp(
            self.plate(index, window), self.frame(index, window), (grown > 0.5).float()
        )

    def _pictures(self, bytes_: Tensor, index: Tensor, window: bool) -> Tensor:
        rows, columns = self.window
        chosen = bytes_[:, :, rows, columns] if window else bytes_
        return chosen[index].float() / 255


def load_clip(
    dataset: Dataset,
    size: int,
    encoder: str,
    device: torch.device | str = "cpu",
    index: np.ndarray | None = None,
    kind: str = "full",
    voices: int = 0,
    silence: float = 0.0,
    seed: int = 0,
) -> Clip:
    """The clip of a dataset (or its frames `index`) at `size` x `size` px, with expression of a
    `kind` (`data.expression`). Sound windows are of the whole clip, so `index` must be None for
    training; eval of a part passes features through `Clip.features` unchanged. voices: how many
    others say the same (`audio.augment`, by `seed`). silence: chance that a frame with a closed
    mouth hears silence."""
    channels, values = expression(dataset, kind)
    features = dataset.features(encoder)
    chosen = np.arange(dataset.frames) if index is None else index
    background = _open_rgb(dataset.path / "bc.jpg", size)
    frames = np.zeros((dataset.frames, 3, size, size), np.uint8)
    plates, head = np.zeros_like(frames), np.zeros((dataset.frames, 1, size, size), np.uint8)

    def read(i: int) -> None:
        frames[i] = _open_rgb(dataset.path / f"ori_imgs/{i}.jpg", size).transpose(2, 0, 1)
        torso = np.asarray(_open(dataset.path / f"torso_imgs/{i}.png", size, "RGBA"), np.float32)
        alpha = torso[..., 3:] / 255
        plate = np.where(alpha > 0, torso[..., :3], 0) * alpha + background * (1 - alpha)
        plates[i] = (plate + 0.5).astype(np.uint8).transpose(2, 0, 1)
        head[i, 0] = head_mask(dataset, i, size)

    _each(read, [int(i) for i in chosen], "load clip")
    scale = size / dataset.height
    matrices = dataset.world_to_camera
    boxes = np.stack([head_box(mask[0]) for mask in head])

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Clip(
        tensor(frames),
        tensor(plates),
        tensor(head),
        tensor(matrices),
        tensor(camera_numbers(matrices)),
        tensor(features),
        tensor(values),
        tensor(channels.mouth),
        tensor(landmark_boxes(dataset.landmarks * scale, LIPS, size, (0.6, 0.6), square=True)),
        tensor(landmark_boxes(dataset.landmarks * scale, EYES, size, (1.0, 0.6))),
        tensor(landmark_boxes(dataset.landmarks * scale, BROWS, size, (1.0, 0.6))),
        tensor(boxes),
        head_window(boxes, size),
        dataset.focal * scale,
        size,
        channels,
        tensor(dataset.bounds),
        tensor(_voices(dataset, encoder, voices, seed)[..., : features.shape[2]])
        if voices
        else None,
        tensor(silent_features(encoder, features.shape[2])) if silence else None,
        tensor(silence * _shut(dataset)) if silence else None,
    )


def _voices(dataset: Dataset, encoder: str, count: int, seed: int) -> np.ndarray:
    """Features float32 [count, F, 16, C] of the dataset's sound in other voices, kept in its folder
    `.voices`.
    """
    with Progress("other voices"):
        sound, length = read_audio(dataset.sound_file), dataset.frames * SAMPLES_PER_FRAME
        sound = np.pad(sound[:length], (0, max(0, length - len(sound))))
        segments = [(first, stop) for first, stop in dataset.segments]
        return other_voices(sound, segments, encoder, count, seed, dataset.path / ".voices")


def silent_features(encoder: str, width: int) -> np.ndarray:
    """Features float32 [16, width] of a frame with two seconds of digital silence on both sides."""
    return encode(np.zeros(4 * FPS * SAMPLES_PER_FRAME, np.float32), 4 * FPS, encoder, width)[
        2 * FPS
    ]


def _shut(dataset: Dataset) -> np.ndarray:
    """1 for the frames with a closed mouth, 0 for the others, float32 [F]."""
    from being.face.landmarks import lip_aperture

    aperture = lip_aperture(dataset.landmarks)
    if not np.isfinite(aperture).any():
        return np.zeros(len(aperture), np.float32)
    low, high = np.nanpercentile(aperture, APERTURE_RANGE)
    return (aperture < low + SHUT * (high - low)).astype(np.float32)


def head_mask(dataset: Dataset, i: int, size: int) -> np.ndarray:
    """Head mask of frame `i`, uint8 [size, size] 0..255: the soft alpha where there is one, else
    the palette's head colour."""
    soft = dataset.path / f"head_alpha/{i}.png"
    if soft.is_file():
        return np.asarray(_open(soft, size, "L"))
    parsing = np.asarray(_open(dataset.path / f"parsing/{i}.png", None, "RGB"))
    hard = Image.fromarray(((parsing == PARSING_HEAD).all(-1) * 255).astype(np.uint8))
    return np.asarray(hard.resize((size, size), Image.Resampling.BOX))


def head_box(mask: np.ndarray) -> np.ndarray:
    """[top, bottom, left, right] int64 of the box of a mask [H, W] uint8 grown by a tenth; zeros
    for an empty mask.
    """
    rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
    if not len(rows):
        return np.zeros(4, np.int64)
    box = []
    for line, side in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        margin = HEAD_BOX_MARGIN * (line[-1] + 1 - line[0]) / 2
        box += [max(0, int(line[0] - margin)), min(side, int(np.ceil(line[-1] + 1 + margin)))]
    return np.array(box, np.int64)


def head_window(boxes: np.ndarray, size: int) -> tuple[slice, slice]:
    """Rows and columns that hold every head box [F, 4] of a clip, grown by 8 px; everything when
    there is no box.
    """
    found = boxes[boxes[:, 1] > boxes[:, 0]]
    if not len(found):
        return slice(0, size), slice(0, size)
    top, left = np.maximum(found[:, (0, 2)].min(0) - WINDOW_MARGIN, 0)
    bottom, right = np.minimum(found[:, (1, 3)].max(0) + WINDOW_MARGIN, size)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def landmark_boxes(
    points: np.ndarray,
    which: tuple[int, ...],
    size: int,
    half: tuple[float, float],
    square: bool = False,
) -> np.ndarray:
    """Boxes int64 [F, 4] (top, bottom, left, right) round the landmarks `which` of [F, 478, 3] px;
    zeros where they are missing. All boxes of a clip have one size: `half` times (height, width) of
    the landmarks to either side."""
    chosen = points[:, which, 1::-1]  # rows, columns
    found = np.isfinite(chosen).all((1, 2))
    boxes = np.zeros((len(points), 4), np.int64)
    if not found.any():
        return boxes
    low, high = chosen[found].min(1), chosen[found].max(1)
    extent = np.percentile(high - low, 95, axis=0)
    extent = np.maximum(extent, extent.max()) if square else extent
    reach = np.clip(np.ceil(extent * half), 4, size // 2).astype(np.int64)
    centre = np.clip(((low + high) / 2).round().astype(np.int64), reach, size - reach)
    boxes[found] = np.stack([centre - reach, centre + reach], 2).reshape(-1, 4)
    return boxes


def _open(path: Path, size: int | None, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            if size is not None and path.suffix == ".jpg":
                image.draft(mode, (size, size))
            picture = image.convert(mode)
    except (OSError, SyntaxError) as error:
        raise InputRejected(
            f"{path} cannot be read", str(error), "Preprocess the clip again"
        ) from error
    return (
        picture
        if size is None or picture.size == (size, size)
        else picture.resize((size, size), Image.Resampling.BOX)
    )


def _open_rgb(path: Path, size: int) -> np.ndarray:
    return np.asarray(_open(path, size, "RGB"))


def _each(work: Callable[[int], None], items: list[int], label: str) -> None:
    with Progress(label, len(items), "frames") as progress, ThreadPoolExecutor() as pool:
        for _ in pool.map(work, items):
            progress.advance()
