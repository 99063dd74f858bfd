"""What this machine, and an avatar, can do: `examine` collects the status of every door.

Nothing is downloaded and no connection is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from being.doctor import machine, parts, rendering
from being.doctor.avatar import check_avatar
from being.doctor.check import FAILURE, OK, WARNING, Check, guarded

__all__ = ["FAILURE", "OK", "WARNING", "Check", "examine"]


def examine(avatar: Path | None = None, address: tuple[str, int] | None = None) -> Iterator[Check]:
    """All checks, one after the other.

    avatar: folder of a run or of a bundle, to check it too; address: host and port of the live
    server, to check what `being serve` needs.
    """
    for name, check in (
        ("Python", machine.check_python),
        ("platform", machine.check_platform),
        ("packages", machine.check_packages),
        ("Triton", machine.check_triton),
        ("GPU", machine.check_gpu),
        ("native libraries", rendering.check_native),
        ("rasterizers", rendering.check_rasterizers),
        ("codecs", parts.check_codecs),
        ("disk", machine.check_disk),
        ("files", parts.check_assets),
        ("voices", parts.check_voices),
        ("content credentials", parts.check_credentials),
        ("shell completion", machine.check_completion),
    ):
        yield from guarded(name, check)
    if address is not None:
        host, port = address
        yield from guarded("server", lambda: parts.check_server(host, port))
    if avatar is not None:
        yield from guarded("avatar", lambda: check_avatar(avatar))
