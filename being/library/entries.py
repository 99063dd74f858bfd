"""The entries of `being list`: every dataset, run and avatar under the home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from being.data.manifest import read_manifest
from being.errors import BeingError, InputRejected
from being.library.places import (
    DATASET_MARKER,
    RUN_MARKER,
    Place,
    is_left_by_removal,
    places,
    size_on_disk,
)
from being.locks import holder
from being.paths import real_path
from being.reading.structured import read_json
from being.runs.record_checks import check_run_record

AVATAR_MANIFEST = "avatar/manifest.json"
UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True)
class Entry:
    """A dataset, a run or an avatar."""

    kind: str  # dataset, run or avatar
    name: str  # of the subject; of the folder where that cannot be read
    path: Path
    bytes: int  # on the disk; of a run with its avatar and videos
    state: str
    frames: int | None = None  # of a dataset; poses of an avatar
    steps: int | None = None  # of the last checkpoint of a run
    consent: str = ""  # the statement, or "unconfirmed"; empty where it is not known
    licence: str = ""
    changed: float = 0.0  # seconds since the epoch
    damage: str = ""  # what is wrong with it


def list_entries(home: Path) -> list[Entry]:
    """All entries under `home`. What is damaged, unfinished or left behind is listed, too."""
    entries = [_dataset(place) for place in places(home / "data", DATASET_MARKER)]
    for place in places(home / "runs", RUN_MARKER):
        entries += _run_with_avatar(place, home)
    return entries


def dataset_of(run: Path, record: dict[str, Any], home: Path) -> Path | None:
    """The dataset of a run, without links: where its record says, or else under `data/`.

    Where it is at neither place, the one of the record; None for a record without a path.
    """
    written = record.get("dataset")
    if not isinstance(written, str):
        return None
    try:
        found = [real_path(real_path(run) / written), real_path(home / "data" / Path(written).name)]
    except (OSError, ValueError):  # no file system takes the name
        return None
    return next((place for place in found if os.path.lexists(place)), found[0])


def read_record(file: Path) -> dict[str, Any]:
    """The content of a `run.json` or `dataset.json`, unchecked; empty where it cannot be read."""
    try:
        return read_json(file)
    except (OSError, InputRejected):
        return {}


def _dataset(place: Place) -> Entry:
    if place.hidden:
        return _hidden(place, "dataset")
    path = place.path
    try:
        manifest = read_manifest(path)
    except (OSError, BeingError) as error:
        return _damaged(path, "dataset", error, DATASET_MARKER)
    return Entry(
        "dataset",
        manifest["name"],
        path,
        size_on_disk(path),
        _use(path) or "ready",
        frames=manifest["frames"],
        consent=_consent(manifest),
        licence=_licence(manifest),
        changed=_changed(path / DATASET_MARKER),
    )


def _run_with_avatar(place: Place, home: Path) -> list[Entry]:
    """The entry of a run, and that of its avatar where it has one."""
    if place.hidden:
        return [_hidden(place, "run")]
    path = place.path
    avatar = [_avatar(path)] if os.path.lexists(path / AVATAR_MANIFEST) else []
    try:
        record = read_json(path / RUN_MARKER)
        check_run_record(path / RUN_MARKER, record)
    except (OSError, BeingError) as error:
        return [_damaged(path, "run", error, RUN_MARKER), *avatar]
    data = dataset_of(path, record, home)
    consent = avatar[0].consent if avatar else ""
    if not consent and data is not None:
        consent = _consent(read_record(data / DATASET_MARKER))
    steps, reached = _progress(path)
    state = "finished" if record.get("finished") is True else reached
    entry = Entry(
        "run",
        str(record.get("name", path.parent.name)),
        path,
        size_on_disk(path),
        _use(path) or state,
        steps=steps,
        consent=consent,
        changed=_changed(path / RUN_MARKER),
    )
    return [entry, *avatar]


def _avatar(run: Path) -> Entry:
    from being.model.avatar_manifest import read_avatar_manifest

    path = run / "avatar"
    try:
        manifest = read_avatar_manifest(path)
    except (OSError, BeingError) as error:
        return _damaged(path, "avatar", error, "manifest.json", run.parent.name)
    return Entry(
        "avatar",
        manifest["name"],
        path,
        size_on_disk(path),
        _use(path) or "ready",
        frames=manifest["poses"],
        consent=_consent(manifest),
        licence=_licence(manifest),
        changed=_changed(path / "manifest.json"),
    )


def _hidden(place: Place, kind: str) -> Entry:
    """The entry of a hidden work folder."""
    path = place.path
    name, _, _ = path.name[1:].rpartition(".")
    state = "left by a command that was stopped"
    if is_left_by_removal(path):
        state = "left by a removal that was stopped"
    elif path.name.endswith(".part"):
        state = _use(path.with_name(name)) or "unfinished"
    return Entry(kind, name, path, size_on_disk(path), state, changed=_changed(path))


def _damaged(path: Path, kind: str, error: Exception, marker: str, name: str = "") -> Entry:
    """The entry of what cannot be read."""
    damage = str(error)
    if isinstance(error, BeingError):
        damage = ": ".join(filter(None, (error.what, error.why)))
    if not os.path.lexists(path / marker):
        damage = _why_missing(path, marker)
    return Entry(
        kind,
        name or path.name,
        path,
        size_on_disk(path),
        "damaged",
        changed=_changed(path / marker) or _changed(path),
        damage=damage,
    )


def _why_missing(path: Path, marker: str) -> str:
    """Why a dataset, run or avatar has no marker."""
    if path.is_symlink() and not path.exists():
        return "it is a link to nothing"
    try:
        os.listdir(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return f"it has no {marker}"


def _progress(run: Path) -> tuple[int | None, str]:
    """Step of the last checkpoint of a run, and how far it has come."""
    state = read_record(run / "checkpoints/last/state.json")
    step, stage = state.get("step"), state.get("stage")
    if not isinstance(step, int) or not isinstance(stage, str):
        return None, "not finished"
    return step, f"not finished, {stage[:20]}"


def _use(path: Path) -> str:
    return "in use" if holder(path) else ""


def _consent(manifest: dict[str, Any]) -> str:
    """The statement of consent of a manifest, or that it is unconfirmed."""
    consent = manifest.get("consent")
    statement = consent.get("statement") if isinstance(consent, dict) else None
    return statement if isinstance(statement, str) and statement else UNCONFIRMED


def _licence(manifest: dict[str, Any]) -> str:
    licence = manifest.get("licence")
    return licence if isinstance(licence, str) else ""


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
