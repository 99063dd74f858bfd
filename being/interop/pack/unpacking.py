"""Restores a dataset from its pack: writes the stored files and recomputes the other ones.

The size of the pack bounds the size of the dataset, no file name leads out of the folder, and the
dataset appears only when it is complete.
"""

from __future__ import annotations

import io
import math
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from being.console import Progress, console
from being.data.dataset import Dataset
from being.data.frames import write_frames, write_image
from being.data.manifest import manifest_fault
from being.data.source_video import SOURCE_STEM, source_frames
from being.errors import InputRejected
from being.files import write_json
from being.interop.pack.codecs import (
    DamagedPack,
    HashedImages,
    LabelPalette,
    content_digest,
    decode_array,
    decode_clip,
    decode_labels,
    decompress,
    numpy_file_bytes,
)
from being.interop.pack.packing import (
    FORMAT,
    INDEX,
    RECREATED_STEPS,
    VERSION,
    Entry,
    outputs_of_steps,
)
from being.names import path_inside
from being.paths import check_not_input, user_path
from being.preprocess.inspection.record import InspectionRecord
from being.preprocess.report import write_report
from being.preprocess.step_graph import StopFlag
from being.preprocess.steps import (
    FORMER_STEP_NAMES,
    INSPECTION_FILE,
    STEPS,
    Settings,
    StepContext,
)
from being.preprocess.workspace import WORK_FOLDER, digest_of, new_dataset, sha256
from being.reading.arrays import KINDS, expansion_limit
from being.reading.content import Unreadable, reason
from being.reading.structured import parse_json, read_json

INDEX_MAX = 32 << 20  # bytes
# Pixels of all frames and label images: an hour at 1024 px has 2^36.5 for each.
PIXELS_MAX = 1 << 39
# Pixels that may come out for each byte of the pack, and pixels besides. Our packs have 60.
PIXELS_PER_BYTE, PIXELS_FREE = 1000, 1 << 28
ENTRIES_MAX = 10_000
SEQUENCES_MAX = 32  # frames and folders of label images: a dataset has six
FILES_MAX = 1_000_000
PATH_DEPTH_MAX = 4
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8})?")
DAMAGED_FIX = "It was altered, or did not arrive complete: copy it again"
# Kinds of Python errors that a damaged pack may cause while it is read.
READ_ERRORS = (
    DamagedPack,
    Unreadable,
    AssertionError,
    cv2.error,
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
)


def unpack(file: Path, out: Path) -> Path:
    """Write the dataset of a pack to `out`, which appears only when it is complete; returns `out`.

    Frames and plates are computed again, every other file is the packed one. Differences from the
    original are printed and noted in `dataset.json`. Raises InputRejected (no pack, altered, cut
    off), BeingError (cannot write, or `out` exists).
    """
    file, out = user_path(file), user_path(out).absolute()
    with _open_pack(file) as (archive, index):
        check_not_input(out, [file])
        with new_dataset(out) as folder:
            _Unpacker(archive, index, folder).write()
            _compare(folder, index["clip"]["kind"] == "encoded")
            if index["report"]:
                write_report(folder)
            Dataset.open(folder)
    return out


def packed_name(file: Path) -> str:
    """The subject's name in a pack, which can be a folder's name. Raises InputRejected as `unpack`.

    The runs of the unpacked dataset have this name too, whatever the pack's file is called.
    """
    with _open_pack(user_path(file)) as (_, index):
        return str(parse_json(index["manifest"])["name"])  # `_read_index` has checked it


class _Unpacker:
    """Writes the files of an archive into a folder."""

    def __init__(self, archive: zipfile.ZipFile, index: Entry, folder: Path):
        self.archive, self.index, self.folder = archive, index, folder
        self.frames, self.shape = index["frames"], (index["height"], index["width"])
        self.manifest: Entry = parse_json(index["manifest"])

    def write(self) -> None:
        """Write all files; plates last, because they are computed from the others.

        Raises DamagedPack where anything is wrong.
        """
        arrays, labels, files = (
            [entry for entry in self.index["entries"] if entry["kind"] == kind]
            for kind in ("arrays", "pictures", "files")
        )
        with Progress("unpack", self.frames * (2 + len(labels)), "images") as progress:
            for entry in arrays:
                self._write_arrays(entry)
            self._write_frames(self.index["clip"], progress)
            for entry in labels:
                self._write_labels(entry, progress)
            for entry in files:
                self._write_files(entry)
            self._new_file("dataset.json").write_text(self.index["manifest"])
            if "plates" in self.manifest.get("steps", {}):
                _compute_plates(self.folder, self.manifest, progress)

    def _new_file(self, name: str) -> Path:
        """The path of a file to write, in an existing folder.

        Raises DamagedPack for a name that leads out of the dataset or that exists.
        """
        path = path_inside(self.folder, name)
        _check(len(path.relative_to(self.folder).parts) <= PATH_DEPTH_MAX, f"a file named {name!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _check(not path.exists(), f"two files named {name!r}")
        return path

    def _write_frames(self, clip: Entry, progress: Progress) -> None:
        """Write ori_imgs from the source video or from the encoded frames."""
        if clip["kind"] == "source":
            _check(bool(SUFFIX.fullmatch(clip["suffix"])), "the name of its source video")
            source = self._new_file(SOURCE_STEM + clip["suffix"])
            with self.archive.open("source") as packed, open(source, "wb") as file:
                shutil.copyfileobj(packed, file)
            _check(sha256(source) == self.manifest["source"]["sha256"], "its source video")
            images = source_frames(source, self.manifest)
        else:
            content = io.BytesIO(self.archive.read(clip["part"]))
            images = decode_clip(content, self.shape, self.frames)
        written = write_frames(images, self.folder / "ori_imgs", progress.advance)
        _check(len(written) == self.frames, f"{len(written)} of {self.frames} frames")

    def _write_labels(self, entry: Entry, progress: Progress) -> None:
        """Write a folder of label images."""
        content = io.BytesIO(self.archive.read(entry["part"]))
        hashed = HashedImages(decode_labels(content, self.shape, self.frames))
        palette = LabelPalette(entry["colours"])
        for i, image in enumerate(palette.to_images(iter(hashed))):
            write_image(self._new_file(f"{entry['folder']}/{i}.png"), image)
            progress.advance()
        _check(hashed.hexdigest() == entry["sha256"], f"its folder {entry['folder']}")

    def _write_arrays(self, entry: Entry) -> None:
        """Write a .npy or .npz file."""
        arrays = {}
        for array in entry["arrays"]:
            parts = {part: self.archive.read(name) for part, name in array["parts"].items()}
            values = arrays[array["name"]] = decode_array(array, parts)
            _check(content_digest(values) == array["sha256"], f"its {entry['path']}")
        content = numpy_file_bytes(entry["writer"], arrays)
        self._new_file(entry["path"]).write_bytes(content)

    def _write_files(self, entry: Entry) -> None:
        """Write the files that were stored one after the other."""
        size = sum(size for _, size in entry["files"])
        joined = decompress(self.archive.read(entry["part"]), size)
        _check(content_digest(joined) == entry["sha256"], "its files")
        stream = io.BytesIO(joined)
        for name, size in entry["files"]:
            self._new_file(name).write_bytes(stream.read(size))


# --- the archive


@contextmanager
def _open_pack(file: Path) -> Iterator[tuple[zipfile.ZipFile, Entry]]:
    """The archive and its checked index.

    Raises InputRejected, also for errors in the body of the `with` that a damaged pack causes.
    """
    if not file.is_file():
        raise InputRejected(
            f"{file} {'is not a file' if file.exists() else 'does not exist'}", fix="Check the path"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive, _read_index(archive, file.stat().st_size)
    except READ_ERRORS as error:
        raise InputRejected(
            f"{file} is not a packed dataset, or a damaged one", reason(error), DAMAGED_FIX
        ) from error


def _read_index(archive: zipfile.ZipFile, size: int) -> Entry:
    """`pack.json` of an archive of `size` bytes, checked. Raises DamagedPack."""
    stored = all(
        info.compress_type == zipfile.ZIP_STORED and info.file_size <= size
        for info in archive.infolist()
    )
    _check(stored, "it holds compressed parts")
    inside = all(0 <= info.header_offset < size for info in archive.infolist())
    _check(inside, "its directory points beside the file")
    _check(
        INDEX in archive.namelist() and archive.getinfo(INDEX).file_size <= INDEX_MAX,
        f"it has no {INDEX}",
    )

    # Format, version and size of the frames.
    index = parse_json(archive.read(INDEX).decode())
    _check(
        isinstance(index, dict) and index.get("format") == FORMAT, f"its {INDEX} is of another kind"
    )
    if index["version"] != VERSION:
        raise DamagedPack(f"it is of version {index['version']}, this program reads {VERSION}")
    frames, height, width = (index[key] for key in ("frames", "height", "width"))
    manifest = parse_json(index["manifest"])
    fault = manifest_fault(manifest)
    _check(not fault, f"its dataset.json: {fault}")
    _check(
        [manifest[key] for key in ("frames", "height", "width")] == [frames, height, width],
        "its dataset.json",
    )

    # The size of the pack bounds the pixels and bytes that may come out.
    entries = index["entries"]
    _check(isinstance(entries, list) and len(entries) <= ENTRIES_MAX, "its entries")
    sequences = 1 + sum(entry["kind"] == "pictures" for entry in entries)
    _check(sequences <= SEQUENCES_MAX, f"{sequences} image sequences")
    pixels = sequences * frames * height * width
    _check(
        pixels <= min(PIXELS_MAX, PIXELS_PER_BYTE * size + PIXELS_FREE),
        f"it claims {sequences} times {frames} images of {width}x{height}",
    )
    total = sum(_entry_bytes(entry) for entry in entries)
    _check(total <= expansion_limit(size), f"it claims to hold {total / 1e6:.0f} MB")
    return index


def _entry_bytes(entry: Entry) -> int:
    """The bytes of an entry's files and arrays. Raises DamagedPack for an entry that is wrong."""
    _check(entry["kind"] in ("arrays", "files", "pictures"), f"a part of kind {entry['kind']!r}")
    sizes = [size for _, size in entry.get("files", ())]
    for array in entry.get("arrays", ()):
        dtype, shape = np.dtype(array["dtype"]), array["shape"]
        _check(dtype.kind in KINDS and all(type(n) is int and n >= 0 for n in shape), "an array")
        sizes.append(math.prod(shape) * dtype.itemsize)
    _check(len(sizes) <= FILES_MAX and all(type(n) is int and n >= 0 for n in sizes), "sizes")
    return sum(sizes)


# --- after the files


def _compute_plates(folder: Path, manifest: Entry, progress: Progress) -> None:
    """Run the preprocessing step "plates" in the dataset `folder`."""
    record = InspectionRecord(
        crop=(0, 0, 0),
        size=manifest["width"],
        frames=manifest["frames"],
        segment_starts=(),
        source_runs=(),
        segments=tuple((start, stop) for start, stop in manifest["segments"]),
        source_seconds=0.0,
        findings=(),
    )
    record.write(folder / INSPECTION_FILE)
    step = next(step for step in STEPS if step.name == "plates")
    context = StepContext(folder, folder, Settings(manifest["width"]), StopFlag())
    step.run(context, progress.advance)


def _compare(folder: Path, encoded: bool) -> None:
    """Compare the files of each step with the packed dataset's; print and note those that differ.

    encoded: whether the frames were encoded again.
    """
    manifest, outputs = read_json(folder / "dataset.json"), outputs_of_steps()
    recorded = manifest.get("steps", {})
    steps = {FORMER_STEP_NAMES.get(name, name): step for name, step in recorded.items()}
    digests = {
        name: digest_of(folder, outputs[name])
        for name in steps
        if name in outputs and not outputs[name][0].startswith(WORK_FOLDER)
    }
    different = [name for name in digests if steps[name]["digest"] != digests[name]]
    if encoded and "frames" not in different:
        different.insert(0, "frames")
    if not different:
        console.info(f"the files of all {len(digests)} steps are the packed ones, bit for bit")
        return

    # Say why they differ.
    why = "by other versions of being or its libraries"
    if encoded:
        why = "from frames that were encoded again, within compression"
    stored = ""
    if any(name not in RECREATED_STEPS for name in different):
        stored = "; the other files hold the same values in other bytes"
    console.info(
        f"not bit for bit the packed files: {', '.join(different)}. "
        f"Frames and plates were computed again {why}{stored}"
    )

    # Note the new digests.
    for name in set(different) & set(digests):
        steps[name]["digest"] = digests[name]
    write_json(folder / "dataset.json", {**manifest, "unpacked": {"other bytes": different}})


def _check(holds: bool, what: str) -> None:
    """Raise DamagedPack that names `what` unless `holds`."""
    if not holds:
        raise DamagedPack(f"{what}: not as it should be")
