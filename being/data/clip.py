"""A clip as tensors on one device: frames, background images, masks, cameras, features, boxes."""

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

from being.audio.clip_features import encode_frames
from being.audio.feature_windows import attention_windows
from being.audio.voice_augmentation import augmented_features
from being.console import Progress
from being.conventions import ATTENTION_OFFSETS, CODE_OFFSETS, FPS, PARSING_HEAD, SAMPLES_PER_FRAME
from being.data.cameras import camera_vector
from being.data.conditions import Conditions
from being.data.dataset import Dataset
from being.data.expression_channels import BLINK_ONLY, ExpressionChannels, load_expression
from being.data.manifest import PREPROCESS_AGAIN
from being.data.mouth import MouthCode, code_rows
from being.face.topology import BROWS
from being.reading.content import Unreadable, rejected
from being.reading.images import decode_image, read_image_bytes

# Landmarks that span the boxes of the lips (outline and middle) and of the eyes (lid corners and
# middles).
LIP_BOX_POINTS = (61, 291, 0, 17, 37, 267, 84, 314, 78, 308, 13, 14)
EYE_BOX_POINTS = (33, 133, 159, 145, 362, 263, 386, 374)
HEAD_BOX_MARGIN = 0.1  # the head box is the box of the head mask, enlarged by this share
WINDOW_MARGIN = 8  # px around all head boxes
APERTURE_RANGE = (2.0, 98.0)  # percentiles of the lip aperture
CLOSED_MOUTH_SHARE = 0.2  # share of that range below which a mouth counts as closed
# px by which the head mask is dilated for the training target. Soft hair edges lie just outside the
# hard head mask, and they belong to the head.
HEAD_MASK_GROW = 2


@dataclass
class Clip:
    """Tensors of a clip at training resolution S x S, all on one device.

    Boxes are int64 [F, 4]: top, bottom, left, right in px, the ends exclusive; zeros where there is
    none.
    """

    frames: Tensor  # [F, 3, S, S] uint8, the raw frames
    plates: Tensor  # [F, 3, S, S] uint8, the frame's torso over the background
    head: Tensor  # [F, 1, S, S] uint8, head mask 0..255
    world_to_camera: Tensor  # [F, 4, 4] float32
    camera: Tensor  # [F, 12] float32, `data.cameras.camera_vector`
    # [F, 16, C] float32, speech features, or rows of the mouth code (`data.mouth.code_rows`)
    features: Tensor
    expression: Tensor  # [F, E] float32, `data.expression_channels`: the blink in [0, 1] first
    mouth_channels: Tensor  # [E] bool: the expression channels of mouth and cheeks
    lips: Tensor  # box of a square around the lips
    eyes: Tensor  # box around both eyes
    brows: Tensor  # box around both brows
    boxes: Tensor  # box of the head mask
    window: tuple[slice, slice]  # rows and columns that hold the head in every frame, with a margin
    focal: float  # px at resolution S
    size: int  # S
    channels: ExpressionChannels = BLINK_ONLY  # names and units of the expression channels
    # [F, 2] int64: first and last frame of each frame's segment. None: the clip is one segment.
    bounds: Tensor | None = None
    # [V, F, 16, C] float32: speech features of the same words in V other voices.
    voices: Tensor | None = None
    # The rows of `features` that a frame reads, relative to its own.
    offsets: tuple[int, ...] = ATTENTION_OFFSETS
    # [16, C] float32: speech features of a frame in long digital silence.
    silence_features: Tensor | None = None
    # [F] float32: probability that `draw_audio_rows` replaces a frame's features by
    # `silence_features`. It is above zero only for frames with a closed mouth.
    silence_chance: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.frames.device

    def draw_audio_rows(self, index: Tensor) -> Tensor:
        """Rows [B] int64 for `conditions` and `audio_windows`: frames with randomly drawn audio.

        index: int64 [B], frame numbers. A row is frame + F * voice. Voice 0 is the clip's own
        audio, then come the other voices, then silence. The draw uses torch's generator of the
        device. A clip without other voices and silence returns `index`.
        """
        if self.voices is None and self.silence_chance is None:
            return index
        spoken = 1 if self.voices is None else 1 + len(self.voices)
        voice = torch.randint(spoken, index.shape, device=index.device)
        if self.silence_chance is not None:
            silent = torch.rand(index.shape, device=index.device) < self.silence_chance[index]
            voice = voice.masked_fill(silent, spoken)
        return index + len(self.frames) * voice

    def conditions(self, index: Tensor, true_mouth_share: float = 0.0) -> Conditions:
        """The model's inputs for B frames.

        index: int64 [B], frame numbers or rows of `draw_audio_rows`. The mouth channels of the
        expression are zero, because the audio must drive the lips. true_mouth_share: share of the
        frames, drawn at random, that keep the true values; from these the model learns what the
        mouth channels mean.
        """
        frame = index % len(self.frames)
        values = self.expression[frame]
        hidden = self.mouth_channels
        if true_mouth_share > 0:
            hidden = hidden & (torch.rand(len(index), 1, device=self.device) >= true_mouth_share)
        expression = values.masked_fill(hidden, 0.0)
        return Conditions(self.audio_windows(index), expression, self.camera[frame])

    def audio_windows(self, index: Tensor) -> Tensor:
        """Attention windows float32 [B, 8, C, 16] of B frames.

        index: int64 [B], frame numbers or rows of `draw_audio_rows`. No window crosses the border
        of a segment.
        """
        if self.voices is None and self.silence_chance is None:
            return attention_windows(self.features, index, self.bounds, self.offsets)
        features, bounds = self._features_of_rows
        return attention_windows(features, index, bounds)

    @cached_property
    def _features_of_rows(self) -> tuple[Tensor, Tensor]:
        """Features [R, 16, C] and segment bounds [R, 2] of all rows of `draw_audio_rows`."""
        count = len(self.features)
        features = [self.features]
        if self.voices is not None:
            features += [*self.voices]
        if self.silence_features is not None:
            features.append(self.silence_features.expand_as(self.features))
        assert all(voice.shape == self.features.shape for voice in features), (
            "voices are of another clip"
        )

        # The bounds of each voice are those of the clip, moved to the rows of that voice.
        bounds = self.bounds
        if bounds is None:
            bounds = torch.tensor([[0, count - 1]], device=self.device).expand(count, 2)
        starts = count * torch.arange(len(features), device=self.device)
        return torch.cat(features), (bounds + starts[:, None, None]).flatten(0, 1)

    def plate(self, index: Tensor, window: bool = False) -> Tensor:
        """Plates float32 [B, 3, S, S] in [0, 1], or [B, 3, h, w] of the window."""
        return self._images(self.plates, index, window)

    def frame(self, index: Tensor, window: bool = False) -> Tensor:
        """Raw frames float32 [B, 3, S, S] in [0, 1], or [B, 3, h, w] of the window."""
        return self._images(self.frames, index, window)

    def mask(self, index: Tensor, window: bool = False) -> Tensor:
        """Soft head masks float32 [B, 1, S, S] in [0, 1], or [B, 1, h, w] of the window."""
        return self._images(self.head, index, window)

    def target(self, index: Tensor, window: bool = False) -> Tensor:
        """Training targets, float32 as `frame`.

        A target is the frame inside the dilated head mask and the plate elsewhere.
        """
        mask = self.mask(index, window)
        grown = torch.nn.functional.max_pool2d(mask, 2 * HEAD_MASK_GROW + 1, 1, HEAD_MASK_GROW)
        inside = (grown > 0.5).float()
        return torch.lerp(self.plate(index, window), self.frame(index, window), inside)

    def _images(self, images: Tensor, index: Tensor, window: bool) -> Tensor:
        """Images `index` of uint8 [F, ...], whole or cut to the window, as float32 in [0, 1]."""
        rows, columns = self.window
        chosen = images[:, :, rows, columns] if window else images
        return chosen[index].float() / 255


def load_clip(
    dataset: Dataset,
    size: int,
    encoder: str,
    device: torch.device | str = "cpu",
    index: np.ndarray | None = None,
    channel_set: str = "full",
    voices: int = 0,
    silence_share: float = 0.0,
    seed: int = 0,
    mouth: MouthCode | None = None,
) -> Clip:
    """The clip of a dataset at `size` x `size` px.

    encoder: whose speech features are read. index: frames whose images are read, by default all;
    the other images stay black, so training needs all. Speech features, cameras and expression are
    always of the whole clip. channel_set: `data.expression`, see
    `data.expression_channels.load_expression`. voices: number of other voices that speak the same
    words (`audio.voice_augmentation`), drawn with `seed`. silence_share: probability that a frame
    with a closed mouth gets the features of silence. mouth: the dataset's mouth code, which then
    takes the place of the speech features. Raises InputRejected for files that cannot be read,
    UsageError for an unknown channel set.
    """
    channels, expression = load_expression(dataset, channel_set)
    if mouth is None:
        features = dataset.features(encoder)
    else:
        features, voices, silence_share = code_rows(mouth.values), 0, 0.0
    chosen = np.arange(dataset.frames) if index is None else index

    # Images, in threads.
    background = open_rgb(dataset.path / "bc.jpg", size)
    frames = np.zeros((dataset.frames, 3, size, size), np.uint8)
    plates, head = np.zeros_like(frames), np.zeros((dataset.frames, 1, size, size), np.uint8)

    def read(i: int) -> None:
        frames[i] = open_rgb(dataset.path / f"ori_imgs/{i}.jpg", size).transpose(2, 0, 1)
        torso_image = open_image(dataset.path / f"torso_imgs/{i}.png", size, "RGBA")
        torso = np.asarray(torso_image, np.float32)
        alpha = torso[..., 3:] / 255
        plate = np.where(alpha > 0, torso[..., :3], 0) * alpha + background * (1 - alpha)
        plates[i] = (plate + 0.5).astype(np.uint8).transpose(2, 0, 1)
        head[i, 0] = head_mask(dataset, i, size)

    _for_each_frame(read, [int(i) for i in chosen], "load clip")

    # Boxes and cameras at this resolution.
    scale = size / dataset.height
    landmarks = dataset.landmarks * scale
    matrices = dataset.world_to_camera
    boxes = np.stack([head_box(mask[0]) for mask in head])

    # Audio variants for augmentation.
    width = features.shape[2]
    other_voices = _voice_features(dataset, encoder, voices, seed)[..., :width] if voices else None
    silence = silence_features(encoder, width) if silence_share else None
    silence_chance = silence_share * _closed_mouth(dataset) if silence_share else None

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    def optional(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else tensor(array)

    return Clip(
        frames=tensor(frames),
        plates=tensor(plates),
        head=tensor(head),
        world_to_camera=tensor(matrices),
        camera=tensor(camera_vector(matrices)),
        features=tensor(features),
        expression=tensor(expression),
        mouth_channels=tensor(channels.is_mouth),
        lips=tensor(landmark_boxes(landmarks, LIP_BOX_POINTS, size, (0.6, 0.6), square=True)),
        eyes=tensor(landmark_boxes(landmarks, EYE_BOX_POINTS, size, (1.0, 0.6))),
        brows=tensor(landmark_boxes(landmarks, BROWS, size, (1.0, 0.6))),
        boxes=tensor(boxes),
        window=head_window(boxes, size),
        focal=dataset.focal * scale,
        size=size,
        channels=channels,
        bounds=tensor(dataset.bounds),
        voices=optional(other_voices),
        offsets=ATTENTION_OFFSETS if mouth is None else CODE_OFFSETS,
        silence_features=optional(silence),
        silence_chance=optional(silence_chance),
    )


def silence_features(encoder: str, width: int) -> np.ndarray:
    """Features float32 [16, width] of a frame with two seconds of digital silence on both sides."""
    samples = np.zeros(4 * FPS * SAMPLES_PER_FRAME, np.float32)
    return encode_frames(samples, 4 * FPS, encoder, width)[2 * FPS]


def _voice_features(dataset: Dataset, encoder: str, count: int, seed: int) -> np.ndarray:
    """Features float32 [count, F, 16, C] of the dataset's audio in other voices.

    They are cached in the dataset's folder `.voices`.
    """
    with Progress("other voices"):
        segments = [(first, stop) for first, stop in dataset.segments]
        cache = dataset.path / ".voices"
        return augmented_features(dataset.audio(), segments, encoder, count, seed, cache)


def _closed_mouth(dataset: Dataset) -> np.ndarray:
    """1 for the frames with a closed mouth, 0 for the others, float32 [F]."""
    # Imported here because it needs OpenCV, which an installation that only renders lacks.
    from being.face.landmarks import lip_aperture

    aperture = lip_aperture(dataset.landmarks)
    if not np.isfinite(aperture).any():
        return np.zeros(len(aperture), np.float32)
    low, high = np.nanpercentile(aperture, APERTURE_RANGE)
    return (aperture < low + CLOSED_MOUTH_SHARE * (high - low)).astype(np.float32)


def head_mask(dataset: Dataset, i: int, size: int) -> np.ndarray:
    """Head mask uint8 [size, size] 0..255 of frame `i`.

    It is the soft alpha where the dataset has one, else the area in the head's parsing colour.
    """
    soft = dataset.path / f"head_alpha/{i}.png"
    if soft.is_file():
        return np.asarray(open_image(soft, size, "L"))
    parsing = np.asarray(open_image(dataset.path / f"parsing/{i}.png", None, "RGB"))
    hard = Image.fromarray(((parsing == PARSING_HEAD).all(-1) * 255).astype(np.uint8))
    return np.asarray(hard.resize((size, size), Image.Resampling.BOX))


def head_box(mask: np.ndarray) -> np.ndarray:
    """Box int64 [4] (top, bottom, left, right) of a mask uint8 [H, W], enlarged by a tenth.

    Zeros for an empty mask.
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
    """Rows and columns that hold every head box [F, 4] of a clip, with a margin of 8 px.

    The whole image of `size` px when there is no box.
    """
    found = boxes[boxes[:, 1] > boxes[:, 0]]
    if not len(found):
        return slice(0, size), slice(0, size)
    top, left = np.maximum(found[:, (0, 2)].min(0) - WINDOW_MARGIN, 0)
    bottom, right = np.minimum(found[:, (1, 3)].max(0) + WINDOW_MARGIN, size)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def landmark_boxes(
    points: np.ndarray,
    which: tuple[int, ...] | np.ndarray,
    size: int,
    half: tuple[float, float],
    square: bool = False,
) -> np.ndarray:
    """Boxes int64 [F, 4] (top, bottom, left, right) around the landmarks `which`.

    points: float [F, 478, 3] px. Zeros where these landmarks are missing. All boxes of a clip have
    one size: `half` times the height and width of the landmarks to either side of the centre, or
    `half` times the larger of the two if `square`. size: of the image, px.
    """
    chosen = points[:, which, 1::-1]  # rows, columns
    found = np.isfinite(chosen).all((1, 2))
    boxes = np.zeros((len(points), 4), np.int64)
    if not found.any():
        return boxes
    low, high = chosen[found].min(1), chosen[found].max(1)
    extent = np.percentile(high - low, 95, axis=0)
    if square:
        extent = np.maximum(extent, extent.max())
    reach = np.clip(np.ceil(extent * half), 4, size // 2).astype(np.int64)
    centre = np.clip(((low + high) / 2).round().astype(np.int64), reach, size - reach)
    boxes[found] = np.stack([centre - reach, centre + reach], 2).reshape(-1, 4)
    return boxes


def open_image(path: Path, size: int | None, mode: str) -> Image.Image:
    """An image file in a PIL mode, resized to `size` x `size` px. Raises InputRejected."""
    try:
        draft = (size, size) if size is not None and path.suffix == ".jpg" else None
        converted = decode_image(read_image_bytes(path)[0], mode, draft)
    except (OSError, Unreadable) as error:
        raise rejected(path, error, PREPROCESS_AGAIN) from error
    if size is None or converted.size == (size, size):
        return converted
    return converted.resize((size, size), Image.Resampling.BOX)


def open_rgb(path: Path, size: int) -> np.ndarray:
    """An image file as uint8 [size, size, 3] RGB. Raises InputRejected."""
    return np.asarray(open_image(path, size, "RGB"))


def _for_each_frame(work: Callable[[int], None], frames: list[int], label: str) -> None:
    """Call `work` for each frame number, in threads, with a progress line."""
    with Progress(label, len(frames), "frames") as progress, ThreadPoolExecutor() as pool:
        for _ in pool.map(work, frames):
            progress.advance()
