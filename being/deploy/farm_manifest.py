"""The manifest of a farm: which subjects are preprocessed, trained and rendered, and how."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from being.config import load
from being.config.files import CONFIG_DIR, resolve
from being.data.consent import STATEMENT_MAX
from being.errors import BeingError, InputRejected, UsageError
from being.names import is_subject_name
from being.paths import user_path
from being.reading.content import Unreadable, read_text
from being.reading.structured import SETTINGS_MAX, parse_yaml

SUBJECTS_MAX = 10_000
FAULTS_SHOWN = 8
SHOWN = 60  # characters of a wrong value that an error shows
ATTEMPTS_MAX = 20
GPU_CONFIG, CPU_CONFIG = "64_dim_1_transformer", "quick"


@dataclass(frozen=True)
class Subject:
    """One subject of a farm. The fields are the keys of the manifest."""

    name: str
    video: tuple[Path, ...]  # clips of one person
    consent: str | None  # whose face it is and how they agreed; None: unconfirmed
    size: int | None = None
    tight: bool = False
    parser: str | None = None
    au: Path | None = None
    audio: Path | None = None  # a separate recording of the voice
    encoder: str | None = None
    latency: str | None = None
    config: str | None = None  # a file or a shipped config's name; None: by `gpus`
    override: tuple[str, ...] = ()
    text: str | None = None  # what the rendered video says
    voice: str | None = None
    speech: Path | None = None  # sound of the rendered video; neither: the sound of the clip
    gpus: int = 0  # of training and rendering
    cpus: int = 1  # of each stage
    attempts: int = 3  # of a stage that crashes

    @property
    def config_name(self) -> str:
        """The config of the training."""
        return self.config or (GPU_CONFIG if self.gpus else CPU_CONFIG)

    @property
    def device(self) -> str:
        """The device of training and rendering."""
        return "cuda" if self.gpus else "cpu"


KEYS = tuple(item.name for item in fields(Subject))
# What `defaults` may not set: it belongs to one person.
OWN_KEYS = ("name", "video", "consent")
REQUIRED = ("name", "video", "consent")
PATHS = ("video", "au", "audio", "speech")
LEAST = {"size": 128, "gpus": 0, "cpus": 1, "attempts": 1}
MOST = {"size": 2048, "gpus": 64, "cpus": 1024, "attempts": ATTEMPTS_MAX}
EXAMPLE = 'subjects: [{name: anna, video: anna.mp4, consent: "my own face"}]'


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a manifest."""

    text: str
    is_input: bool = False  # a file is missing; else the manifest itself is wrong


def read_manifest(path: Path) -> list[Subject]:
    """The subjects of a manifest, in its order.

    Paths in it are relative to its folder. All faults are told in one error: UsageError (unknown
    key, wrong value, no consent, a config that cannot be used), or InputRejected where only files
    are missing.
    """
    try:
        tree = parse_yaml(read_text(path, SETTINGS_MAX))
    except FileNotFoundError as error:
        raise InputRejected(
            f"there is no manifest {path}", fix=f"Write one, for instance: {EXAMPLE}"
        ) from error
    except (OSError, Unreadable) as error:
        raise UsageError(f"cannot read the manifest {path}", str(error), "Correct it") from error
    subjects, faults = parse_manifest(tree, path.parent)
    if faults:
        raise _faults_error(path, faults)
    return subjects


def parse_manifest(tree: Any, folder: Path) -> tuple[list[Subject], list[Fault]]:
    """The subjects that can be used, and everything that is wrong. folder: of relative paths."""
    if not isinstance(tree, dict) or not isinstance(tree.get("subjects"), list):
        return [], [Fault(f"it has no list `subjects`, for instance {EXAMPLE}")]
    faults = [
        Fault(_unknown("", key, ("defaults", "subjects")))
        for key in tree
        if key not in ("defaults", "subjects")
    ]
    if not 0 < len(tree["subjects"]) <= SUBJECTS_MAX:
        return [], [*faults, Fault(f"it has {len(tree['subjects'])} subjects, not 1 to 10,000")]
    defaults = tree.get("defaults") or {}
    if not isinstance(defaults, dict):
        return [], [*faults, Fault("`defaults` is no mapping of keys to values")]
    found: list[Subject] = []
    allowed = tuple(key for key in KEYS if key not in OWN_KEYS)
    shared, wrong = _values(defaults, "defaults: ", allowed, folder)
    faults += wrong
    for number, item in enumerate(tree["subjects"], 1):
        subject, wrong = _subject(item, number, shared, folder)
        faults += wrong
        if subject is not None:
            found.append(subject)
    faults += _doubled(found)
    return found, faults


def _subject(
    item: Any, number: int, shared: dict[str, Any], folder: Path
) -> tuple[Subject | None, list[Fault]]:
    """The subject of one entry, and its faults."""
    if not isinstance(item, dict):
        return None, [Fault(f"subject {number} is no mapping of keys to values")]
    name = item.get("name")
    where = f"subject '{name}': " if is_subject_name(name) else f"subject {number}: "
    values, faults = _values(item, where, KEYS, folder)
    if "consent" not in item:
        faults.append(
            Fault(
                f"{where}`consent` is missing: write whose face it is and how they agreed, or null "
                "where that is unconfirmed, which every video will say"
            )
        )
    for key in ("name", "video"):
        if key not in item:
            faults.append(Fault(f"{where}`{key}` is missing"))
    if "name" in values and not is_subject_name(values["name"]):
        faults.append(Fault(f"{where}{_short(values['name'])} cannot be a name of folders"))
    if len(values.get("consent") or "") > STATEMENT_MAX:
        faults.append(Fault(f"{where}`consent` has more than {STATEMENT_MAX} characters"))
    merged = {**shared, **values}
    if merged.get("text") is not None and merged.get("speech") is not None:
        # What a subject says itself goes before what `defaults` say.
        own = [key for key in ("text", "speech") if key in values]
        if len(own) == 1:
            merged["speech" if own == ["text"] else "text"] = None
        else:
            faults.append(Fault(f"{where}`text` and `speech` exclude each other"))
    if any(key not in merged for key in REQUIRED):
        return None, faults
    subject = Subject(**merged)
    faults += _file_faults(subject, where)
    faults += _config_faults(subject, where)
    return None if faults else subject, faults


def _values(
    tree: dict[Any, Any], where: str, allowed: tuple[str, ...], folder: Path
) -> tuple[dict[str, Any], list[Fault]]:
    """The values of an entry by their keys, with their types, and what is wrong with them."""
    hints = typing.get_type_hints(Subject)
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in tree.items():
        if key not in allowed:
            faults.append(Fault(_unknown(where, key, allowed)))
            continue
        try:
            values[key] = _converted(key, value, hints[key], folder)
        except ValueError as error:
            faults.append(Fault(f"{where}`{key}` {error}, not {_short(value)}"))
        except BeingError as error:  # a URL
            faults.append(Fault(f"{where}`{key}`: {error}"))
    return values, faults


def _converted(key: str, value: Any, hint: Any, folder: Path) -> Any:
    """`value` as the type of the key. Raises ValueError, which says what it must be."""
    if key == "consent" and isinstance(value, str) and not value.strip():
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) and item for item in items) or (
            key == "video" and not items
        ):
            raise ValueError("must be a text or a list of texts")
        return tuple(_path(item, folder) for item in items) if key in PATHS else tuple(items)
    if hint is Path:
        if not isinstance(value, str) or not value:
            raise ValueError("must be a path")
        return _path(value, folder)
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if hint is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not LEAST[key] <= value <= MOST[key]:
            raise ValueError(f"must be a whole number from {LEAST[key]} to {MOST[key]}")
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if key == "config" and not (CONFIG_DIR / f"{Path(value).stem}.yaml").is_file():
        return str(_path(value, folder))
    return value


def _path(text: str, folder: Path) -> Path:
    """The absolute path that a manifest in `folder` means. Raises InputRejected for a URL."""
    return (folder / user_path(text)).absolute()


def _file_faults(subject: Subject, where: str) -> Iterator[Fault]:
    """The files of a subject that are missing."""
    files = [("video", clip) for clip in subject.video]
    files += [(key, getattr(subject, key)) for key in ("au", "audio", "speech")]
    for key, file in files:
        if file is not None and not file.is_file():
            why = "is a folder" if file.is_dir() else "does not exist"
            yield Fault(f"{where}`{key}` {file} {why}", is_input=True)


def _config_faults(subject: Subject, where: str) -> Iterator[Fault]:
    """Why the training's config cannot be used, if it cannot."""
    try:
        load(resolve(subject.config_name), list(subject.override))
    except BeingError as error:
        yield Fault(f"{where}{error}")


def _doubled(subjects: list[Subject]) -> Iterator[Fault]:
    """Names that two subjects have; on some systems folders differ by more than capitals."""
    seen: dict[str, str] = {}
    for subject in subjects:
        other = seen.setdefault(subject.name.casefold(), subject.name)
        if other is not subject.name:
            yield Fault(f"two subjects are called '{other}' and '{subject.name}'")


def _unknown(where: str, key: Any, known: tuple[str, ...]) -> str:
    """The fault of an unknown key, with the nearest known one."""
    near = difflib.get_close_matches(str(key)[:SHOWN], known, 1)
    if near:
        return f"{where}unknown key {_short(key)}, did you mean '{near[0]}'?"
    if key in OWN_KEYS:
        return f"{where}{_short(key)} belongs to each subject"
    return f"{where}unknown key {_short(key)}, known are {', '.join(known)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _faults_error(path: Path, faults: list[Fault]) -> BeingError:
    """All faults in one error."""
    shown = "; ".join(fault.text.rstrip(".") for fault in faults[:FAULTS_SHOWN])
    if len(faults) > FAULTS_SHOWN:
        shown += f"; and {len(faults) - FAULTS_SHOWN} more"
    what = f"the manifest {path} cannot be used"
    fix = "Nothing was begun; docs/scaling.md lists the keys"
    if all(fault.is_input for fault in faults):
        return InputRejected(what, shown, "Nothing was begun; correct the paths")
    return UsageError(what, shown, fix)
