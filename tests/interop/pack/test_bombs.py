"""Small packs that claim much are refused before memory, disk or minutes are spent."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from being.errors import InputRejected
from being.interop.pack.codecs import DamagedPack, LabelPalette
from being.interop.pack.packing import pack
from being.interop.pack.unpacking import unpack

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def altered(source: Path, target: Path, change: Change) -> Path:
    """The pack with its index and manifest changed in place."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "pack.json":
                index = json.loads(content)
                manifest = json.loads(index["manifest"])
                change(index, manifest)
                index.setdefault("manifest", json.dumps(manifest))
                index["manifest"] = json.dumps(manifest)
                content = json.dumps(index).encode()
            new.writestr(name, content)
    return target


def with_key(name: str, value: Any) -> Change:
    return lambda index, manifest: manifest.__setitem__(name, value)


def many_frames(index: dict[str, Any], manifest: dict[str, Any]) -> None:
    for place in (index, manifest):
        place.update(frames=300_000, width=2048, height=2048)
    manifest["segments"] = [[0, 300_000]]


def many_pictures(index: dict[str, Any], manifest: dict[str, Any]) -> None:
    entry = next(entry for entry in index["entries"] if entry["kind"] == "pictures")
    index["entries"] += [{**entry, "folder": f"f{k}"} for k in range(5000)]


def huge_array(index: dict[str, Any], manifest: dict[str, Any]) -> None:
    entry = next(entry for entry in index["entries"] if entry["kind"] == "arrays")
    entry["arrays"][0]["shape"] = [10**6, 10**6]


def deep_colours(index: dict[str, Any], manifest: dict[str, Any]) -> None:
    entry = next(entry for entry in index["entries"] if entry["kind"] == "pictures")
    entry["colours"] = [[0] * 100_000] * 3


CHANGES: dict[str, Change] = {
    "frames that nobody could store": many_frames,
    "label images without number": many_pictures,
    "an array of terabytes": huge_array,
    "colours of a hundred thousand channels": deep_colours,
    "runs of source frames": with_key("source", {"frames": [[0, 10**12]], "crop": [0, 0, 9]}),
    "a name that leads out": with_key("name", "../../escape"),
    "features outside": with_key("features", {"ds": {"file": "/etc/passwd", "width": 6}}),
    "segments of wrong types": with_key("segments", "x"),
    "a consent of a novel's length": with_key("consent", {"statement": "x" * 5000}),
    "a deep manifest": lambda index, manifest: manifest.update(steps={"a": {"digest": [[]]}}),
}


@pytest.fixture(scope="module")
def packed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(scene, tmp_path_factory.mktemp("packed") / "scene.being")


@pytest.mark.parametrize("case", CHANGES)
def test_a_bomb_is_refused_at_once(case: str, packed: Path, tmp_path: Path) -> None:
    file = altered(packed, tmp_path / "bomb.being", CHANGES[case])
    start = time.monotonic()
    with pytest.raises(InputRejected):
        unpack(file, tmp_path / "out")
    assert time.monotonic() - start < 5
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.being"]


@pytest.mark.parametrize(
    "colours", [[[1] * 9], [[1, 2, 3]] * 257, [[1, 2, 3], [1, 2]], [[1, 2, -1]]]
)
def test_colours_of_no_image_are_refused(colours: list[list[int]]) -> None:
    with pytest.raises(DamagedPack):
        list(LabelPalette(colours).to_images(iter([])))
