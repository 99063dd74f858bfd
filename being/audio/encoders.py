"""Speech encoders behind one interface: a waveform -> feature steps, 50 a second, whole or as it
comes in.

By name: `hama` (the default), `wav2vec2-eo`, `hubert`, any speech model of the `transformers`
library by its hub name or folder, `deepspeech` arrays read from disk. `NAME@stream` and `NAME@low`
are the same encoder with bounded look-ahead (`streaming.py`). Which hears lips best is measured in
docs/encoders.md.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from being import assets
from being.audio import conformer
from being.audio.articulation import CHANNELS, articulation
from being.conventions import FEATURE_RATE, SAMPLE_RATE
from being.errors import UsageError

SAMPLES_PER_STEP = SAMPLE_RATE // FEATURE_RATE
PIECE = 8 * FEATURE_RATE  # steps of long sound that go through at once
CONTEXT = 1 * FEATURE_RATE  # steps seen besides on both sides of a piece


class Encoder(Protocol):
    """What every encoder offers."""

    name: str  # as in `--encoder` and in the dataset
    width: int  # channels of a step
    rate: int  # steps/s, FEATURE_RATE

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """float32 [ceil(T / 320), width]: step k describes the sound around (k + 1/2) / 50 s.

        samples: float32 [T] in [-1, 1] at 16 kHz, at least two steps long.
        """


class PieceEncoder:
    """An encoder that is given whole pieces of sound; long sound goes through in pieces, each seen
    with context on both sides, so that memory does not grow with length."""

    name: str
    width: int
    rate = FEATURE_RATE

    def encode_pieces(self, sounds: np.ndarray) -> np.ndarray:
        """float32 [B, S, width] of pieces of sound float32 [B, 320 S], each heard by itself; S is
        at least 2.
        """
        raise NotImplementedError

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.encode_clip`. A sound of up to 9 s goes through in one piece."""
        return np.concatenate(list(self.stretches(samples)))

    def stretches(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """The steps of `encode_clip` one piece after the other, float32 [s, width] each (8 s; the
        last up to 9).

        steps: how many in all, where silence is to follow the sound.
        """
        return by_pieces(samples, lambda piece: self.encode_pieces(piece[None])[0], steps)


def by_pieces(
    samples: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], steps: int | None = None
) -> Iterator[np.ndarray]:
    """The steps [s, C] of one piece of a sound after the other, in all `steps` or ceil(T / 320).

    samples: float [T]; encode: float32 [320 S] in [-1, 1] -> [S, C].
    """
    steps, start = -(-samples.size // SAMPLES_PER_STEP) if steps is None else steps, 0
    assert samples.ndim == 1 and steps >= 2, (samples.shape, steps)
    while start < steps:
        stop = start + PIECE
        if steps - stop < CONTEXT:  # no tiny last piece
            stop = steps
        first, last = max(0, start - CONTEXT), min(steps, stop + CONTEXT)
        yield encode(piece_of(samples, first, last))[start - first : stop - first]
        start = stop


def piece_of(samples: np.ndarray, first: int, last: int) -> np.ndarray:
    """The sound of steps `first` to `last`, float32 [320 (last - first)] in [-1, 1], silence past
    its end.
    """
    sound = (
        samples[first * SAMPLES_PER_STEP : last * SAMPLES_PER_STEP]
        .astype(np.float32, copy=False)
        .clip(-1, 1)
    )
    return np.pad(sound, (0, (last - first) * SAMPLES_PER_STEP - sound.size))


class HamaEncoder(PieceEncoder):
    """Hidden states after the second block of the phoneme conformer, the best lip features
    measured, and two channels of articulation from its phonemes. What was made before these came
    holds the hidden states alone.

    Attention spans a whole piece, so pieces differ a little from one pass over everything (9 % of a
    state's length over 60 s of speech, correlation 0.994); the edge of a piece is felt for 0.5 s,
    half of the context.
    """

    name = "hama"
    blocks = 2

    def __init__(self) -> None:
        self.model = conformer.load(assets.fetch("hama"))
        self.states = self.model.width
        self.width = self.states + CHANNELS

    @torch.inference_mode()
    def encode_pieces(self, sounds: np.ndarray) -> np.ndarray:
        """See `PieceEncoder.encode_pieces`.

        The network's own steps are centred on k / 50 s. Without the first mel frame they sit half a
        step later, on (k + 1/2) / 50 s, so that a window of 2 i - 8 to 2 i + 7 is centred exactly
        on frame i.
        """
        mel = self.model.log_mel(torch.from_numpy(sounds).to(self.model.mel.device))
        hidden = self.model.hidden(mel[:, :, 1:], self.blocks)
        spoken = self.model.phonemes(hidden, self.blocks)
        return np.concatenate([hidden.cpu().numpy(), articulation(spoken.cpu().numpy())], 2)


def _wav2vec2_eo() -> Encoder:
    from being.audio.transformers_encoder import TransformersEncoder

    return TransformersEncoder(
        "wav2vec2-eo", "cpierse/wav2vec2-large-xlsr-53-esperanto", "logits", width=44
    )


def _hubert() -> Encoder:
    from being.audio.transformers_encoder import TransformersEncoder

    return TransformersEncoder("hubert", "facebook/hubert-large-ls960-ft", "last", width=1024)


def _deepspeech() -> Encoder:
    from being.audio.feature_files import ArrayEncoder

    return ArrayEncoder("deepspeech", width=29)


ENCODERS: dict[str, Callable[[], Any]] = {
    "hama": HamaEncoder,
    "wav2vec2-eo": _wav2vec2_eo,
    "hubert": _hubert,
    "deepspeech": _deepspeech,
}
FAMILY_NAMES = {
    "eo": "wav2vec2-eo",
    "ds": "deepspeech",
}  # of features that an imported dataset brought with it
LAYERS = ("last", "logits")  # of a transformers model, besides the numbers of its hidden ones
FILES = {
    "wav2vec2-eo": "aud_eo.npy",
    "deepspeech": "aud_ds.npy",
}  # as the family's readers know them


@dataclass(frozen=True)
class Name:
    """The parts of an encoder's name, `BASE[:LAYER][@LATENCY]`."""

    base: str
    layer: str  # "", "last", "logits" or a number
    latency: str  # "" for the whole clip

    @classmethod
    def of(cls, text: str) -> Name:
        """Folders may have @ and : in their own names."""
        base, _, latency = text.rpartition("@")
        if not base or "/" in latency or "\\" in latency:
            base, latency = text, ""
        front, _, layer = base.rpartition(":")
        if not front or not (layer in LAYERS or layer.isdecimal()):
            front, layer = base, ""
        return cls(FAMILY_NAMES.get(front, front), layer, latency)


@functools.lru_cache(maxsize=4)
def encoder(name: str, device: str = "cpu") -> Encoder:
    """The encoder called `name`, loaded once, its network on `device`.

    Raises UsageError for an unknown name, EnvironmentFault where the weights cannot be had,
    InputRejected for a model of another kind.
    """
    parts = Name.of(name)
    if parts.latency:
        from being.audio.feature_stream import BoundedEncoder, latency_of

        latency = latency_of(parts.latency)
        return BoundedEncoder(encoder(name.removesuffix(f"@{parts.latency}"), device), latency)
    found = _loaded(name, parts)
    model = getattr(found, "model", None)
    if model is not None:
        model.to(device)
    return found


def width_of(chosen: Encoder, wanted: int | None) -> int:
    """Channels of a step that are given where `wanted` were heard before: all, or the hidden states
    alone.
    """
    return (
        wanted if wanted is not None and wanted == getattr(chosen, "states", None) else chosen.width
    )


def _loaded(name: str, parts: Name) -> Encoder:
    if parts.base in ENCODERS and not parts.layer:
        return ENCODERS[parts.base]()
    if "/" in parts.base or "\\" in parts.base or Path(parts.base).is_dir():
        from being.audio.transformers_encoder import TransformersEncoder

        return TransformersEncoder(name, parts.base, parts.layer or "last")
    near = difflib.get_close_matches(parts.base, ENCODERS, 1)
    raise UsageError(
        f"no speech encoder is called {name!r}",
        "known are: "
        + ", ".join(ENCODERS)
        + ", owner/model of the transformers library, and folders",
        f"Did you mean {near[0]!r}?" if near else "",
    )


def named(name: str, latency: str | None) -> str:
    """The name under which a dataset keeps the features of the encoder `name` with the look-ahead
    `latency` ("whole", "stream" or "low"; None: as the name says). Raises UsageError for an unknown
    latency or one named twice."""
    from being.audio.feature_stream import latency_of

    given = Name.of(name).latency
    if given:
        latency_of(given)
    if latency is None or latency == "whole" and not given:
        return name
    if given:
        raise UsageError(
            f"the look-ahead of {name} is given twice",
            f"by its name and as {latency!r}",
            "Leave one of them out",
        )
    return f"{name}@{latency_of(latency).name}"


def file_of(name: str) -> str:
    """Name of the file in which a dataset keeps the features called `name`."""
    if name in FILES:
        return FILES[name]
    parts = Name.of(name)
    base, folder = parts.base, Path(parts.base)
    if folder.is_dir():
        base = f"{folder.resolve().name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"
    plain = "_".join(part for part in (base, parts.layer, parts.latency) if part)
    return (
        "aud_"
        + "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in plain)
        + ".npy"
    )
