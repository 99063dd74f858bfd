"""Speech features of a dataset: chooses an encoder, writes its features, adds other encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.audio.clip_features import encode_segments
from being.data.dataset import Dataset
from being.errors import BeingError, InputRejected, UsageError
from being.files import new_file, write_json
from being.locks import locked
from being.paths import expand_path, user_path
from being.reading.arrays import load_array
from being.reading.structured import read_json

DEFAULT_ENCODER = "hama"  # every dataset has its features
FILE_ENCODER = "deepspeech"  # the encoder whose features come from a file
SPEECH_STEP = "speech"  # the preprocessing step that writes them
FEATURE_FILES = ("aud_*.npy",)


@dataclass(frozen=True)
class FeatureChoice:
    """Speech features that a dataset is to have."""

    # of the features in the dataset, with the latency
    name: str
    # the file they come from, instead of an encoder
    array: Path | None = None

    @property
    def file(self) -> str:
        """Name of their file in the dataset."""
        from being.audio.encoder_names import feature_file_name

        return feature_file_name(self.name)


def choose_features(text: str, latency: str | None, folder: Path) -> FeatureChoice:
    """The features that `--encoder text --latency latency` asks for.

    text: NAME, or deepspeech=FILE.npy (without a file: aud_ds.npy in `folder`). Raises what is
    wrong with it before any long work: UsageError (unknown), EnvironmentFault (weights),
    InputRejected (file).
    """
    from being.audio.encoder_names import feature_file_name, name_with_latency
    from being.audio.encoders import load_encoder

    text = expand_path(text)
    name, equals, file = text.partition("=")
    if not name.strip():
        raise UsageError(
            "no speech encoder is named", f"'{text}' was given", "Give one with --encoder NAME"
        )

    # Features of another program.
    if name == FILE_ENCODER:
        if latency not in (None, "whole"):
            raise UsageError(
                f"'{FILE_ENCODER}' features have no latency {latency!r}",
                "they are read from a file",
                "Leave --latency out",
            )
        array = user_path(file) if equals else folder / feature_file_name(FILE_ENCODER)
        if not array.is_file():
            raise InputRejected(
                f"{array} is not there",
                f"'{FILE_ENCODER}' features are read from it",
                f"Give the path of the file: --encoder {FILE_ENCODER}=FILE.npy",
            )
        return FeatureChoice(FILE_ENCODER, array)
    if equals and not Path(text).exists():
        raise UsageError(
            f"only '{FILE_ENCODER}' features are read from a file",
            f"not '{name}'",
            f"--encoder {FILE_ENCODER}={file}",
        )

    # Features of an encoder, loaded once so that its errors come now.
    name = name_with_latency(text, latency)
    load_encoder(name)
    return FeatureChoice(name)


def write_features(
    folder: Path, choice: FeatureChoice, samples: np.ndarray, segments: Sequence[tuple[int, int]]
) -> None:
    """Write the file of `choice` into `folder`.

    samples: float32 [640 F] at 16 kHz. segments: as in `encode_segments`.
    """
    if choice.array is None:
        values = encode_segments(samples, segments, choice.name)
    else:
        from being.audio.encoders import load_encoder
        from being.audio.feature_files import read_feature_file

        values = read_feature_file(choice.array, segments[-1][1], load_encoder(choice.name).width)
    with new_file(folder / choice.file) as part, open(part, "wb") as file:
        np.save(file, values)


def feature_entry(folder: Path, choice: FeatureChoice) -> dict[str, Any]:
    """The entry in `dataset.json` of features that are written: file and width."""
    features = load_array(folder / choice.file, mapped=True)
    return {"file": choice.file, "width": int(features.shape[2])}


def add_features(dataset: Path, text: str, latency: str | None = None) -> tuple[str, int]:
    """Add features to the dataset at `dataset`, or make them again; their name and width.

    text, latency: as for `choose_features`. Raises as `choose_features` and `encode_segments`, and
    BeingError when the folder cannot be written, or when another process writes the dataset.
    """
    opened = Dataset.open(Path(dataset))
    choice = choose_features(text, latency, opened.path)
    with locked(opened.path, "adds features to this dataset", "Wait for it to end"):
        try:
            return choice.name, _add_features(opened, choice)
        except OSError as error:
            raise BeingError(
                f"cannot write {opened.path}", str(error), "Free some space on the disk"
            ) from error


def _add_features(opened: Dataset, choice: FeatureChoice) -> int:
    """Write features and their entry in the manifest of a dataset; returns their width."""
    from being.preprocess.workspace import digest_of

    segments = [(first, stop) for first, stop in opened.segments]
    write_features(opened.path, choice, opened.audio(), segments)
    manifest = read_json(opened.path / "dataset.json")
    manifest["features"][choice.name] = feature_entry(opened.path, choice)
    if SPEECH_STEP in manifest.get("steps", {}):
        manifest["steps"][SPEECH_STEP]["digest"] = digest_of(opened.path, FEATURE_FILES)
    write_json(opened.path / "dataset.json", manifest)
    return manifest["features"][choice.name]["width"]
