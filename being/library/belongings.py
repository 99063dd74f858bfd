"""What under the home was made of one person, in the order in which it is removed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from being.errors import InputRejected, UsageError
from being.files import PART_NAME
from being.library.entries import dataset_of, read_record
from being.library.places import (
    DATASET_MARKER,
    RUN_MARKER,
    Place,
    children,
    is_left_by_removal,
    is_work_of,
    places,
    size_on_disk,
)
from being.paths import real_path

REPORT_MARKER = "metrics.json"
PACK_SUFFIX = ".being"


@dataclass(frozen=True)
class Item:
    """A file, folder or link to remove."""

    kind: str
    path: Path
    bytes: int  # on the disk
    lock: Path | None = None  # the dataset or run whose lock is held meanwhile


@dataclass(frozen=True)
class Belongings:
    """All that was made of a person."""

    # In the order of removal. Where it is stopped, a later call finds the reports of videos by the
    # runs, and the runs by the datasets.
    items: list[Item]
    folders: list[Path]  # of the subject; removed when they are empty
    kept: list[str]  # what stays, and why
    shared: list[Path]  # folders of all subjects, in which killed processes leave lock files


def find_belongings(name: str, home: Path) -> Belongings:
    """What under `home` was made of the subject `name`, and what stopped removals have left.

    A dataset belongs to the subject by its folder's name or by its own. A run belongs to it by the
    name of its subject or of the folder `runs/NAME`, or by its dataset. No link is followed, except
    `data/`, `runs/`, `eval/` and `exports/` themselves. Raises UsageError for what is no name.
    """
    if not name or name in (".", "..") or os.path.basename(name) != name or name.startswith("."):
        raise UsageError(
            f"'{name}' is not the name of a subject",
            "it is the name of a dataset or of a folder in runs/",
            "See the names with: being list",
        )
    finder = _Finder(name, home)
    datasets = finder.datasets()
    runs = finder.runs([item.path for item in datasets])
    others = finder.packs() + finder.exports() + finder.reports([*datasets, *runs])
    items = _outermost([*finder.left_behind(), *others, *runs, *datasets])
    return Belongings(items, finder.folders, finder.kept, finder.shared_folders())


class _Finder:
    """Searches the folders of a home for what belongs to the subject `name`."""

    def __init__(self, name: str, home: Path):
        self.name, self.home = name, home
        self.folders: list[Path] = []
        self.kept: list[str] = []

    def datasets(self) -> list[Item]:
        """The datasets of the subject, and the hidden folders in which they are made."""
        root = self.home / "data"
        found = [path for path in children(root) if path.name == self.name]
        all_places = places(root, DATASET_MARKER)
        for place in all_places:
            record = {} if place.hidden else read_record(place.path / DATASET_MARKER)
            if not place.hidden and self.name in (place.path.name, record.get("name")):
                found += self._reachable(place)
        targets = {root / self.name, *found}
        items = [self._item("dataset", path, lock=path) for path in found]
        for place in all_places:
            owner = next((t for t in targets if _is_work_on(place, t)), None)
            if owner is not None:
                items.append(self._item("unfinished dataset", place.path, lock=owner))
        return items

    def runs(self, datasets: list[Path]) -> list[Item]:
        """The runs of the subject or of one of the datasets, with all that lies in them."""
        root = self.home / "runs"
        items: list[Item] = []
        for path in children(root):
            if path.name == self.name:
                items += self._subject_folder(path)
        taken = {item.path for item in items}
        real = {real_path(path) for path in datasets if not path.is_symlink()}
        if not (self.home / "data" / self.name).is_symlink():
            real.add(real_path(self.home / "data" / self.name))  # also where it is gone already
        for place in places(root, RUN_MARKER):
            if place.hidden or place.path in taken or place.path.parent == root / self.name:
                continue
            record = read_record(place.path / RUN_MARKER)
            data = dataset_of(place.path, record, self.home)
            if record.get("name") == self.name or data in real:
                items += [self._item("run", path, lock=path) for path in self._reachable(place)]
                self._note_dataset(place.path, data)
        return items

    def _subject_folder(self, folder: Path) -> list[Item]:
        """The folder `runs/NAME`: a link or a run itself, else everything in it."""
        if folder.is_symlink() or not folder.is_dir():
            return [self._item("run", folder, lock=folder)]
        if os.path.lexists(folder / RUN_MARKER):
            return [self._item("run", folder, lock=folder)]
        items = []
        for path in children(folder):
            if path.name.startswith(".") and path.name.endswith(".lock"):
                continue
            is_run = os.path.lexists(path / RUN_MARKER)
            kind = "run" if is_run else "file" if path.is_file() else "folder"
            items.append(self._item(kind, path, lock=path if is_run else None))
            if is_run:
                record = read_record(path / RUN_MARKER)
                self._note_dataset(path, dataset_of(path, record, self.home))
        self.folders.append(folder)
        return items

    def packs(self) -> list[Item]:
        """The packed datasets of the subject in the home, `data/` and `runs/`."""
        folders = (self.home, self.home / "data", self.home / "runs")
        files = [path for folder in folders for path in children(folder)]
        return [
            self._item("pack", path)
            for path in files
            if path.suffix == PACK_SUFFIX and path.is_file() and self._is_own_pack(path)
        ]

    def _is_own_pack(self, file: Path) -> bool:
        """Whether a pack is of the subject: by its content, or by its name where it is damaged."""
        stem, _, number = file.stem.rpartition("-")
        by_name = file.stem == self.name or (stem == self.name and number.isdigit())
        try:
            from being.interop.pack.unpacking import packed_name

            return packed_name(file) == self.name
        except (OSError, InputRejected, ModuleNotFoundError):
            return by_name

    def exports(self) -> list[Item]:
        """The directories for other systems: `exports/NAME-SYSTEM`."""
        return [
            self._item("export", path, lock=path)
            for path in children(self.home / "exports")
            if _target_name(path.name).rpartition("-")[0] == self.name
        ]

    def reports(self, items: list[Item]) -> list[Item]:
        """The reports `eval/*` of videos that lie in `items` or are called NAME."""
        inside = [real_path(item.path) for item in items if not item.path.is_symlink()]
        return [
            self._item("report", folder, lock=folder)
            for folder in children(self.home / "eval")
            if self._is_of(read_record(folder / REPORT_MARKER), inside)
        ]

    def _is_of(self, figures: dict[str, Any], inside: list[Path]) -> bool:
        """Whether a report is of a video that lies in one of the folders or is called NAME."""
        for key in ("pred", "truth"):
            video = figures.get(key)
            if not isinstance(video, str):
                continue
            try:
                real = real_path(self.home / video)
            except (OSError, ValueError):  # no file system takes the name
                continue
            if real.stem == self.name or any(folder in real.parents for folder in inside):
                return True
        return False

    def left_behind(self) -> list[Item]:
        """What removals that were stopped have left, of any subject: it was to be removed."""
        return [
            self._item("left by a removal", path)
            for folder in (self.home, *self.shared_folders())
            for path in children(folder)
            if is_left_by_removal(path)
        ]

    def shared_folders(self) -> list[Path]:
        """The folders of datasets, runs, reports and exports, and those in them; no links."""
        roots = [self.home / name for name in ("data", "runs", "eval", "exports")]
        inside = [path for root in roots for path in children(root)]
        return [*roots, *(path for path in inside if path.is_dir() and not path.is_symlink())]

    def _reachable(self, place: Place) -> list[Path]:
        """The path of a place, unless it lies behind a link to another folder: that is noted."""
        if place.link in (None, place.path):
            return [place.path]
        self.kept.append(f"{place.path} stays: it lies behind the link {place.link}")
        return []

    def _item(self, kind: str, path: Path, lock: Path | None = None) -> Item:
        if path.is_symlink():
            self.kept.append(f"{real_path(path)} stays: only the link {path} to it is removed")
            kind = f"link to a {kind}"
        return Item(kind, path, size_on_disk(path), lock)

    def _note_dataset(self, run: Path, data: Path | None) -> None:
        """Note that a run's dataset stays, where it lies outside the home."""
        if data is None or not os.path.isfile(data / DATASET_MARKER):
            return
        if real_path(self.home / "data") not in data.parents:
            note = f"{data} stays: the dataset of {run} lies outside {self.home / 'data'}"
            self.kept.append(note)


def _target_name(name: str) -> str:
    """`name`, or of a hidden part the name that it was to get."""
    return name[1:].partition(".part-")[0] if PART_NAME.fullmatch(name) else name


def _is_work_on(place: Place, target: Path) -> bool:
    """Whether a place is a hidden folder in which the dataset `target` is made."""
    same_folder = place.path.parent == target.parent
    return place.hidden and same_folder and is_work_of(place.path.name, target.name)


def _outermost(items: Iterable[Item]) -> list[Item]:
    """The items in their order, each once, without those that lie in others."""
    by_path = {item.path: item for item in reversed(list(items))}
    outer = [item for item in by_path.values() if not set(item.path.parents) & by_path.keys()]
    return outer[::-1]
