"""A certificate chain of its own for Content Credentials: root and leaf, on P-256."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def write_chain(
    folder: Path, start: int = -1, end: int = 30, for_signing: bool = True
) -> dict[str, Path]:
    """Write `chain.pem` (leaf, then root), `key.pem` of the leaf and `root.pem`.

    start, end: of the leaf's time, days from now; for_signing: whether it may sign documents.
    """
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Test root", "Test root", root_key, root_key, authority=True)
    leaf = certificate(
        "Test signer", "Test root", leaf_key, root_key, False, start, end, for_signing
    )
    pem = serialization.Encoding.PEM
    files = {name: folder / f"{name}.pem" for name in ("chain", "key", "root")}
    files["chain"].write_bytes(leaf.public_bytes(pem) + root.public_bytes(pem))
    files["root"].write_bytes(root.public_bytes(pem))
    files["key"].write_bytes(
        leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def certificate(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    authority: bool,
    start: int = -1,
    end: int = 30,
    for_signing: bool = True,
) -> x509.Certificate:
    """A certificate as C2PA wants it: usage, extended usage and key identifiers."""
    now = datetime.datetime.now(datetime.timezone.utc)
    allowed = ("key_cert_sign", "crl_sign") if authority else ("digital_signature",)
    usage = x509.KeyUsage(**{usage: usage in allowed for usage in USAGES})
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start * DAY)
        .not_valid_after(now + end * DAY)
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    if not authority:
        usages = ExtendedKeyUsageOID
        use = usages.EMAIL_PROTECTION if for_signing else usages.SERVER_AUTH
        extended = x509.ExtendedKeyUsage([use])
        builder = builder.add_extension(extended, False)
    return builder.sign(signer, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "being tests"),
        ]
    )
