"""What a mark says: AI-generated, whose avatar, consent, model, time; as JSON and as XMP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from xml.sax.saxutils import quoteattr

import being
from being.data.consent import consent_note
from being.provenance.watermark import Watermark
from being.provenance.watermark_pattern import PUBLIC_KEY
from being.reading.content import Unreadable
from being.reading.structured import parse_json

# IPTC's word for media that a trained model made; Content Credentials use it too.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MODEL = "GaussianTalker"
MODEL_FILE = "model.safetensors"
MARK_MAX = 64 << 10  # characters of a mark that is read


@dataclass(frozen=True)
class Mark:
    """The mark of one video or session."""

    avatar: str  # its name
    identity: str  # sha256 of the avatar's model, hexadecimal; "": unknown
    consent: bool | None  # None: nothing is recorded
    consent_note: str
    encoder: str  # of speech features
    made: str  # time, ISO 8601, UTC
    watermark: Watermark | None  # None: there is none
    refinement: str = ""  # the diffusion model that changed the frames afterwards; "": none

    @classmethod
    def of(cls, manifest: dict[str, Any], watermark: Watermark | None) -> Mark:
        """The mark of what is made now of the avatar with this manifest."""
        consent = manifest.get("consent")
        return cls(
            str(manifest.get("name", "")),
            identity_of(manifest),
            None if consent is None else bool(consent.get("confirmed")),
            consent_note(consent),
            str(manifest.get("encoder", "")),
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            watermark,
        )

    def facts(self) -> dict[str, Any]:
        """The mark as a JSON object; docs/responsible_use.md states its fields."""
        watermark: dict[str, Any] | None = None
        if self.watermark is not None:
            key = "public" if self.watermark.key == PUBLIC_KEY else "own"
            watermark = {"payload": self.watermark.payload, "key": key}
        facts: dict[str, Any] = {
            "ai_generated": True,
            "digital_source_type": SOURCE_TYPE,
            "avatar": {"name": self.avatar, "id": self.identity},
            "consent": {"given": self.consent, "note": self.consent_note},
            "model": {"name": MODEL, "speech_encoder": self.encoder},
            "generator": f"being {being.__version__}",
            "made": self.made,
            "watermark": watermark,
        }
        if self.refinement:
            facts["refinement"] = self.refinement
        return facts

    def text(self) -> str:
        """The facts as JSON in ASCII, on one line."""
        return json.dumps(self.facts(), separators=(",", ":"))


def identity_of(manifest: dict[str, Any]) -> str:
    """The identity of an avatar: the sha256 of its model; "" where the manifest has none.

    It stays when parts are added to the avatar.
    """
    files = manifest.get("files")
    found = files.get(MODEL_FILE) if isinstance(files, dict) else None
    if not isinstance(found, str) or len(found) != 64:
        return ""
    return found if set(found) <= set("0123456789abcdef") else ""


def parse_mark(text: str) -> dict[str, Any] | None:
    """The facts of a mark in a field of a file, which may have other text before; None if there is
    none.
    """
    at = text.find('{"ai_generated"')
    if at < 0 or len(text) - at > MARK_MAX:
        return None
    try:
        facts = parse_json(text[at:])
    except Unreadable:
        return None
    return facts if isinstance(facts, dict) and facts["ai_generated"] is True else None


def xmp_of(facts: dict[str, Any]) -> str:
    """An XMP packet that says which kind of medium it is, for pictures."""
    attributes = {
        "rdf:about": "",
        "xmlns:Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "Iptc4xmpExt:DigitalSourceType": facts["digital_source_type"],
        "xmlns:xmp": "http://ns.adobe.com/xap/1.0/",
        "xmp:CreatorTool": facts["generator"],
        "xmp:CreateDate": facts["made"],
    }
    written = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"<rdf:Description {written}/></rdf:RDF></x:xmpmeta>"
    )
