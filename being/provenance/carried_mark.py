"""The mark of a video that is made from another one: avatar and consent are carried on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from being.errors import InputRejected
from being.media.containers import open_media
from being.provenance.mark import Mark, parse_mark
from being.provenance.watermark import Watermark, chosen_key
from being.provenance.watermark_pattern import PAYLOAD_BITS
from being.provenance.watermark_reading import read_watermark

HEXADECIMAL = set("0123456789abcdef")


def carried_mark(video: Path, watermarked: bool, refinement: str) -> Mark:
    """The mark of a video that is made now from the video at `video`.

    Whose avatar it shows comes from the metadata of `video`, else from its watermark; it is unknown
    where both are missing. watermarked: whether the new video gets a watermark.
    """
    facts = _facts(video)
    avatar, consent = _part(facts, "avatar"), _part(facts, "consent")
    identity = str(avatar.get("id", ""))
    if not set(identity) <= HEXADECIMAL:
        identity = ""
    if not identity:
        identity = _identity_in_pixels(video)
    given = consent.get("given")
    mark = Mark.of(
        {
            "name": str(avatar.get("name", "")),
            "encoder": _part(facts, "model").get("speech_encoder"),
        },
        Watermark(identity) if watermarked else None,
    )
    return replace(
        mark,
        identity=identity,
        consent=given if isinstance(given, bool) else None,
        consent_note=str(consent.get("note", "")),
        refinement=refinement,
    )


def _facts(video: Path) -> dict[str, Any]:
    """The facts of the mark in a file's metadata; {} where there are none."""
    with open_media(video) as container:
        texts = [str(value) for value in container.metadata.values()]
    return next(filter(None, map(parse_mark, texts)), {})


def _part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _identity_in_pixels(video: Path) -> str:
    """The beginning of the identity that the watermark tells, hexadecimal; "" where none does."""
    try:
        payload = read_watermark(video, chosen_key()).payload
    except InputRejected:
        return ""
    return "" if payload is None else f"{payload:0{PAYLOAD_BITS // 4}x}"
