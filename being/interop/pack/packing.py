"""Packs a dataset into one small file.

Files that cannot be computed again are stored without loss: masks, tracks, features, audio, tables,
the consent record. Frames and plates, nine tenths of the bytes, are computed again by `unpack`.

The frames come from the source video when possible. The dataset keeps that video as a hard link,
which takes no space where the video lies on the same disk. Then every file comes out the same, bit
for bit, wherever the same library versions are installed. Otherwise the frames are encoded again
near lossless (46 dB), which always works but changes every frame a little, and with them the
plates. That happens where the source is missing, was altered, or is so large (a 4K recording) that
to store it would defeat the purpose. A message and the pack say which of the two it was.

The file is a zip archive of stored parts. `pack.json`, at its end, lists the files to restore with
their sha256.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from being.console import Progress, console
from being.data.dataset import Dataset
from being.data.frames import FrameFolder, read_image
from being.data.source_video import SOURCE_STEM, find_source, source_frames
from being.errors import BeingError, InputRejected
from being.files import Part
from being.interop.pack.codecs import (
    HashedImages,
    LabelPalette,
    TooManyColours,
    compress,
    content_digest,
    encode_array,
    encode_clip,
    encode_labels,
    numpy_file_bytes,
)
from being.locks import locked
from being.paths import check_not_input, check_writable, user_path
from being.preprocess.steps import STEPS
from being.preprocess.workspace import sha256
from being.reading.arrays import load_all_arrays, load_array

FORMAT, VERSION = "being dataset", 1
INDEX = "pack.json"
# Mean difference in grey levels below which a decoded frame counts as the stored one.
SAME_FRAME = 2.0
CHECKED_FRAMES = 8  # decoded from the source before it is used
# Steps whose files are not stored.
RECREATED_STEPS = ("frames", "plates")
# The report is not stored when the dataset holds the two files that it is built from.
REPORT_FILE, TIMES_FILE = "report.html", "times.json"

# The index and its entries, as JSON.
Entry = dict[str, Any]


def pack(dataset: Path, out: Path, *, free_name: bool = False) -> Path:
    """Write the dataset to the file `out`, which appears only when it is complete; returns `out`.

    An earlier pack is replaced. free_name: nothing is replaced, the file gets the first free one of
    NAME, NAME-2, ... Raises InputRejected (no dataset), UsageError (`out` lies in the dataset),
    BeingError (cannot write, `out` is another kind of file, or another process writes it or the
    dataset).
    """
    opened, out = Dataset.open(dataset), user_path(out).absolute()
    check_not_input(out, [opened.path])
    if free_name:
        check_writable(out)
    else:
        _check_target(out)
    with (
        locked(out, "writes this pack"),
        locked(opened.path, "reads this dataset", "Wait for it to end", shared=True),
    ):
        try:
            with Part(out, free_name=free_name) as part:
                with zipfile.ZipFile(part.path, "w", zipfile.ZIP_STORED) as archive:
                    _Packer(opened, archive).write()
                return part.publish()
        except OSError as error:
            raise BeingError(
                f"cannot write {out}", str(error), "Free disk space or choose another folder"
            ) from error


class _Packer:
    """Writes the parts of one dataset into an archive."""

    def __init__(self, dataset: Dataset, archive: zipfile.ZipFile):
        self.dataset, self.folder, self.archive = dataset, dataset.path, archive
        self.entries: list[Entry] = []
        self.manifest = (self.folder / "dataset.json").read_text()
        self.shape = (dataset.height, dataset.width)
        self.parts = 0

    def write(self) -> None:
        """Write all parts, then the index."""
        names = self._file_names()
        has_report = {REPORT_FILE, TIMES_FILE} <= set(names)
        left_out = {"dataset.json", REPORT_FILE} if has_report else {"dataset.json"}
        recreated = is_recreated(self.dataset.manifest)
        names = [
            name
            for name in names
            if not recreated(name)
            and name not in left_out
            and not name.startswith(f"{SOURCE_STEM}.")
        ]

        # Each file goes to the best codec that can store it: label video, arrays, plain bytes.
        folders = _image_sequences(names, self.dataset.frames)
        with Progress("pack", self.dataset.frames * (len(folders) + 1), "images") as progress:
            clip = self._write_clip(progress)
            folders = [folder for folder in folders if self._write_labels(folder, progress)]
            rest = [name for name in names if name.rpartition("/")[0] not in folders]
            arrays = [
                name
                for name in rest
                if name.endswith((".npy", ".npz")) and self._write_arrays(name)
            ]
            self._write_files([name for name in rest if name not in arrays])

        index = {
            "format": FORMAT,
            "version": VERSION,
            "frames": self.dataset.frames,
            "width": self.dataset.width,
            "height": self.dataset.height,
            "manifest": self.manifest,
            "clip": clip,
            "report": has_report,
            "entries": self.entries,
        }
        self.archive.writestr(INDEX, json.dumps(index))

    def _file_names(self) -> list[str]:
        """All files of the dataset, relative to it, without links and hidden files."""
        names = []
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in relative.parts)
            if path.is_file() and not path.is_symlink() and not hidden:
                names.append(relative.as_posix())
        return names

    def _write_part(self, data: bytes) -> str:
        """Store one part; returns its name in the archive."""
        name = f"part{self.parts:04d}"
        self.parts += 1
        self.archive.writestr(name, data)
        return name

    # --- frames

    def _write_clip(self, progress: Progress) -> Entry:
        """Store the source video where the dataset has it, else the frames encoded again."""
        source = find_source(self.folder)
        reason = "the dataset does not hold its source video"
        if source is not None:
            reason = self._why_not_from_source(source)
            if not reason:
                self.archive.write(source, "source")
                progress.advance(self.dataset.frames)
                return {"kind": "source", "suffix": source.suffix}
        console.info(f"frames are encoded again (46 dB): {reason}")
        buffer = io.BytesIO()
        encode_clip(_with_progress(self._frames(), progress), self.shape, buffer)
        return {"kind": "encoded", "part": self._write_part(buffer.getvalue())}

    def _why_not_from_source(self, source: Path) -> str:
        """The reason why the frames cannot come from the source video; empty when they can."""
        if "frames" not in self.dataset.manifest["source"]:
            return "the dataset does not say from which frames of its source video it was built"
        if sha256(source) != self.dataset.manifest["source"]["sha256"]:
            return "the source video was altered"

        # Decode a few frames and compare them with the stored ones.
        step = max(1, self.dataset.frames // CHECKED_FRAMES)
        stored = islice(self._frames(), 0, None, step)
        decoded = islice(source_frames(source, self.dataset.manifest), 0, None, step)
        differences = [_difference(a, b) for a, b in zip(stored, decoded, strict=False)]
        if max(differences, default=np.inf) < SAME_FRAME:
            return ""
        return "the source video gives other frames than the stored ones"

    def _frames(self) -> Iterator[np.ndarray]:
        return iter(FrameFolder(self.folder / "ori_imgs", self.dataset.frames))

    # --- other files

    def _write_labels(self, folder: str, progress: Progress) -> bool:
        """Store a folder of images as a video of numbers, if they are grey or have few colours.

        Returns whether it was stored.
        """
        paths = (self.folder / folder / f"{i}.png" for i in range(self.dataset.frames))
        images = (read_image(path) for path in paths)
        buffer, palette = io.BytesIO(), LabelPalette()
        hashed = HashedImages(palette.to_numbers(_with_progress(images, progress), self.shape))
        try:
            encode_labels(iter(hashed), self.shape, buffer)
        except TooManyColours:
            return False
        self.entries.append(
            {
                "kind": "pictures",
                "folder": folder,
                "colours": palette.colours,
                "part": self._write_part(buffer.getvalue()),
                "sha256": hashed.hexdigest(),
            }
        )
        return True

    def _write_arrays(self, name: str) -> bool:
        """Store the arrays of a .npy or .npz file, if numpy would write the same file of them.

        Returns whether they were stored.
        """
        path, is_archive = self.folder / name, name.endswith(".npz")
        try:
            arrays = load_all_arrays(path) if is_archive else {"": load_array(path)}
        except InputRejected:
            return False
        content = path.read_bytes()

        # The writer of numpy that gives the same bytes.
        writers = ("savez", "savez_compressed") if is_archive else ("save",)
        writer = next((w for w in writers if numpy_file_bytes(w, arrays) == content), None)
        if writer is None:
            return False

        encoded = []
        for key, values in arrays.items():
            info, parts = encode_array(values)
            encoded.append(
                {
                    "name": key,
                    **info,
                    "parts": {part: self._write_part(data) for part, data in parts.items()},
                    "sha256": content_digest(values),
                }
            )
        self.entries.append({"kind": "arrays", "path": name, "writer": writer, "arrays": encoded})
        return True

    def _write_files(self, names: list[str]) -> None:
        """Store all other files, one after the other as one part."""
        contents = [(self.folder / name).read_bytes() for name in names]
        joined = b"".join(contents)
        self.entries.append(
            {
                "kind": "files",
                "part": self._write_part(compress(joined)),
                "files": [
                    [name, len(content)] for name, content in zip(names, contents, strict=True)
                ],
                "sha256": content_digest(joined),
            }
        )


def _check_target(out: Path) -> None:
    """Raise BeingError where no pack can be written, or another kind of file would be lost."""
    if out.exists() and not (out.is_file() and _is_pack(out)):
        raise BeingError(
            f"{out} exists and is not a packed dataset", fix="Choose another file with --out"
        )
    check_writable(out)


def _is_pack(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return INDEX in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def is_recreated(manifest: Entry) -> Callable[[str], bool]:
    """A function of a file's name: whether `unpack` computes the file, so it is not stored.

    Frames always are; plates are when our own step "plates" wrote them.
    """
    patterns = ["ori_imgs/*.jpg"]
    if "plates" in manifest.get("steps", {}):
        patterns += outputs_of_steps()["plates"]
    return lambda name: any(
        fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in patterns
    )


def outputs_of_steps() -> dict[str, tuple[str, ...]]:
    """The files of each preprocessing step, as patterns."""
    return {step.name: step.outputs for step in STEPS}


def _image_sequences(names: list[str], frames: int) -> list[str]:
    """The folders whose files are 0.png, 1.png, ..., one a frame."""
    files_in: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        files_in.setdefault(folder, set()).add(file)
    expected = {f"{i}.png" for i in range(frames)}
    return sorted(folder for folder, files in files_in.items() if folder and files == expected)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two images uint8 [H, W, 3]; infinite when their shapes differ."""
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one.astype(np.int16) - other).mean())


def _with_progress(images: Iterator[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
    for image in images:
        yield image
        progress.advance()
