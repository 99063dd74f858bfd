"""Where downloaded files are kept, and whether anything may be downloaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Folder of downloads that are not complete, in the cache.
PARTS_FOLDER = "parts"
# Variables that forbid downloads: ours, and the one of the hub's library.
OFFLINE_SWITCHES = ("BEING_OFFLINE", "HF_HUB_OFFLINE")
OFF = ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """The folder of downloaded files: `BEING_CACHE` if set, else the platform's cache folder."""
    if os.environ.get("BEING_CACHE"):
        return Path(os.environ["BEING_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "being"
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
        return local / "being" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "being"


def part_file(sha256: str) -> Path:
    """Where the download of the file with this sha256 is kept until it is complete."""
    return cache_folder() / PARTS_FOLDER / f"{sha256[:32]}.part"


def offline_switch() -> str:
    """The environment variable that forbids downloads; "" if they are allowed."""
    for name in OFFLINE_SWITCHES:
        if os.environ.get(name, "").strip().lower() not in OFF:
            return name
    return ""


def is_offline() -> bool:
    """Whether BEING_OFFLINE or HF_HUB_OFFLINE forbids downloads."""
    return bool(offline_switch())
