"""being serve and bench-live: what they refuse before anything is started, and what they print."""

from __future__ import annotations

import ssl
from pathlib import Path

from program import refused

from being.api.addresses import address_lines
from being.api.certificates import checked_pair, self_signed_pair
from being.api.limits import Access, TokenBucket, is_loopback


def test_serve_refuses_what_cannot_be_served(tmp_path: Path) -> None:
    refused(4, "does not exist", "serve", tmp_path / "nobody")
    refused(2, "belong together", "serve", "--cert", tmp_path / "a.pem")
    refused(2, "does not exist", "serve", "--cert", tmp_path / "a.pem", "--key", tmp_path / "b")
    (tmp_path / "a.pem").write_text("no certificate")
    pair = ("--cert", tmp_path / "a.pem", "--key", tmp_path / "a.pem")
    refused(2, "no pair of certificate and key", "serve", *pair)
    refused(2, "makes its own pair", "serve", "--self-signed", *pair)
    refused(4, "does not exist", "bench-live", tmp_path / "nobody")


def test_a_self_signed_pair_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    certificate, key = self_signed_pair(tmp_path / "pair", "10.0.0.7")
    before = certificate.read_bytes()
    assert self_signed_pair(tmp_path / "pair", "10.0.0.7")[0].read_bytes() == before
    assert key.stat().st_mode & 0o077 == 0
    assert checked_pair(certificate, key) == (certificate, key)
    context = ssl.create_default_context(cafile=str(certificate))
    assert len(context.get_ca_certs()) <= 1


def test_the_printed_addresses_lead_to_a_secure_page() -> None:
    lines = "\n".join(address_lines("0.0.0.0", 8123, "to/ken", secure=False))
    assert "http://localhost:8123/?token=to%2Fken" in lines or "?token=to/ken" in lines
    assert "ssh -L 8123:localhost:8123" in lines and "--allow-origin" in lines
    (network,) = [line for line in lines.splitlines() if line.startswith("network")]
    assert "localhost" not in network and "127.0.0.1" not in network
    own = address_lines("127.0.0.1", 8123, None, secure=True)
    assert own[0].endswith("https://localhost:8123/") and not any("network" in o for o in own)


def test_who_may_connect() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("10.0.0.7") and not is_loopback("localhost.evil.example")
    # Without a token, a name of another host that points here must not be let in.
    for origin, host, allowed in (
        ("http://localhost:8000", "localhost:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://evil.example", "evil.example", False),
        ("null", "localhost:8000", False),
        ("http://[", "localhost", False),
    ):
        assert _allows(Access(), origin, host) == allowed, origin
    guarded = Access(token="x", origins=frozenset({"https://page.example"}))
    assert _allows(guarded, "http://host.example", "host.example:8000")
    assert _allows(guarded, "https://page.example", "other")
    assert not _allows(guarded, "https://page.example.evil", "other")


def _allows(access: Access, origin: str, host: str) -> bool:
    from being.session.refusals import Refusal

    try:
        access.check_origin(origin, [host])
    except Refusal:
        return False
    return True


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5, now=0.0)
    assert [bucket.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [bucket.take(0.2) for _ in range(3)] == [True, True, False]
