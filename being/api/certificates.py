"""A self-signed certificate, for a secure page without a proxy; browsers ask about it first."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from being.errors import UsageError

VALID_DAYS = 365
NAME = "being, self-signed"


def self_signed_pair(folder: Path, host: str) -> tuple[Path, Path]:
    """Certificate and key (PEM files) in `folder`, for this machine's names and `host`.

    A pair that is there and still valid is kept, so that a browser has to be asked only once. The
    key is readable by its owner alone.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    certificate, key = folder / "certificate.pem", folder / "key.pem"
    now = datetime.datetime.now(datetime.timezone.utc)
    if certificate.is_file() and key.is_file():
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        if found.not_valid_after_utc > now + datetime.timedelta(days=1):
            return certificate, key

    secret = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for name in {socket.gethostname(), socket.getfqdn()} - {"localhost"}:
        names.append(x509.DNSName(name))
    for address in dict.fromkeys(["127.0.0.1", "::1", host]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            continue
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    content = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def checked_pair(certificate: Path, key: Path) -> tuple[Path, Path]:
    """The pair, if a server can use it. Raises UsageError."""
    import ssl

    for file in (certificate, key):
        if not file.is_file():
            raise UsageError(f"{file} does not exist", fix="Give PEM files with --cert and --key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"{certificate} and {key} are no pair of certificate and key",
            str(error),
            "Give PEM files that belong together, or --self-signed",
        ) from error
    return certificate, key
