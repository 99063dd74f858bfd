"""Content Credentials (C2PA): signed manifests in files or beside them. The one door to `c2pa`.

A key is configured by two variables: BEING_C2PA_CERTIFICATE, a PEM file with the certificate of the
key first and then those of its issuers, and BEING_C2PA_KEY, the private key as PEM without a
password. Nothing is fetched from the net: no time stamps, no remote manifests, no lists of revoked
certificates.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import being
from being.errors import EnvironmentFault, UsageError
from being.media.writing import SIDECAR, sidecar_of
from being.provenance.mark import SOURCE_TYPE
from being.reading.content import Unreadable, read_content, reason, rejected
from being.reading.structured import parse_json

CERTIFICATE, KEY = "BEING_C2PA_CERTIFICATE", "BEING_C2PA_KEY"
INSTALL = "pip install 'being[provenance]'"
PEM_MAX = 256 << 10  # bytes
SIDECAR_MAX = 16 << 20  # bytes
MARK_LABEL = "being.mark"  # of our own assertion
EMBEDDED = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".m4a": "audio/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".wav": "audio/wav",
}
# Types of file that hold no manifest: it is a file beside them.
BESIDE = {".webm": "video/webm", ".mkv": "video/x-matroska"}
SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
UNLISTED = "signingCredential.untrusted"  # the signer is on no list; nothing was changed


@dataclass(frozen=True)
class SigningKey:
    """A certificate chain with its private key."""

    chain: str  # PEM
    algorithm: str  # C2PA's name: "ES256", "ES384", "ES512", "ED25519", "PS256"
    sign: Callable[[bytes], bytes]  # the signature of some bytes


@dataclass(frozen=True)
class Credentials:
    """What the Content Credentials of a file say."""

    state: str  # "Trusted", "Valid" (the signer is on no list that was given) or "Invalid"
    signer: str
    failures: list[str] = field(default_factory=list)  # C2PA's codes
    mark: dict[str, Any] | None = None  # our assertion
    ai_generated: bool = False  # an action says that a trained model made it
    beside: bool = False  # the manifest is a file beside it


def status() -> str:
    """Return "OK", or why Content Credentials cannot be used and what to do."""
    try:
        import c2pa  # noqa: F401
        import cryptography  # noqa: F401
    except (ImportError, OSError) as error:
        return f"{reason(error)}; {INSTALL}"
    return "OK"


def configured_key() -> SigningKey | None:
    """The key of the two variables; None where neither is set.

    Raises UsageError where one is missing or the two do not belong together, InputRejected for a
    file that cannot be used, EnvironmentFault where the package is missing.
    """
    files = os.environ.get(CERTIFICATE, ""), os.environ.get(KEY, "")
    if not any(files):
        return None
    if not all(files):
        missing = KEY if files[0] else CERTIFICATE
        raise UsageError(
            f"{missing} is not set", f"{CERTIFICATE} and {KEY} belong together", "Set both"
        )
    if status() != "OK":
        raise EnvironmentFault("Content Credentials cannot be signed", status())
    return read_key(Path(files[0]), Path(files[1]))


def read_key(certificate: Path, key: Path) -> SigningKey:
    """The key of two PEM files. Raises as `configured_key`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    advice = "Give PEM files: the chain, the signer first; and its key without a password"
    file = certificate
    try:
        chain = read_content(certificate, PEM_MAX)
        leaf = x509.load_pem_x509_certificates(chain)[0]
        file = key
        private = load_pem_private_key(read_content(key, PEM_MAX), None)
        algorithm, sign = _signature(private)
        same = private.public_key() == leaf.public_key()
    except (OSError, ValueError, TypeError, Unreadable) as error:
        raise rejected(file, error, advice) from error
    if not same:
        raise UsageError(
            f"the key {key} does not belong to the certificate {certificate}",
            "the first certificate of the file is that of another key",
            "Put the certificate of the key first",
        )
    return SigningKey(chain.decode("ascii", "replace"), algorithm, sign)


def validity(key: SigningKey) -> tuple[datetime, datetime]:
    """From when and until when all certificates of a chain are valid, UTC."""
    from cryptography import x509

    chain = x509.load_pem_x509_certificates(key.chain.encode())
    starts = max(certificate.not_valid_before_utc for certificate in chain)
    return starts, min(certificate.not_valid_after_utc for certificate in chain)


def try_key(key: SigningKey) -> None:
    """Sign a small picture in a temporary folder. Raises EnvironmentFault as `Seal`."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        picture = Path(folder) / "trial.png"
        Image.new("L", (8, 8)).save(picture)
        Seal(key, {"made": datetime.now(timezone.utc).isoformat(timespec="seconds")})(picture)


def _signature(key: Any) -> tuple[str, Callable[[bytes], bytes]]:
    """The algorithm of a private key, and a function that signs as C2PA wants it."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519", key.sign
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return "PS256", lambda content: key.sign(content, pss, hashes.SHA256())
    known = {256: ("ES256", hashes.SHA256()), 384: ("ES384", hashes.SHA384())}
    known[521] = ("ES512", hashes.SHA512())
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in known:
        name, digest = known[key.curve.key_size]
        size = -(-key.curve.key_size // 8)

        def sign(content: bytes) -> bytes:
            pair = utils.decode_dss_signature(key.sign(content, ec.ECDSA(digest)))
            return b"".join(number.to_bytes(size, "big") for number in pair)

        return name, sign
    raise Unreadable("it is none of EC P-256, P-384, P-521, Ed25519 and RSA")


class Seal:
    """Signs files with one key; each file says the same facts."""

    def __init__(self, key: SigningKey, facts: dict[str, Any]):
        """facts: of the mark."""
        self._key, self._facts = key, facts

    def __call__(self, file: Path) -> bytes | None:
        """Sign a finished file in place; the manifest, where it must lie beside the file.

        Raises EnvironmentFault where the library refuses, for instance the certificate.
        """
        import c2pa

        suffix = file.suffix.lower()
        beside = suffix in BESIDE
        kind = BESIDE[suffix] if beside else EMBEDDED[suffix]
        try:
            with (
                c2pa.Context.from_dict(SETTINGS) as context,
                c2pa.Builder(self._manifest(file), context=context) as builder,
                self._signer() as signer,
                tempfile.TemporaryFile() as signed,
                open(file, "r+b") as content,
            ):
                if beside:
                    builder.set_no_embed()
                manifest = builder.sign(signer, kind, content, signed)
                if not beside:
                    # The file itself stays: a lock is on it.
                    signed.seek(0)
                    content.seek(0)
                    content.truncate()
                    shutil.copyfileobj(signed, content)
        except c2pa.C2paError as error:
            raise EnvironmentFault(
                "the Content Credentials could not be signed",
                reason(error),
                f"Check the certificate of {CERTIFICATE}, or unset it and {KEY}",
            ) from error
        return manifest if beside else None

    def _signer(self) -> Any:
        import c2pa

        algorithm = c2pa.C2paSigningAlg[self._key.algorithm]
        return c2pa.Signer.from_callback(self._key.sign, algorithm, self._key.chain)

    def _manifest(self, file: Path) -> str:
        agent = {"name": "being", "version": being.__version__}
        created = {
            "action": "c2pa.created",
            "when": self._facts["made"],
            "digitalSourceType": SOURCE_TYPE,
            "softwareAgent": agent,
        }
        return json.dumps(
            {
                "claim_generator_info": [agent],
                "title": f"AI-generated {'audio' if file.suffix == '.wav' else 'picture or video'}",
                "assertions": [
                    {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                    {"label": MARK_LABEL, "data": self._facts},
                ],
            }
        )


def read_credentials(file: Path, trust: Path | None = None) -> Credentials | None:
    """The Content Credentials in a file or beside it; None where there are none.

    trust: a PEM file of root certificates that are trusted. Raises EnvironmentFault where the
    package is missing, InputRejected for such a file that cannot be read.
    """
    if status() != "OK":
        raise EnvironmentFault("Content Credentials cannot be read", status())
    import c2pa

    suffix, beside = file.suffix.lower(), sidecar_of(file)
    kind = EMBEDDED.get(suffix) or BESIDE.get(suffix)
    if kind is None:
        return None
    settings: dict[str, Any] = dict(SETTINGS)
    sidecar: bytes | None = None
    try:
        if trust is not None:
            anchors = read_content(trust, PEM_MAX).decode("ascii", "replace")
            settings["trust"] = {"user_anchors": anchors}
    except (OSError, Unreadable) as error:
        raise rejected(trust or file, error, "Give root certificates as PEM") from error
    if suffix in BESIDE:
        if not beside.is_file():
            beside = file.with_suffix(SIDECAR)  # as other programs name it
        if not beside.is_file():
            return None
        try:
            sidecar = read_content(beside, SIDECAR_MAX)
        except (OSError, Unreadable) as error:
            return Credentials("Invalid", "", [reason(error)], beside=True)
    try:
        with c2pa.Context.from_dict(settings) as context, open(file, "rb") as content:
            with c2pa.Reader(kind, content, manifest_data=sidecar, context=context) as reader:
                return _credentials(parse_json(reader.json()), sidecar is not None)
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, Unreadable, OSError) as error:
        return Credentials("Invalid", "", [reason(error)], beside=sidecar is not None)


def _credentials(store: dict[str, Any], beside: bool) -> Credentials:
    """What a manifest store says, as the library gives it."""
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = manifest.get("signature_info") or {}
    names = [signature.get("common_name"), signature.get("issuer")]
    results = (store.get("validation_results") or {}).get("activeManifest") or {}
    failures = [str(entry.get("code")) for entry in results.get("failure", [])]
    facts, says = None, False
    for assertion in manifest.get("assertions", []):
        data = assertion.get("data") or {}
        if assertion.get("label") == MARK_LABEL and isinstance(data, dict):
            facts = data
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            says |= any(
                SOURCE_TYPE == action.get("digitalSourceType") for action in data.get("actions", [])
            )
    return Credentials(
        str(store.get("validation_state", "Invalid")),
        ", ".join(str(name) for name in names if name),
        [code for code in failures if code != UNLISTED],
        facts,
        says,
        beside,
    )
