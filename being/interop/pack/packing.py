"""A dataset as one small file, and back: `pack` and `unpack`.

What cannot be made again is stored without loss: masks, tracks, features, sound, tables, the
consent record. Frames and plates, nine tenths of the bytes, are made again. Frames come from the
source video, which the dataset keeps as a hard link (it costs no room where the video lies on the
same disk): then every file comes out the same, bit for bit, wherever the same library versions are
at work. The alternative, to encode the frames anew, always works but changes every frame a little
(46 dB), and with them the plates; it is what happens where the source is gone, was altered, or is
so large (a 4K recording) that carrying it along would defeat the purpose. Which of the two it was
is said, and noted in the pack.

The file is a zip of stored parts; `pack.json`, at its end, lists what is to come out, with its
sha256.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from being.console import Progress, say
from being.data.dataset import Dataset
from being.errors import BeingError
from being.interop.pack.codecs import (
    Colours,
    Hashed,
    TooMany,
    array_file,
    content_digest,
    encode_array,
    encode_clip,
    encode_pictures,
    squeeze,
)
from being.paths import check_place, make_folders, remove_empty
from being.preprocess.source import STEM, kept_source, source_pictures
from being.preprocess.workspace import sha256

FORMAT, VERSION = "being dataset", 1
INDEX = "pack.json"
SAME_PICTURE = (
    2.0  # mean difference in grey levels under which a frame made again is the stored one
)
CHECKED_FRAMES = 8  # made from the source before it is trusted
MADE_AGAIN = ("frames", "plates")  # steps whose files are not stored
REPORT = ("report.html",)  # made again, too

Entry = dict[str, Any]


def pack(dataset: Path, out: Path) -> Path:
    """The path of one file that holds the dataset at `dataset`; it appears under this name only
    when whole.

    Raises InputRejected (no dataset), BeingError (cannot write, or `out` is another kind of file).
    """
    opened, out = Dataset.open(Path(dataset)), Path(out).absolute()
    _check_target(out)
    part, parents = out.with_name(f".{out.name}.part"), list[Path]()
    try:
        parents = make_folders(out.parent)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            _Packer(opened, archive).write()
        os.replace(part, out)
    except OSError as error:
        raise BeingError(
            f"cannot write {out}", str(error), "Make room on the disk or choose another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)
        remove_empty(parents)
    return out


class _Packer:
    """Writes the parts of one dataset into an archive."""

    def __init__(self, dataset: Dataset, archive: zipfile.ZipFile):
        self.dataset, self.folder, self.archive = dataset, dataset.path, archive
        self.entries: list[Entry] = []
        self.shape = (dataset.height, dataset.width)
        self.parts = 0

    def write(self) -> None:
        """All parts, then the index."""
        again, names = made_again(self.dataset.manifest), list[str]()
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            if (
                path.is_file()
                and not path.is_symlink()
                and not any(part.startswith(".") for part in inside.parts)
            ):
                names.append(inside.as_posix())
        report = {"report.html", "times.json"} <= set(names)
        kept_back = ("dataset.json", *REPORT) if report else ("dataset.json",)
        names = [
            name
            for name in names
            if not again(name) and name not in kept_back and not name.startswith(f"{STEM}.")
        ]
        folders = _numbered(names, self.dataset.frames)
        with Progress("pack", self.dataset.frames * (len(folders) + 1), "pictures") as shown:
            clip = self._clip(shown)
            folders = [folder for folder in folders if self._pictures(folder, shown)]
            rest = [name for name in names if name.rpartition("/")[0] not in folders]
            arrays = [
                name for name in rest if name.endswith((".npy", ".npz")) and self._arrays(name)
            ]
            self._files([name for name in rest if name not in arrays])
        index = {
            "format": FORMAT,
            "version": VERSION,
            "frames": self.dataset.frames,
            "width": self.dataset.width,
            "height": self.dataset.height,
            "manifest": (self.folder / "dataset.json").read_text(),
            "clip": clip,
            "report": report,
            "entries": self.entries,
        }
        self.archive.writestr(INDEX, json.dumps(index))

    def _part(self, data: bytes) -> str:
        name = f"part{self.parts:04d}"
        self.parts += 1
        self.archive.writestr(name, data)
        return name

    def _clip(self, shown: Progress) -> Entry:
        """The source video where the dataset has it, else the frames encoded anew."""
        source = kept_source(self.folder)
        reason = "the dataset does not hold its source video"
        if source is not None:
            reason = self._objection(source)
            if not reason:
                self.archive.write(source, "source")
                shown.advance(self.dataset.frames)
                return {"kind": "source", "suffix": source.suffix}
        say(f"frames are encoded anew (46 dB), as {reason}")
        buffer = io.BytesIO()
        encode_clip(_counted(self._frames(), shown), self.shape, buffer)
        return {"kind": "encoded", "part": self._part(buffer.getvalue())}

    def _objection(self, source: Path) -> str:
        """Why the frames cannot come from the source video; empty when they can."""
        if "frames" not in self.dataset.manifest["source"]:
            return "the dataset does not say from which frames of its source video it was made"
        if sha256(source) != self.dataset.manifest["source"]["sha256"]:
            return "the source video is no longer what it was"
        step = max(1, self.dataset.frames // CHECKED_FRAMES)
        stored = islice(self._frames(), 0, None, step)
        made = islice(source_pictures(source, self.dataset.manifest), 0, None, step)
        worst = max(
            (
                float(np.abs(one.astype(np.int16) - other).mean())
                if one.shape == other.shape
                else np.inf
                for one, other in zip(stored, made, strict=False)
            ),
            default=np.inf,
        )
        return (
            ""
            if worst < SAME_PICTURE
            else "the source video gives other frames than the stored ones"
        )

    def _frames(self) -> Iterator[np.ndarray]:
        from being.data.frames import FrameFolder

        return iter(FrameFolder(self.folder / "ori_imgs", self.dataset.frames))

    def _pictures(self, folder: str, shown: Progress) -> bool:
        """Whether a folder of pictures was stored as a video of numbers: those of grey, or of few
        colours, can be.
        """
        from being.data.frames import read_image

        pictures = (
            read_image(self.folder / folder / f"{i}.png") for i in range(self.dataset.frames)
        )
        buffer, colours = io.BytesIO(), Colours()
        hashed = Hashed(colours.numbers(_counted(pictures, shown), self.shape))
        try:
            encode_pictures(iter(hashed), self.shape, buffer)
        except TooMany:
            return False
        self.entries.append(
            {
                "kind": "pictures",
                "folder": folder,
                "colours": colours.known,
                "part": self._part(buffer.getvalue()),
                "sha256": hashed.hexdigest(),
            }
        )
        return True

    def _arrays(self, name: str) -> bool:
        """Whether the arrays of a .npy or .npz file were stored: not where numpy would write
        another file of them.
        """
        content = (self.folder / name).read_bytes()
        try:
            loaded = np.load(io.BytesIO(content), allow_pickle=False)
            arrays = (
                {key: loaded[key] for key in loaded.files}
                if name.endswith(".npz")
                else {"": loaded}
            )
        except (ValueError, OSError, zipfile.BadZipFile):
            return False
        writer = next(
            (
                w
                for w in (("savez", "savez_compressed") if name.endswith(".npz") else ("save",))
                if array_file(w, arrays) == content
            ),
            None,
        )
        if writer is None:
            return False
        made = []
        for key, values in arrays.items():
            facts, parts = encode_array(values)
            made.append(
                {
                    "name": key,
                    **facts,
                    "parts": {part: self._part(data) for part, data in parts.items()},
                    "sha256": content_digest(values),
                }
            )
        self.entries.append({"kind": "arrays", "path": name, "writer": writer, "arrays": made})
        return True

    def _files(self, names: list[str]) -> None:
        """All other files, one after the other as one part."""
        contents = [(self.folder / name).read_bytes() for name in names]
        whole = b"".join(contents)
        self.entries.append(
            {
                "kind": "files",
                "part": self._part(squeeze(whole)),
                "files": [
                    [name, len(content)] for name, content in zip(names, contents, strict=True)
                ],
                "sha256": content_digest(whole),
            }
        )


def _check_target(out: Path) -> None:
    """Raise BeingError where no pack can be written, or another kind of file would be lost."""
    if out.exists() and not (out.is_file() and _is_pack(out)):
        raise BeingError(
            f"{out} exists and is not a packed dataset", fix="Choose another place with --out"
        )
    check_place(out)


def _is_pack(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return INDEX in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def made_again(manifest: Entry) -> Callable[[str], bool]:
    """Whether a file of the dataset is not stored: frames never, plates where they are those of our
    own step.
    """
    patterns = ["ori_imgs/*.jpg"]
    if "plates" in manifest.get("steps", {}):
        patterns += step_outputs()["plates"]
    return lambda name: any(
        fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in patterns
    )


def step_outputs() -> dict[str, tuple[str, ...]]:
    """The files of each step of `preprocess`, as patterns."""
    from being.preprocess.steps import STEPS

    return {step.name: step.outputs for step in STEPS}


def _numbered(names: list[str], frames: int) -> list[str]:
    """The folders whose files are 0.png, 1.png, ..., one a frame."""
    inside: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        inside.setdefault(folder, set()).add(file)
    every = {f"{i}.png" for i in range(frames)}
    return sorted(folder for folder, files in inside.items() if folder and files == every)


def _counted(pictures: Iterator[np.ndarray], shown: Progress) -> Iterator[np.ndarray]:
    for picture in pictures:
        yield picture
        shown.advance()
