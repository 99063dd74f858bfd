"""Homes for the tests of `being list` and `being rm`: small files, no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MANIFEST = {
    "schema": 1,
    "frames": 50,
    "width": 512,
    "height": 512,
    "features": {},
    "consent": {"confirmed": True, "statement": "her own; release of 3 May"},
}
AVATAR = {
    "schema": 2,
    "size": 64,
    "focal": 100.0,
    "encoder": "hama",
    "audio_width": 6,
    "model": {},
    "poses": 7,
    "files": {},
    "licence": "CC BY",
    "consent": {"confirmed": False},
}


def write(path: Path, content: str | dict[str, Any] = "x" * 5000) -> Path:
    """Write a text or JSON file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def add_dataset(path: Path, name: str | None = None) -> Path:
    """A dataset at `path` of the subject `name` (default: the folder's)."""
    write(path / "dataset.json", {**MANIFEST, "name": name or path.name})
    write(path / "ori_imgs/0.jpg")
    return path


def add_run(path: Path, dataset: Path, name: str | None = None, avatar: bool = True) -> Path:
    """A run at `path` on a dataset, of the subject `name` (default: the folder above)."""
    name = name or path.parent.name
    relative = Path(*[".."] * len(path.parts)) / str(dataset).lstrip("/")
    record = {"schema": 1, "name": name, "config": "quick", "finished": avatar}
    write(path / "run.json", {**record, "dataset": str(relative)})
    write(path / "checkpoints/last/state.json", {"stage": "fine", "step": 1200})
    write(path / "videos/hello.mp4")
    if avatar:
        write(path / "avatar/manifest.json", {**AVATAR, "name": name})
    return path


def add_person(home: Path, name: str) -> None:
    """A dataset, two runs (one without an avatar), a pack, an export and two reports."""
    data = add_dataset(home / "data" / name)
    add_run(home / "runs" / name / "20260101-100000_quick", data)
    add_run(home / "runs" / name / "20260102-100000_quick", data, avatar=False)
    write(home / f"{name}.being")
    write(home / "exports" / f"{name}-gaussiantalker" / "READ_ME.txt")
    video = home / "runs" / name / "20260101-100000_quick/videos/hello.mp4"
    write(home / "eval" / f"hello_{name}" / "metrics.json", {"pred": str(video), "truth": "/t.mp4"})
    write(home / "eval" / f"b_{name}" / "metrics.json", {"pred": "/b.mp4", "truth": f"/{name}.mp4"})
