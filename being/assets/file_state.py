"""Whether a pretrained file is in the cache, and whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from being.assets.registry import Asset

CHUNK = 1 << 18  # bytes that are read at once
CACHED, DAMAGED, MISSING = "cached", "damaged", "missing"


@dataclass(frozen=True)
class FileState:
    """A pretrained file and its state in the cache: CACHED (whole), DAMAGED or MISSING."""

    name: str
    asset: Asset
    state: str
    why: str = ""  # what is wrong with a damaged file

    def to_dict(self) -> dict[str, Any]:
        """The facts about the file, for JSON."""
        asset = self.asset
        return {
            "name": self.name,
            "purpose": asset.purpose,
            "licence": asset.licence,
            "commercial_use": asset.commercial,
            "size": asset.size,
            "sha256": asset.sha256,
            "sources": [str(source) for source in asset.sources],
            "commands": list(asset.commands),
            "base": asset.base,
            "path": str(asset.path),
            "state": self.state,
            **({"why": self.why} if self.why else {}),
        }


def file_state(name: str, asset: Asset) -> FileState:
    """The state of a file in the cache; the whole file is read."""
    try:
        size = asset.path.stat().st_size
        digest = file_sha256(asset.path) if size == asset.size else ""
    except FileNotFoundError:
        return FileState(name, asset, MISSING)
    except OSError as error:
        return FileState(name, asset, DAMAGED, f"it cannot be read: {error.strerror or error}")
    if size != asset.size:
        return FileState(name, asset, DAMAGED, f"it has {size} bytes instead of {asset.size}")
    if digest != asset.sha256:
        return FileState(name, asset, DAMAGED, f"its sha256 is {digest}")
    return FileState(name, asset, CACHED)


def file_sha256(path: Path) -> str:
    """The sha256 of a file as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
