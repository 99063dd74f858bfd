"""Which speech features a dataset gets: encoders by name, arrays of other programs; also added to a
dataset later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.audio.feature_windows import SAMPLES_PER_FRAME, encode_segments
from being.data.dataset import Dataset
from being.errors import BeingError, InputRejected, UsageError
from being.files import write_json

ENCODER = "hama"  # every dataset has its features
ARRAYS = "deepspeech"  # the encoder whose features come from a file
STEP = "speech"  # the step of `preprocess` that writes them
OUTPUTS = ("aud_*.npy",)


@dataclass(frozen=True)
class Choice:
    """Features asked for."""

    name: str  # in the dataset, with the latency
    array: Path | None = None  # the file they come from, instead of an encoder

    @property
    def file(self) -> str:
        """Name of their file in the dataset."""
        from being.audio.encoders import file_of

        return file_of(self.name)


def choose(text: str, latency: str | None, beside: Path) -> Choice:
    """What `--encoder text --latency latency` means: NAME, or deepspeech=FILE.npy (without a file:
    aud_ds.npy in the folder `beside`).

    Raises what is wrong with it before any long work: UsageError (unknown), EnvironmentFault
    (weights), InputRejected.
    """
    from being.audio.encoders import encoder, file_of, named

    name, equals, file = text.partition("=")
    if not name.strip():
        raise UsageError(
            "no speech encoder is named", f"'{text}' was given", "Give one with --encoder NAME"
        )
    if name == ARRAYS:
        if latency not in (None, "whole"):
            raise UsageError(
                f"'{ARRAYS}' features have no latency {latency!r}",
                "they are read from a file",
                "Leave --latency out",
            )
        array = Path(file).expanduser() if equals else beside / file_of(ARRAYS)
        if not array.is_file():
            raise InputRejected(
                f"{array} is not there",
                f"it was to hold '{ARRAYS}' features",
                f"Give their place: --encoder {ARRAYS}=FILE.npy",
            )
        return Choice(ARRAYS, array)
    if equals and not Path(text).exists():
        raise UsageError(
            f"only '{ARRAYS}' features are read from a file",
            f"not '{name}'",
            f"--encoder {ARRAYS}={file}",
        )
    name = named(text, latency)
    encoder(name)
    return Choice(name)


def write_features(
    folder: Path, choice: Choice, sound: np.ndarray, segments: Sequence[tuple[int, int]]
) -> None:
    """Write the file of `choice` into `folder`. sound: float32 [640 F] at 16 kHz; segments: as in
    `encode_segments`.
    """
    if choice.array is None:
        values = encode_segments(sound, segments, choice.name)
    else:
        from being.audio.encoders import encoder
        from being.audio.feature_files import read_array

        values = read_array(choice.array, segments[-1][1], encoder(choice.name).width)
    part = folder / f"{choice.file}.part"
    with open(part, "wb") as file:
        np.save(file, values)
    os.replace(part, folder / choice.file)


def entry(folder: Path, choice: Choice) -> dict[str, Any]:
    """What `dataset.json` says of features that are written: file and width."""
    return {
        "file": choice.file,
        "width": int(np.load(folder / choice.file, mmap_mode="r").shape[2]),
    }


def add_features(dataset: Path, text: str, latency: str | None = None) -> tuple[str, int]:
    """Name and width of further features put into the dataset at `dataset` (made anew where it has
    them already).

    text, latency: as for `choose`. Raises as `choose` and `encode_segments`, BeingError when the
    folder cannot be written.
    """
    from being.preprocess.workspace import digest_of

    opened = Dataset.open(Path(dataset))
    choice = choose(text, latency, opened.path)
    sound = media.read_audio(opened.sound_file)
    sound = np.pad(sound, (0, max(0, opened.frames * SAMPLES_PER_FRAME - len(sound))))
    try:
        write_features(
            opened.path, choice, sound, [(first, stop) for first, stop in opened.segments]
        )
        manifest = json.loads((opened.path / "dataset.json").read_text())
        manifest["features"][choice.name] = entry(opened.path, choice)
        if STEP in manifest.get("steps", {}):
            manifest["steps"][STEP]["digest"] = digest_of(opened.path, OUTPUTS)
        write_json(opened.path / "dataset.json", manifest)
    except OSError as error:
        raise BeingError(
            f"cannot write {opened.path}", str(error), "Make room on the disk"
        ) from error
    return choice.name, manifest["features"][choice.name]["width"]
