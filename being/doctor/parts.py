"""Checks of encoders, pretrained files, voices, the signing key and the live server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone

from being.doctor.check import FAILURE, OK, WARNING, Check, of_status

DEFAULT_CODECS = ("h264", "aac")  # of videos without --codec
DEFAULT_VOICE = "hibari"
RENEWAL_DAYS = 14  # before the end of a certificate


def check_codecs() -> Iterator[Check]:
    """The encoders of videos: without the default ones, nothing can be written."""
    from being.media import encoder_status

    for name, status in encoder_status().items():
        level = FAILURE if name in DEFAULT_CODECS else WARNING
        check = of_status(f"codec {name}", status, level)
        if check.level != OK:
            fix = "pip install --force-reinstall --only-binary av av"
            check = Check(check.name, level, check.what, fix)
        yield check


def check_assets() -> Iterator[Check]:
    """The pretrained files: cached and whole, or which command fetches them."""
    from being.assets import file_states, megabytes, offline_switch

    switch = offline_switch()
    for found in file_states():
        name, asset = f"file {found.name}", found.asset
        if found.state == "cached":
            yield Check(name, OK, f"cached: {asset.purpose}, {megabytes(asset.size)}")
        elif found.state == "damaged":
            fix = f"being assets pull {found.name}"
            yield Check(name, FAILURE, f"{asset.path} is damaged: {found.why}", fix)
        elif switch and asset.base:
            what = f"not cached, and {switch} forbids to fetch it: {asset.purpose}"
            yield Check(name, WARNING, what, f"Unset {switch}, then: being assets pull")
        else:
            users = ", ".join(f"being {command}" for command in asset.commands)
            what = f"not cached: {asset.purpose}, {megabytes(asset.size)}; fetched by {users}"
            yield Check(name, OK, what)


def check_voices() -> Iterator[Check]:
    """The voices; only the default one is expected."""
    from being.tts.voice_status import voice_status

    for name, status in voice_status().items():
        check = of_status(f"voice {name}", status, WARNING)
        if check.level != OK and name != DEFAULT_VOICE:
            check = Check(check.name, OK, f"{check.what} (optional)", check.fix)
        yield check


def check_credentials() -> Iterator[Check]:
    """Content Credentials: the package, and whether the key that is set can sign now."""
    from being.provenance import content_credentials as credentials

    name = "content credentials"
    package = of_status(name, credentials.status(), FAILURE)
    switches = (credentials.CERTIFICATE, credentials.KEY)
    wanted = [switch for switch in switches if os.environ.get(switch)]
    if package.level != OK and not wanted:
        yield Check(name, OK, f"{package.what} (optional)", package.fix)
        return
    if not wanted:
        yield Check(name, OK, "no key is set: what is made is marked, but not signed")
        return
    if package.level != OK:
        yield Check(name, FAILURE, f"{wanted[0]} is set, but {package.what}", package.fix)
        return
    key = credentials.configured_key()
    assert key is not None
    starts, ends = credentials.validity(key)
    now = datetime.now(timezone.utc)
    renew = f"Set {credentials.CERTIFICATE} to a certificate that is valid now"
    if not starts <= now <= ends:
        what = f"the certificate is valid from {starts:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        yield Check(name, FAILURE, what, renew)
        return
    credentials.try_key(key)
    text = f"the key signs ({key.algorithm}); its certificates are valid until {ends:%Y-%m-%d}"
    if (ends - now).days < RENEWAL_DAYS:
        yield Check(name, WARNING, text, "Renew the certificate")
        return
    yield Check(name, OK, text)


def check_server(host: str, port: int) -> Iterator[Check]:
    """What `being serve` needs: its packages and a free port."""
    from being.api.readiness import missing_packages, port_status

    missing = missing_packages()
    if missing:
        what = f"these packages are missing: {', '.join(missing)}"
        yield Check("server", FAILURE, what, "pip install 'being[serve]'")
    else:
        yield Check("server", OK, "its packages are installed")
    status = port_status(host, port)
    if status == "OK":
        yield Check("port", OK, f"{port} is free on {host}")
    else:
        what = f"cannot listen on {host} port {port}: {status}"
        yield Check("port", FAILURE, what, "Choose another one: being serve --port")
