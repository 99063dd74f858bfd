"""Pretrained files: only files with the right hash enter the cache, whatever their source."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import pickle
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from being import assets
from being.assets import Asset, PackageParts, PackageSource, SourceFailed, UrlSource
from being.assets.npm_archive import NpmSource
from being.assets.weight_converters import STYLE_SHAPE, kokoro_safetensors
from being.errors import EnvironmentFault, ExitCode

WEIGHTS = np.random.default_rng(0).bytes(5000)
SDIST_BACKEND = """
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    info = pathlib.Path(folder) / "stand_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: stand-in\\nVersion: 1.0\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return info.name
def build_wheel(folder, settings=None, metadata=None):
    raise RuntimeError("a package is never built")
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path, content: bytes = WEIGHTS) -> Path:
    path = folder / "stand_in-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("stand_in/weights.bin", content)
        wheel.writestr(
            "stand_in-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\nRequires-Python: >=3.12\n",
        )
        wheel.writestr(
            "stand_in-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("stand_in-1.0.dist-info/RECORD", "")
    return path


def make_part(index: Path, number: int, content: bytes) -> PackageSource:
    """A wheel in the index with one part of a file."""
    path = index / f"part_{number}-1.0-py3-none-any.whl"
    info = f"part_{number}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"part_{number}/part.bin", content)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: part-{number}\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    packed = path.read_bytes()
    member = f"part_{number}/part.bin"
    return PackageSource(f"part-{number}==1.0", member, len(content), len(packed), sha256(packed))


def make_styles(path: Path, **styles: np.ndarray) -> NpmSource:
    """An npm archive with the styles of voices."""
    with tarfile.open(path, "w:gz") as archive:
        for name, style in {"README": np.zeros(3), **styles}.items():
            folder = "package/voices" if name in styles else "package"
            entry = tarfile.TarInfo(f"{folder}/{name}.bin")
            content = style.astype("<f4").tobytes()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    packed = path.read_bytes()
    return NpmSource("stand-in@1.0", len(packed), sha256(packed))


NPM = """#!{python}
import os, shutil, sys
words = sys.argv[1:]
assert words[0] == "pack" and "--ignore-scripts" in words and words[-1] == "stand-in@1.0", words
if not os.path.exists({archive!r}):
    sys.exit("npm error code ENOTFOUND")
shutil.copy({archive!r}, os.path.join(words[words.index("--pack-destination") + 1], "a-1.0.tgz"))
"""


def make_sdist(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "stand_in-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as sdist:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"stand_in-1.0/{name}")
            entry.size = len(content)
            sdist.addfile(entry, io.BytesIO(content))
    return path


def package_source(archive: Path, member: str, size: int = len(WEIGHTS)) -> PackageSource:
    content = archive.read_bytes()
    return PackageSource("stand-in==1.0", member, size, len(content), sha256(content))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A cache folder, and a package index that is a folder: `register(*sources)` makes the asset
    "stand_in".
    """
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BEING_OFFLINE", raising=False)

    def register(*sources, content=WEIGHTS, convert=None):
        asset = Asset(
            "weights.bin",
            "stand-in weights",
            "CC0",
            len(content),
            sha256(content),
            sources,
            convert,
        )
        monkeypatch.setitem(assets.ASSETS, "stand_in", asset)
        return asset

    register.index = index
    return register


@pytest.fixture
def site(tmp_path):
    """A local web site: `site(name, content)` returns the address of a page."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def page(name: str, content: bytes | None) -> UrlSource:
        if content is not None:
            (root / name).write_bytes(content)
        return UrlSource(f"http://127.0.0.1:{server.server_port}/{name}")

    yield page
    server.shutdown()
    server.server_close()


def cache_is_empty(asset: Asset) -> bool:
    return not asset.path.parent.exists() or not list(asset.path.parent.iterdir())


def test_a_wheel_for_another_python_is_opened_not_installed(world, capsys):
    asset = world(package_source(make_wheel(world.index), "stand_in/weights.bin"))
    path = assets.fetch("stand_in")
    assert path == asset.path and path.read_bytes() == WEIGHTS
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert all(part in shown.err for part in ("weights.bin", "0.0 MB", "CC0"))
    assert [p.name for p in path.parent.iterdir()] == ["weights.bin"]  # nothing temporary stays
    (world.index / "stand_in-1.0-py3-none-any.whl").unlink()
    assert (
        assets.fetch("stand_in") == path and capsys.readouterr().err == ""
    )  # from the cache, without a word


def test_a_source_archive_is_opened_and_converted(world):
    backend = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    archive = make_sdist(
        world.index,
        {
            "pyproject.toml": backend,
            "backend.py": SDIST_BACKEND.encode(),
            "PKG-INFO": b"Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n",
            "data/weights.bin": WEIGHTS,
        },
    )
    source = package_source(archive, "stand_in-1.0/data/weights.bin")
    world(source, content=WEIGHTS[::-1], convert=lambda content: content[::-1])
    assert assets.fetch("stand_in").read_bytes() == WEIGHTS[::-1]


def test_no_code_of_a_source_archive_is_run(world, tmp_path):
    """pip's own download prepares metadata, and that runs setup.py."""
    marker = tmp_path / "was-run"
    code = f"open({str(marker)!r}, 'w').write('x')\n"
    files = {"setup.py": code.encode(), "data/weights.bin": WEIGHTS}
    archive = make_sdist(world.index, files)
    world(package_source(archive, "stand_in-1.0/data/weights.bin"))
    assert assets.fetch("stand_in").read_bytes() == WEIGHTS
    assert not marker.exists()


def test_an_index_page_is_read_with_relative_links_and_hashes(world, site, monkeypatch):
    archive = make_wheel(world.index)
    content, digest = archive.read_bytes(), sha256(archive.read_bytes())
    archive.unlink()
    page = site("stand-in", None)
    folder = world.index.parent / "site/simple/stand-in"
    folder.mkdir(parents=True)
    (world.index.parent / "site" / archive.name).write_bytes(content)
    links = [
        f'<a href="../../{archive.name}#sha256={"0" * 64}">another file of this name</a>',
        f'<a href="../../{archive.name}#sha256={digest}" data-yanked="">the file</a>',
        '<a href="../../stand_in-2.0-py3-none-any.whl">another version</a>',
    ]
    (folder / "index.html").write_text(f"<html><body>{''.join(links)}</body></html>")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", page.url.replace("/stand-in", "/simple"))
    source = PackageSource(
        "stand-in==1.0", "stand_in/weights.bin", len(WEIGHTS), len(content), digest
    )
    world(source)
    assert assets.fetch("stand_in").read_bytes() == WEIGHTS


def test_another_archive_under_the_same_name_is_refused(world):
    pinned = package_source(make_wheel(world.index), "stand_in/weights.bin")
    make_wheel(world.index, WEIGHTS[:-1] + b"!")
    asset = world(pinned)
    with pytest.raises(EnvironmentFault, match="sha256 differs"):
        assets.fetch("stand_in")
    assert cache_is_empty(asset)


def test_the_address_comes_first_and_the_package_second(world, site, capsys):
    package = package_source(make_wheel(world.index), "stand_in/weights.bin")
    steps = []
    world(site("weights.bin", WEIGHTS), package)
    assets.fetch("stand_in", lambda done, total: steps.append((done, total))).unlink()
    assert steps[-1] == (len(WEIGHTS), len(WEIGHTS))
    for page in (
        site("absent.bin", None),
        site("tampered.bin", WEIGHTS[:-1] + b"!"),
        site("long.bin", WEIGHTS * 2),
        site("short.bin", WEIGHTS[:100]),
        UrlSource("http://127.0.0.1:9/weights.bin"),
    ):
        world(page, package)
        path = assets.fetch("stand_in")
        assert path.read_bytes() == WEIGHTS
        path.unlink()


def test_a_file_in_parts_is_joined_in_order(world):
    parts = [make_part(world.index, k, WEIGHTS[k * 2000 : (k + 1) * 2000]) for k in range(3)]
    done = []
    asset = world(PackageParts(tuple(parts)))
    path = assets.fetch("stand_in", lambda sofar, total: done.append((sofar, total)))
    assert path.read_bytes() == WEIGHTS
    assert {(2000, 5000), (4000, 5000), (5000, 5000)} <= set(done) and done == sorted(done)

    # A part that is missing is named. The archives before it are kept for the next try.
    path.unlink()
    missing = world.index / "part_1-1.0-py3-none-any.whl"
    wheel = missing.read_bytes()
    missing.unlink()
    with pytest.raises(EnvironmentFault, match="part-1==1.0: .*No matching"):
        assets.fetch("stand_in")
    (kept,) = asset.path.parent.rglob("*.part")
    assert sha256(kept.read_bytes()) == parts[0].archive_sha256
    missing.write_bytes(wheel)
    assert assets.fetch("stand_in").read_bytes() == WEIGHTS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


STYLES = {
    name: np.random.default_rng(k).normal(size=STYLE_SHAPE).astype("f")
    for k, name in enumerate(("af_one", "bm_two"))
}


@pytest.mark.skipif(os.name == "nt", reason="the stand-in program is a script")
def test_an_npm_package_is_fetched_by_npm_and_converted(world, tmp_path, monkeypatch):
    source = make_styles(tmp_path / "voices.tgz", **STYLES)
    content = kokoro_safetensors((tmp_path / "voices.tgz").read_bytes())
    asset = world(source, content=content, convert=kokoro_safetensors)
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM.format(python=sys.executable, archive=str(tmp_path / "voices.tgz")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert assets.fetch("stand_in").read_bytes() == content

    # Another archive under the same name, and one that cannot be had.
    asset.path.unlink()
    make_styles(tmp_path / "voices.tgz", af_one=STYLES["bm_two"], bm_two=STYLES["af_one"])
    with pytest.raises(EnvironmentFault, match="another archive than the pinned one"):
        assets.fetch("stand_in")
    (tmp_path / "voices.tgz").unlink()
    with pytest.raises(EnvironmentFault, match="ENOTFOUND"):
        assets.fetch("stand_in")
    assert cache_is_empty(asset)


def test_without_npm_the_registry_is_asked(world, site, tmp_path, monkeypatch):
    source = make_styles(tmp_path / "voices.tgz", **STYLES)
    packed = (tmp_path / "voices.tgz").read_bytes()
    page = site("stand-in/-/stand-in-1.0.tgz", None)
    (tmp_path / "site" / "stand-in" / "-").mkdir(parents=True)
    (tmp_path / "site" / "stand-in" / "-" / "stand-in-1.0.tgz").write_bytes(packed)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert source.url == "https://registry.npmjs.org/stand-in/-/stand-in-1.0.tgz"
    monkeypatch.setenv("npm_config_registry", page.url.removesuffix("stand-in/-/stand-in-1.0.tgz"))
    content = kokoro_safetensors(packed)
    asset = world(source, content=content, convert=kokoro_safetensors)
    assert assets.fetch("stand_in").read_bytes() == content
    asset.path.unlink()
    (tmp_path / "site" / "stand-in" / "-" / "stand-in-1.0.tgz").write_bytes(packed + b"!")
    with pytest.raises(EnvironmentFault, match="not the expected"):
        assets.fetch("stand_in")
    (tmp_path / "site" / "stand-in" / "-" / "stand-in-1.0.tgz").unlink()
    with pytest.raises(EnvironmentFault, match="404"):
        assets.fetch("stand_in")


def test_voice_styles_become_hashable_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    make_styles(tmp_path / "a.tgz", **STYLES)
    content = kokoro_safetensors((tmp_path / "a.tgz").read_bytes())
    read = safetensors.load(content)
    assert sorted(read) == ["af_one", "bm_two"]
    assert all(np.array_equal(read[name], style) for name, style in STYLES.items())
    make_styles(tmp_path / "b.tgz", af_one=STYLES["af_one"][:-1])
    for bad in (
        (tmp_path / "b.tgz").read_bytes(),
        (tmp_path / "a.tgz").read_bytes()[:-5000],
        b"no archive",
    ):
        with pytest.raises(SourceFailed):
            kokoro_safetensors(bad)


def test_when_all_sources_fail_each_is_named_with_its_reason(world, site):
    package = package_source(make_wheel(world.index), "stand_in/weights.bin")
    (world.index / "stand_in-1.0-py3-none-any.whl").unlink()
    asset = world(site("absent.bin", None), site("tampered.bin", b"?" * len(WEIGHTS)), package)
    with pytest.raises(EnvironmentFault) as caught:
        assets.fetch("stand_in")
    text = caught.value.message()
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert all(
        part in text
        for part in ("absent.bin", "404", "tampered.bin", "sha256", "stand-in==1.0", "No matching")
    )
    assert str(asset.path) in text and cache_is_empty(asset)


def test_offline_names_the_missing_file_and_fetches_nothing(world, site, monkeypatch, capsys):
    asset = world(site("weights.bin", WEIGHTS))
    monkeypatch.setenv("BEING_OFFLINE", "1")
    with pytest.raises(EnvironmentFault, match="missing") as caught:
        assets.fetch("stand_in")
    assert str(asset.path) in caught.value.message() and asset.sha256 in caught.value.message()
    assert cache_is_empty(asset) and capsys.readouterr().err == ""
    asset.path.parent.mkdir()
    asset.path.write_bytes(WEIGHTS)  # put there by hand, as the message says
    assert assets.fetch("stand_in") == asset.path


def test_a_damaged_cached_file_is_fetched_again_or_reported(world, site, monkeypatch):
    asset = world(site("weights.bin", WEIGHTS))
    asset.path.parent.mkdir()
    asset.path.write_bytes(WEIGHTS[:4000])
    monkeypatch.setenv("BEING_OFFLINE", "1")
    with pytest.raises(EnvironmentFault, match="damaged"):
        assets.fetch("stand_in")
    monkeypatch.delenv("BEING_OFFLINE")
    assert assets.fetch("stand_in").read_bytes() == WEIGHTS


def test_a_cache_that_cannot_be_written_says_what_to_set(world, site, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "file" / "cache"))
    world(site("weights.bin", WEIGHTS))
    with pytest.raises(EnvironmentFault, match="BEING_CACHE"):
        assets.fetch("stand_in")


def test_archive_members_are_read_exactly_or_refused(tmp_path):
    tar = tmp_path / "a.tar.gz"
    with tarfile.open(tar, "w:gz") as bundle:
        entry = tarfile.TarInfo("x/link.bin")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        bundle.addfile(entry)
        bomb = tarfile.TarInfo("x/large.bin")
        bomb.size = 10_000_000
        bundle.addfile(bomb, io.BytesIO(bytes(bomb.size)))
    wheel = make_wheel(tmp_path)
    for archive, member, size, reason in (
        (tar, "x/link.bin", 10, "plain file"),
        (tar, "x/large.bin", 9, "more than"),
        (tar, "x/none.bin", 10, "not in"),
        (wheel, "stand_in/none", 10, "not in"),
        (wheel, "stand_in/weights.bin", 100, "more than"),
        (wheel, "stand_in/weights.bin", 9999, "less than"),
    ):
        with pytest.raises(SourceFailed, match=reason):
            assets.read_member(archive, member, size)
    for archive, member in ((wheel, "stand_in/weights.bin"), (tar, "x/large.bin")):
        content = bytearray(archive.read_bytes())
        content[40:1040] = bytes(1000)
        archive.write_bytes(content)
        with pytest.raises(SourceFailed):
            assets.read_member(archive, member, len(WEIGHTS))
    with pytest.raises(AssertionError):
        assets.read_member(wheel, "../weights.bin", 1)


@pytest.mark.parametrize("flag, method", [(1, None), (32, None), (0, 40_291)])
def test_an_archive_that_is_encrypted_or_of_another_method_is_refused(tmp_path, flag, method):
    """zipfile raises RuntimeError and NotImplementedError for these."""
    wheel = make_wheel(tmp_path)
    content = bytearray(wheel.read_bytes())
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(start) + place
        content[at] |= flag
        if method is not None:
            content[at + 2 : at + 4] = method.to_bytes(2, "little")
    wheel.write_bytes(content)
    with pytest.raises(SourceFailed, match="cannot be read"):
        assets.read_member(wheel, "stand_in/weights.bin", len(WEIGHTS))


def test_lpips_parameters_become_hashable_safetensors():
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(5, 3, 2, 7)).astype("f"), rng.normal(size=7).astype("f")
    head = rng.uniform(size=(1, 1, 7, 1)).astype("f")
    tree = {
        "AlexNet_0": {"Conv_0": {"kernel": kernel, "bias": bias}},
        "NetLinLayer_0": {"Conv_0": {"kernel": head}},
    }
    content = assets.lpips_safetensors(pickle.dumps(tree))
    read = safetensors.load(content)
    assert sorted(read) == ["conv0.bias", "conv0.weight", "head0.weight"]
    assert (
        read["conv0.weight"].shape == (7, 2, 5, 3)
        and read["conv0.weight"][6, 1, 4, 2] == kernel[4, 2, 1, 6]
    )
    assert np.array_equal(read["conv0.bias"], bias) and np.array_equal(
        read["head0.weight"], head.ravel()
    )
    shuffled = dict(reversed(tree.items()))
    assert assets.lpips_safetensors(pickle.dumps(shuffled)) == content


def test_a_pickle_that_names_anything_but_numpy_arrays_is_refused():
    class Harm:
        def __reduce__(self):
            return os.getcwd, ()

    for harm in (Harm(), np.float64(1), pickle.Unpickler):
        with pytest.raises(SourceFailed, match="refused"):
            assets.lpips_safetensors(pickle.dumps({"AlexNet_0": {"Conv_0": harm}}))
    with pytest.raises(SourceFailed, match="parameter tree"):
        assets.lpips_safetensors(pickle.dumps([1, 2, 3]))


def test_every_registered_file_has_a_source_that_needs_only_a_package_index():
    files = [asset.file for asset in assets.registry().values()]
    assert len(set(files)) == len(files)
    for asset in assets.registry().values():
        packages = [source for source in asset.sources if isinstance(source, PackageSource)]
        joined = [source.parts for source in asset.sources if isinstance(source, PackageParts)]
        archives = [source for source in asset.sources if isinstance(source, NpmSource)]
        assert packages or joined or archives
        assert asset.licence and asset.purpose and asset.size > 0
        for parts in joined:
            assert sum(part.member_size for part in parts) == asset.size
            packages += parts
        for archive in archives:
            assert archive.package.count("@") == 1 and len(archive.archive_sha256) == 64
        assert len(asset.sha256) == 64 and all(
            len(source.archive_sha256) == 64 for source in packages
        )
        assert all("==" in source.package for source in packages)
        if asset.convert is None and not joined:
            assert all(source.member_size == asset.size for source in packages)
        assert all(
            source.url.startswith("https://")
            for source in asset.sources
            if isinstance(source, UrlSource)
        )


@pytest.mark.slow
def test_every_registered_file_can_be_fetched_into_an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BEING_CACHE", str(tmp_path))
    monkeypatch.delenv("BEING_OFFLINE", raising=False)
    for name, asset in assets.registry().items():
        assert assets.fetch(name).stat().st_size == asset.size
