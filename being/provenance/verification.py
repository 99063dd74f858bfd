"""`being verify`: what the marks of a file say, and whether they hold.

Four kinds of marks are read: metadata, Content Credentials (C2PA), marks of the pictures of a
recorded stream, and the invisible watermark. The file is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from being.errors import BeingError, EnvironmentFault, ExitCode, InputRejected
from being.media.containers import find_video_stream, open_media
from being.media.stream_marks import stream_marks
from being.media.writing import AI_NOTICE
from being.paths import user_path
from being.provenance.content_credentials import read_credentials
from being.provenance.mark import SOURCE_TYPE, parse_mark
from being.provenance.watermark import payload_of
from being.provenance.watermark_pattern import PAYLOAD_BITS
from being.provenance.watermark_reading import (
    Reading,
    read_watermark,
    read_watermark_of_images,
)
from being.reading.content import Unreadable, rejected
from being.reading.images import decode_image, image_texts, read_image_bytes
from being.reading.structured import read_json

PICTURES = (".png", ".jpg", ".jpeg")
FOLDER_PICTURES = 75  # of a folder in which the watermark is looked for
HOLDS, ABSENT, BROKEN, UNREAD = "holds", "absent", "broken", "unread"
SESSION_MANIFEST = ".json"


@dataclass(frozen=True)
class Finding:
    """What one kind of mark says."""

    mark: str  # "metadata", "content credentials", "stream" or "watermark"
    state: str  # HOLDS, ABSENT, BROKEN (it was changed) or UNREAD (it could not be looked for)
    text: str  # for people
    ai_generated: bool = False  # whether it says so
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What all marks of a file say."""

    file: Path
    findings: list[Finding]

    @property
    def ai_generated(self) -> bool:
        """Whether a mark that holds says that the file is AI-generated."""
        return any(found.ai_generated and found.state == HOLDS for found in self.findings)

    @property
    def intact(self) -> bool:
        """Whether no mark is broken, and none contradicts another."""
        return all(found.state != BROKEN for found in self.findings)

    def facts(self) -> dict[str, Any]:
        """The verdict as JSON types."""
        return {
            "file": str(self.file),
            "ai_generated": self.ai_generated,
            "intact": self.intact,
            "marks": [asdict(found) for found in self.findings],
        }


def verify(path: Path, key: bytes, trust: Path | None = None, pixels: bool = True) -> Verdict:
    """What the marks say of a video, a sound, a picture, a folder of pictures or the manifest of a
    session.

    key: of the watermark. trust: a PEM file of root certificates. pixels: look for the watermark.
    Raises InputRejected for a file of another kind.
    """
    path = user_path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
        if not files:
            raise InputRejected(
                f"{path} holds no PNG pictures", "it is a folder", "Give a file, or such a folder"
            )
        findings = [_metadata(_texts_of_picture(files[0])), _credentials(files[0], trust)]
    elif suffix in PICTURES:
        files = [path]
        findings = [_metadata(_texts_of_picture(path)), _credentials(path, trust)]
        if suffix != ".png":
            findings.append(_stream(stream_marks(path)))
    elif suffix == SESSION_MANIFEST:
        manifest = read_json(path)
        return Verdict(path, [_metadata([_text_of_manifest(manifest)])])
    else:
        return _verify_media(path, key, trust, pixels)
    if pixels:
        images = (_luma(file) for file in files[:FOLDER_PICTURES])
        reading = read_watermark_of_images(_of_one_size(images), key)
        findings.append(_watermark(reading, findings))
    return Verdict(path, findings)


def _verify_media(path: Path, key: bytes, trust: Path | None, pixels: bool) -> Verdict:
    """The verdict on a file that ffmpeg opens."""
    with open_media(path) as container:
        texts = [str(value) for value in container.metadata.values()]
        has_video = find_video_stream(container) is not None
    findings = [_metadata(texts), _credentials(path, trust)]
    if has_video:
        findings.append(_stream(stream_marks(path)))
        if pixels:
            try:
                findings.append(_watermark(read_watermark(path, key), findings))
            except InputRejected as fault:
                findings.append(Finding("watermark", UNREAD, f"not looked at: {fault.what}"))
    return Verdict(path, findings)


def _metadata(texts: list[str]) -> Finding:
    """What the fields of the metadata say; anybody can change them."""
    facts = next(filter(None, map(parse_mark, texts)), None)
    if facts is not None:
        return Finding("metadata", HOLDS, _said(facts), True, facts)
    if any(AI_NOTICE in text or SOURCE_TYPE in text for text in texts):
        return Finding("metadata", HOLDS, "AI-generated; nothing more is said", True)
    return Finding("metadata", ABSENT, "nothing says that it is AI-generated")


def _said(facts: dict[str, Any]) -> str:
    """The facts of a mark in one line."""
    avatar, consent = facts.get("avatar"), facts.get("consent")
    avatar = avatar if isinstance(avatar, dict) else {}
    consent = consent if isinstance(consent, dict) else {}
    given = _consent(consent.get("given"))
    identity = str(avatar.get("id", ""))[:16] or "unknown"
    return (
        f"AI-generated; avatar {avatar.get('name', '?')} ({identity}); consent {given}; "
        f"by {facts.get('generator', '?')} at {facts.get('made', '?')}"
    )


def _consent(given: object) -> str:
    """The state of consent in words."""
    if given is None:
        return "not recorded"
    return "given" if given is True else "unconfirmed"


def _credentials(path: Path, trust: Path | None) -> Finding:
    """What the Content Credentials say."""
    name = "content credentials"
    try:
        found = read_credentials(path, trust)
    except EnvironmentFault as fault:
        return Finding(name, UNREAD, f"not looked at: {fault.why}")
    if found is None:
        return Finding(name, ABSENT, "there are none")
    where = "beside the file" if found.beside else "in the file"
    facts: dict[str, Any] = {
        "signer": found.signer,
        "failures": found.failures,
        "state": found.state,
    }
    if found.state not in ("Valid", "Trusted"):
        why = ", ".join(found.failures) or "unreadable"
        text = f"{where}: the file was changed, or they are not its ({why})"
        return Finding(name, BROKEN, text, False, facts)
    if found.mark is not None:
        facts["mark"] = found.mark
    signer = "a trusted key" if found.state == "Trusted" else "a key that is on no list given here"
    text = f"{where}: nothing was changed; signed by {signer} ({found.signer})"
    if found.mark is not None:
        text += f"; {_said(found.mark)}"
    return Finding(name, HOLDS, text, found.ai_generated, facts)


def _stream(found: tuple[list[dict[str, Any]], int]) -> Finding:
    """What the marks of the pictures say."""
    marks, pictures = found
    said = [mark for mark in marks if mark.get("ai") is True]
    if not said:
        return Finding("stream", ABSENT, "its pictures carry no marks of their own")
    first = said[0]
    facts = {"pictures": pictures, "marked": len(said), "first": first}
    given = _consent(first.get("consent"))
    text = (
        f"{len(said)} of {pictures} pictures say: AI-generated, avatar {first.get('avatar', '?')}, "
        f"consent {given}"
    )
    return Finding("stream", HOLDS, text, True, facts)


def _watermark(reading: Reading, before: list[Finding]) -> Finding:
    """What the watermark says, and whether it is that of the avatar that other marks name."""
    facts: dict[str, Any] = {"z": round(reading.z, 2), "scale": round(reading.scale, 3)}
    if not reading.found:
        return Finding("watermark", ABSENT, "none is found with this key", False, facts)
    facts |= {"payload": reading.payload, "false_alarm": reading.false_alarm}
    text = f"AI-generated; false alarm below {reading.false_alarm:.0e}; "
    if reading.payload is None:
        return Finding("watermark", HOLDS, text + "too weak to tell the avatar", True, facts)
    text += f"avatar {reading.payload:0{PAYLOAD_BITS // 4}x}..."
    identity = next(filter(None, map(_identity, before)), "")
    if identity and payload_of(identity) != reading.payload:
        text += ", which is not the avatar that the other marks name"
        return Finding("watermark", BROKEN, text, True, facts)
    if identity:
        text += ", as the other marks say"
    return Finding("watermark", HOLDS, text, True, facts)


def _identity(found: Finding) -> str:
    """The avatar's identity that a finding names."""
    for facts in (found.facts, found.facts.get("mark"), found.facts.get("first")):
        avatar = facts.get("avatar") if isinstance(facts, dict) else None
        identity = avatar.get("id") if isinstance(avatar, dict) else (facts or {}).get("id")
        if isinstance(identity, str) and len(identity) >= 16 and _is_hexadecimal(identity):
            return identity
    return ""


def _is_hexadecimal(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


def _text_of_manifest(manifest: dict[str, Any]) -> str:
    """The manifest of a session as the text of a mark."""
    return json.dumps({"ai_generated": manifest.get("ai_generated"), **manifest})


def _texts_of_picture(file: Path) -> list[str]:
    try:
        return image_texts(read_image_bytes(file)[0])
    except (OSError, Unreadable) as error:
        raise rejected(file, error, "Give a PNG or JPEG picture") from error


def _luma(file: Path) -> np.ndarray:
    """The luma of a picture, uint8 [H, W]."""
    try:
        return np.asarray(decode_image(read_image_bytes(file)[0], "L"))
    except (OSError, Unreadable) as error:
        raise rejected(file, error, "Give PNG or JPEG pictures") from error


def _of_one_size(images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The images that have the size of the first one."""
    first = next(images)
    yield first
    yield from (image for image in images if image.shape == first.shape)


def missing_marks(verdict: Verdict) -> BeingError | None:
    """The error of `being verify` where nothing says AI-generated, or a mark is broken."""
    if verdict.ai_generated and verdict.intact:
        return None
    if not verdict.intact:
        broken = ", ".join(f.mark for f in verdict.findings if f.state == BROKEN)
        error = BeingError(
            f"marks of {verdict.file} do not hold",
            broken,
            "Ask whoever gave you the file for the original",
            ExitCode.QUALITY,
        )
    else:
        error = BeingError(
            f"nothing says that {verdict.file} is AI-generated",
            "a file without marks may still be AI-generated",
            code=ExitCode.QUALITY,
        )
    error.details = verdict.facts()
    return error
