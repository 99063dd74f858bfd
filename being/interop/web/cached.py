"""The web export of an avatar, made once and kept in a cache: for servers whose clients draw."""

from __future__ import annotations

import hashlib
from pathlib import Path

import being
from being.interop.web.exporter import BUNDLE, VERSION, export_web, is_web_export
from being.model.avatar import load_avatar
from being.reading.structured import read_json

NAME_LETTERS = 24


def cached_bundle(avatar: Path, cache: Path) -> Path | None:
    """The folder of the web bundle of an avatar; None where it has no bases.

    avatar: a bundle, or a run with one. cache: folder of such exports; an export appears there
    whole or not at all. It is named after the content of the avatar, so another training or other
    bases make another one. Raises as `load_avatar` and `export_web`.
    """
    folder = avatar if (avatar / "manifest.json").is_file() else avatar / "avatar"
    manifest = read_json(folder / "manifest.json")
    if "bases" not in manifest:
        return None
    # The manifest holds the digests of all files.
    content = (folder / "manifest.json").read_bytes()
    made_by = f"{being.__version__} {VERSION}".encode()
    export = cache / hashlib.sha256(made_by + content).hexdigest()[:NAME_LETTERS]
    if not is_web_export(export):
        cache.mkdir(parents=True, exist_ok=True)
        export_web(load_avatar(folder), export, force=True)
    return export / BUNDLE
