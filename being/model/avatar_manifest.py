"""`manifest.json` of an avatar bundle: read and checked. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from being.data.consent import consent_fault
from being.data.manifest import FRAME_PIXELS_MAX
from being.errors import InputRejected
from being.names import is_subject_name
from being.reading.structured import read_json

SCHEMA = 2
BLINK_SCHEMA = 1  # of bundles whose only expression channel is the blink
MANIFEST_TYPES: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "size": int,
    "focal": (int, float),
    "encoder": str,
    "audio_width": int,
    "model": dict,
    "poses": int,
    "files": dict,
}
COPY_AGAIN = "Copy the bundle again"
SIDES = (16, 4096)  # px: smallest and largest side of the image
POSES_MAX = 25_000  # a loop of 1000 s
AUDIO_WIDTH_MAX = 100_000
FOCAL_MAX = 1e6  # px
TEXT_MAX = 1000  # characters of a name
BASES_MAX = 64
FRAME_SIDES = (16, 8192)  # px of a source frame


def read_avatar_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, checked: schema, types and ranges of its values."""
    manifest = read_json(folder / "manifest.json")
    schema = manifest.get("schema")
    if schema not in (BLINK_SCHEMA, SCHEMA):
        raise InputRejected(
            f"{folder} has avatar schema {schema}, this version reads up to {SCHEMA}",
            fix="Use the version of being that wrote it, or train again",
        )

    wrong = [
        name
        for name, types in MANIFEST_TYPES.items()
        if not isinstance(manifest.get(name), types) or isinstance(manifest[name], bool)
    ] or _values_out_of_range(manifest)
    if wrong:
        raise InputRejected(
            f"{folder / 'manifest.json'} does not describe an avatar",
            f"missing or wrong: {', '.join(wrong)}",
            COPY_AGAIN,
        )
    return manifest


def _values_out_of_range(manifest: dict[str, Any]) -> list[str]:
    """Return the keys of a manifest whose values have the right types and are out of range."""
    faults = {
        "name": not is_subject_name(manifest["name"]),
        "size": not SIDES[0] <= manifest["size"] <= SIDES[1],
        "focal": not 0 < manifest["focal"] <= FOCAL_MAX,
        "encoder": not 0 < len(manifest["encoder"]) <= TEXT_MAX,
        "live_encoder": not _is_short_text(manifest.get("live_encoder", "none")),
        "audio_width": not 0 < manifest["audio_width"] <= AUDIO_WIDTH_MAX,
        "poses": not 0 < manifest["poses"] <= POSES_MAX,
        "consent": bool(consent_fault(manifest.get("consent"))),
        "surround": surround_fault(manifest.get("surround")),
        "bases": bases_fault(manifest),
    }
    return [name for name, fault in faults.items() if fault]


def _is_short_text(value: object) -> bool:
    """Return whether a value is a name of usual length."""
    return isinstance(value, str) and 0 < len(value) <= TEXT_MAX


def surround_fault(entry: object) -> bool:
    """Whether the entry "surround" of a manifest has wrong types or numbers out of range."""
    if entry is None:
        return False
    if not isinstance(entry, dict):
        return True
    sides = [entry.get(name) for name in ("width", "height")]
    crop = entry.get("crop")
    if not (isinstance(crop, list) and len(crop) == 3):
        return True
    if not all(type(side) is int and _is_side(side) for side in sides):
        return True
    if not all(type(number) in (int, float) and abs(number) < 1e5 for number in crop):
        return True
    left, top, side = map(float, crop)
    width, height = map(int, sides)  # type: ignore[arg-type]
    inside = left > -2 and top > -2 and left + side < width + 2 and top + side < height + 2
    return not (inside and side >= FRAME_SIDES[0] and width * height <= FRAME_PIXELS_MAX)


def bases_fault(manifest: dict[str, Any]) -> bool:
    """Whether the entry "bases" of a manifest is wrong, or its avatar cannot have bases."""
    entry = manifest.get("bases")
    if entry is None:
        return False
    if not isinstance(entry, dict) or manifest["model"].get("mouth") != "code":
        return True
    count = entry.get("count")
    return type(count) is not int or not 0 < count <= BASES_MAX


def _is_side(side: int) -> bool:
    return FRAME_SIDES[0] <= side <= FRAME_SIDES[1] and side % 2 == 0
