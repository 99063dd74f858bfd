"""A dataset from its pack (`being.interop.pack.packing`): stored files put back, frames and plates made again,
all of it checked.

What comes out is bounded by what is there, no name leads out of the folder, and nothing appears
under its name until it is whole.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from uuid import uuid4

import numpy as np

from being.console import Progress, say
from being.data.dataset import Dataset
from being.data.frames import write_frames, write_image
from being.errors import BeingError, InputRejected
from being.files import read_json, write_json
from being.interop.pack.codecs import (
    Colours,
    Damaged,
    Hashed,
    array_file,
    content_digest,
    decode_array,
    decode_clip,
    decode_pictures,
    expand,
)
from being.interop.pack.packing import FORMAT, INDEX, MADE_AGAIN, VERSION, Entry, step_outputs
from being.preprocess.inspection.record import Checked
from being.preprocess.report import write_report
from being.preprocess.source import STEM, source_pictures
from being.preprocess.step_graph import Stop
from being.preprocess.steps import CHECKED, STEPS, Settings, Work
from being.preprocess.workspace import OWN, Workspace, sha256

INDEX_MAX = 32 << 20  # bytes
EXPANSION_MAX, EXPANSION_FREE = (
    20,
    64 << 20,
)  # bytes that may come out for each of the pack's, and besides
PIXELS_MAX = 1 << 37  # of all frames: an hour at 1024 px has 2^36.5
PART_OF_NAME = re.compile(r"[^.\x00-\x1f\\/:][^\x00-\x1f\\/:]{0,200}")
DAMAGED = "It was altered, or did not arrive whole: copy it again"


def unpack(file: Path, out: Path) -> Path:
    """The path of the dataset that a pack holds; `out` appears only when whole.

    Frames and plates are made again, every other file is the packed one; what differs from the
    original, if anything does, is said and noted in `dataset.json`. Raises InputRejected (no pack,
    altered, cut off), BeingError (cannot write, or something is there already).
    """
    file, out = Path(file), Path(out).absolute()
    with _opened(file) as (archive, index), Workspace(out) as place:
        place.claim(f"unpack {uuid4()}")  # what a run that was killed left is not gone on with
        try:
            _Unpacker(archive, index, place.folder).write()
            _compare(place.folder, place.digest, index["clip"]["kind"] == "encoded")
            if index["report"]:
                write_report(place.folder)
            Dataset.open(place.folder)
            place.finish()
        except OSError as error:
            raise BeingError(
                f"cannot write {out}",
                str(error),
                "Make room on the disk or choose another place with --out",
            ) from error
    return out


class _Unpacker:
    """Writes the files of an archive into a folder."""

    def __init__(self, archive: zipfile.ZipFile, index: Entry, folder: Path):
        self.archive, self.index, self.folder = archive, index, folder
        self.frames, self.shape = index["frames"], (index["height"], index["width"])
        self.manifest: Entry = json.loads(index["manifest"])

    def write(self) -> None:
        """All files: frames and plates last, as they are made from others. Raises Damaged where
        anything is amiss.
        """
        entries = self.index["entries"]
        total = self.frames * (2 + sum(entry["kind"] == "pictures" for entry in entries))
        with Progress("unpack", total, "pictures") as shown:
            for entry in (entry for entry in entries if entry["kind"] == "arrays"):
                self._arrays(entry)
            self._clip(self.index["clip"], shown)
            for entry in (entry for entry in entries if entry["kind"] == "pictures"):
                self._pictures(entry, shown)
            for entry in (entry for entry in entries if entry["kind"] == "files"):
                self._files(entry)
            self._place("dataset.json").write_text(self.index["manifest"])
            if "plates" in self.manifest.get("steps", {}):
                _make_plates(self.folder, self.manifest, shown)

    def _place(self, name: str) -> Path:
        """Where a file of this name goes, its folder made. Raises Damaged for a name that leads out
        of the dataset.
        """
        parts = PurePosixPath(name).parts
        _check(
            0 < len(parts) <= 4 and all(PART_OF_NAME.fullmatch(part) for part in parts),
            f"a file named {name!r}",
        )
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        _check(not path.exists(), f"two files named {name!r}")
        return path

    def _clip(self, clip: Entry, shown: Progress) -> None:
        if clip["kind"] == "source":
            _check(
                bool(re.fullmatch(r"(\.[A-Za-z0-9]{1,8})?", clip["suffix"])),
                "the name of its source video",
            )
            source = self._place(STEM + clip["suffix"])
            with self.archive.open("source") as packed, open(source, "wb") as file:
                shutil.copyfileobj(packed, file)
            _check(sha256(source) == self.manifest["source"]["sha256"], "its source video")
            pictures = source_pictures(source, self.manifest)
        else:
            pictures = decode_clip(
                io.BytesIO(self.archive.read(clip["part"])), self.shape, self.frames
            )
        written = write_frames(pictures, self.folder / "ori_imgs", shown.advance)
        _check(len(written) == self.frames, f"{len(written)} of {self.frames} frames")

    def _pictures(self, entry: Entry, shown: Progress) -> None:
        hashed = Hashed(
            decode_pictures(io.BytesIO(self.archive.read(entry["part"])), self.shape, self.frames)
        )
        for i, picture in enumerate(Colours(entry["colours"]).pictures(iter(hashed))):
            write_image(self._place(f"{entry['folder']}/{i}.png"), picture)
            shown.advance()
        _check(hashed.hexdigest() == entry["sha256"], f"its folder {entry['folder']}")

    def _arrays(self, entry: Entry) -> None:
        arrays = {}
        for array in entry["arrays"]:
            parts = {part: self.archive.read(name) for part, name in array["parts"].items()}
            values = arrays[array["name"]] = decode_array(array, parts)
            _check(content_digest(values) == array["sha256"], f"its {entry['path']}")
        self._place(entry["path"]).write_bytes(array_file(entry["writer"], arrays))

    def _files(self, entry: Entry) -> None:
        whole = expand(self.archive.read(entry["part"]), sum(size for _, size in entry["files"]))
        _check(content_digest(whole) == entry["sha256"], "its files")
        stream = io.BytesIO(whole)
        for name, size in entry["files"]:
            self._place(name).write_bytes(stream.read(size))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[zipfile.ZipFile, Entry]]:
    """The archive and its checked index. Raises InputRejected, also for what is found wrong while
    it is read.
    """
    if not file.is_file():
        raise InputRejected(
            f"{file} {'is not a file' if file.exists() else 'does not exist'}", fix="Check the path"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive, _index(archive, file.stat().st_size)
    except (
        Damaged,
        zipfile.BadZipFile,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputRejected(
            f"{file} is not a packed dataset, or a damaged one", why, DAMAGED
        ) from error


def _index(archive: zipfile.ZipFile, size: int) -> Entry:
    """`pack.json`, checked: what is to come out is bounded by what is there. Raises Damaged."""
    _check(
        all(
            info.compress_type == zipfile.ZIP_STORED and info.file_size <= size
            for info in archive.infolist()
        ),
        "it holds compressed parts",
    )
    _check(
        INDEX in archive.namelist() and archive.getinfo(INDEX).file_size <= INDEX_MAX,
        f"it has no {INDEX}",
    )
    index = json.loads(archive.read(INDEX))
    _check(
        isinstance(index, dict) and index.get("format") == FORMAT, f"its {INDEX} is of another kind"
    )
    if index["version"] != VERSION:
        raise Damaged(f"it is of version {index['version']}, this program reads {VERSION}")
    frames, height, width = (index[key] for key in ("frames", "height", "width"))
    _check(
        all(isinstance(n, int) and n > 0 for n in (frames, height, width))
        and frames * height * width <= PIXELS_MAX,
        f"it claims {frames} frames of {width}x{height}",
    )
    manifest, bytes_out = json.loads(index["manifest"]), 0
    _check(
        [manifest[key] for key in ("frames", "height", "width")] == [frames, height, width],
        "its dataset.json",
    )
    for entry in index["entries"]:
        _check(
            entry["kind"] in ("arrays", "files", "pictures"), f"a part of kind {entry['kind']!r}"
        )
        sizes = [size for _, size in entry.get("files", ())] + [
            math.prod(array["shape"]) * np.dtype(array["dtype"]).itemsize
            for array in entry.get("arrays", ())
        ]
        _check(all(isinstance(n, int) and n >= 0 for n in sizes), "sizes")
        bytes_out += sum(sizes)
    _check(
        bytes_out <= EXPANSION_MAX * size + EXPANSION_FREE,
        f"it claims to hold {bytes_out / 1e6:.0f} MB",
    )
    return index


def _make_plates(folder: Path, manifest: Entry, shown: Progress) -> None:
    """The files of the step "plates", by that step."""
    checked = Checked(
        crop=(0, 0, 0),
        size=manifest["width"],
        frames=manifest["frames"],
        starts=(),
        runs=(),
        segments=tuple((start, stop) for start, stop in manifest["segments"]),
        source_seconds=0.0,
        findings=(),
    )
    checked.write(folder / CHECKED)
    next(step for step in STEPS if step.name == "plates").run(
        Work(folder, folder, Settings(manifest["width"]), Stop()), shown.advance
    )


def _compare(folder: Path, digest: Callable[[tuple[str, ...]], str], encoded: bool) -> None:
    """Say, and note in dataset.json, which steps' files are not bit for bit those of the dataset
    that was packed.

    encoded: the frames were encoded anew.
    """
    manifest, outputs = read_json(folder / "dataset.json"), step_outputs()
    steps = manifest.get("steps", {})
    now = {
        name: digest(outputs[name])
        for name in steps
        if name in outputs and not outputs[name][0].startswith(OWN)
    }
    other = [name for name in now if steps[name]["digest"] != now[name]]
    if encoded and "frames" not in other:
        other.insert(0, "frames")
    if not other:
        say(f"the files of all {len(now)} steps are those that were packed, bit for bit")
        return
    why = (
        "from frames encoded anew, within compression"
        if encoded
        else "by other versions of being or its libraries"
    )
    stored = (
        "; the others hold the same in other bytes"
        if any(name not in MADE_AGAIN for name in other)
        else ""
    )
    say(
        f"not bit for bit what was packed: {', '.join(other)}. Frames and plates were made again {why}{stored}"
    )
    for name in set(other) & set(now):
        steps[name]["digest"] = now[name]
    write_json(folder / "dataset.json", {**manifest, "unpacked": {"other bytes": other}})


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Damaged(f"{what}: not as it should be")
