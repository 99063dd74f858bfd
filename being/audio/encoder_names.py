"""Names of speech encoders, `BASE[:LAYER][@LATENCY]`, and the latencies that a name can have."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from being.conventions import ATTENTION_FUTURE, FEATURE_RATE, FEATURE_WINDOW, STEPS_PER_FRAME
from being.errors import UsageError

# Short names that imported datasets use -> the encoder's name.
ALIASES = {"eo": "wav2vec2-eo", "ds": "deepspeech"}

# Named layers of a transformers model; its hidden layers have numbers.
LAYERS = ("last", "logits")

# Feature files with the names that the tools of the model family read.
FAMILY_FILES = {"wav2vec2-eo": "aud_eo.npy", "deepspeech": "aud_ds.npy"}

# Steps from a frame's time to the end of the last feature window that its attention reads.
STEPS_AFTER_FRAME = ATTENTION_FUTURE * STEPS_PER_FRAME + FEATURE_WINDOW // 2


@dataclass(frozen=True)
class EncoderName:
    """The parts of an encoder's name, `BASE[:LAYER][@LATENCY]`."""

    base: str
    # "", "last", "logits" or a number
    layer: str
    # "" for an encoder of the whole clip
    latency: str

    @classmethod
    def of(cls, text: str) -> EncoderName:
        """The parts of `text`. A folder may have @ and : in its own name."""
        base, _, latency = text.rpartition("@")
        if not base or "/" in latency or "\\" in latency:
            base, latency = text, ""

        front, _, layer = base.rpartition(":")
        if not front or not (layer in LAYERS or layer.isdecimal()):
            front, layer = base, ""
        return cls(ALIASES.get(front, front), layer, latency)


@dataclass(frozen=True)
class Latency:
    """A latency: how much later audio the encoder reads, and how far feature windows are shifted.

    Both are counted in steps of 20 ms. Total look-ahead of a frame = 0.28 s + ahead - shift.
    """

    name: str
    # steps of audio that the encoder reads after the step that it computes
    ahead: int
    # steps by which feature windows lie earlier; a multiple of STEPS_PER_FRAME
    shift: int

    @property
    def seconds(self) -> float:
        """Look-ahead, s: audio after a frame's time that the frame's attention window needs."""
        return (STEPS_AFTER_FRAME + self.ahead - self.shift) / FEATURE_RATE


LATENCIES = {known.name: known for known in (Latency("stream", 11, 0), Latency("low", 4, 6))}

# The encoder of live sessions, and its latency: it has no other.
CAUSAL = "hama-causal"
CAUSAL_LATENCY = Latency("causal", 6, 8)


def find_latency(name: str) -> Latency:
    """The latency called `name`. Raises UsageError for an unknown one."""
    if name not in LATENCIES:
        near = difflib.get_close_matches(name, LATENCIES, 1)
        raise UsageError(
            f"no latency is called {name!r}",
            "known are: whole, " + ", ".join(LATENCIES),
            f"Did you mean {near[0]!r}?" if near else "",
        )
    return LATENCIES[name]


def latency_of(encoder: str) -> Latency | None:
    """The latency of the encoder called `encoder`; None where it reads whole clips.

    Raises UsageError for an unknown latency in the name.
    """
    parts = EncoderName.of(encoder)
    if parts.latency:
        return find_latency(parts.latency)
    return CAUSAL_LATENCY if parts.base == CAUSAL else None


def name_with_latency(name: str, latency: str | None) -> str:
    """The name `NAME@LATENCY` under which a dataset keeps features.

    latency: "whole", "stream" or "low"; None: the one in `name`, if any. Raises UsageError for an
    unknown latency, and for a second one beside that in `name`.
    """
    in_name = EncoderName.of(name).latency
    if in_name:
        find_latency(in_name)
    if latency is None or (latency == "whole" and not in_name):
        return name
    if in_name:
        raise UsageError(
            f"the latency of {name} is given twice",
            f"in its name and as {latency!r}",
            "Leave one of them out",
        )
    return f"{name}@{find_latency(latency).name}"


def feature_file_name(name: str) -> str:
    """Name of the file in which a dataset keeps the features of the encoder `name`."""
    if name in FAMILY_FILES:
        return FAMILY_FILES[name]
    parts = EncoderName.of(name)

    # Two folders with the same last part get different file names.
    base, folder = parts.base, Path(parts.base)
    if folder.is_dir():
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
        base = f"{folder.resolve().name}-{digest[:6]}"

    text = "_".join(part for part in (base, parts.layer, parts.latency) if part)
    safe = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in text)
    return f"aud_{safe}.npy"
