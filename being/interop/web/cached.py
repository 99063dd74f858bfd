"""The web export of an avatar, made once and kept in a cache: for servers whose clients draw.

    python -m being.interop.web.cached AVATAR FOLDER

writes one. Servers do this in a process of its own, and stay small themselves.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import being
from being.errors import BeingError
from being.interop.web.exporter import BUNDLE, VERSION, export_web, is_web_export
from being.model.avatar import load_avatar
from being.reading.structured import read_json

NAME_LETTERS = 24


def cached_bundle(avatar: Path, cache: Path) -> Path | None:
    """The folder of the web bundle of an avatar; None where it has no bases.

    avatar: a bundle, or a run with one. cache: folder of such exports; an export appears there
    whole or not at all. It is named after the content of the avatar, so another training or other
    bases make another one. Raises InputRejected for no avatar, BeingError where it cannot be made.
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
        command = [sys.executable, "-m", "being.interop.web.cached", str(folder), str(export)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [*done.stdout.splitlines(), "", "", ""][:3]
            what, why, fix = said if said[0] else ("its bundle cannot be made", done.stderr, "")
            raise BeingError(what, why.strip()[-300:], fix)
    return export / BUNDLE


def main() -> None:
    """Write an export; an error is told on stdout, in three lines."""
    try:
        export_web(load_avatar(Path(sys.argv[1])), Path(sys.argv[2]), force=True)
    except BeingError as error:
        print(f"{error.what}\n{error.why}\n{error.fix}")
        sys.exit(int(error.code))


if __name__ == "__main__":
    main()
