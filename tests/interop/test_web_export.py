"""The exported folder of a web avatar: its files, what they hold, refusals, and its modules."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner
from web_avatar import COUNT, POSES, write_web_avatar

from being.cli.app import app
from being.errors import BeingError, InputRejected
from being.interop.web import export_web, exporter
from being.interop.web.quantisation import pack_tensors, spread, symmetric, unpack_tensors
from being.interop.web.scene import stored_bases
from being.model.avatar import Avatar
from being.model.bases import BASIS_WIDTH, GEOMETRY_WIDTH, required_bases

PAGE = Path(exporter.__file__).with_name("page")


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return write_web_avatar(tmp_path_factory.mktemp("avatar") / "web", gaussians=80)


@pytest.fixture(scope="module")
def site(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_web(avatar, tmp_path_factory.mktemp("site") / "web").folder


def manifest_of(site: Path) -> dict:
    return json.loads((site / "avatar" / "manifest.json").read_text())


def test_the_manifest_lists_the_files_the_mark_and_the_consent(site: Path) -> None:
    manifest = manifest_of(site)
    names = {file.name for file in (site / "avatar").iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == names
    for name, entry in manifest["files"].items():
        content = (site / "avatar" / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["mark"]["ai_generated"] is True
    assert manifest["mark"]["consent"] == {"given": True, "note": "Consent: synthetic"}
    assert manifest["bases"] == COUNT and manifest["poses"] == POSES
    assert len(manifest["plates"]["frames"]) == POSES and manifest["plates"]["stacked"]
    assert manifest["expression"]["names"] == ["blink", "brow_down", "smile"]


def test_the_tensors_give_the_bases_back(site: Path, avatar: Avatar) -> None:
    content = (site / "avatar" / "tensors.bin").read_bytes()
    stored = stored_bases(
        avatar.model.gaussians, unpack_tensors(content, manifest_of(site)["tensors"])
    )
    own = required_bases(avatar)
    # Half a step of 8 bits for bases and higher harmonics, of 16 bits for the rest
    step = own.basis.abs().amax((0, 1), keepdim=True) / 127
    assert ((stored.basis - own.basis).abs() <= 0.501 * step).all()
    base, wanted = (bases.base(avatar.model.gaussians) for bases in (stored, own))
    span = wanted.amax(0) - wanted.amin(0)
    error = (base - wanted).abs().amax(0)
    assert (error[:BASIS_WIDTH] <= 0.6 * span[:BASIS_WIDTH] / 65535 + 1e-6).all()
    assert (error[BASIS_WIDTH:] <= 0.501 * wanted.abs().amax(0)[BASIS_WIDTH:] / 127).all()
    assert GEOMETRY_WIDTH < BASIS_WIDTH < base.shape[1]
    code, camera = torch.randn(3, 16), torch.randn(3, 12)
    inputs = code, avatar.expression[:3], camera
    assert torch.equal(stored.coefficients(*inputs), own.coefficients(*inputs))


def test_numbers_of_8_and_16_bits_hold_rows_of_any_range() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 50)) * [[1e-3], [1], [1e3], [0]] + [[0], [5], [-7], [2]]
    numbers, least, step = spread(rows)
    assert np.abs(least[:, None] + numbers * step[:, None] - rows).max() < 0.06
    numbers, step = symmetric(rows, 8)
    assert (np.abs(numbers * step[:, None] - rows).max(1) <= np.abs(rows).max(1) / 250).all()
    assert numbers.dtype == np.int8 and numbers.min() >= -127
    tensors = {"a": numbers, "b": step}
    content, entries = pack_tensors(tensors)
    found = unpack_tensors(content, json.loads(json.dumps(entries)))
    assert all((found[name] == tensors[name]).all() for name in tensors)


def test_an_avatar_without_bases_is_refused_and_nothing_is_written(
    avatar: Avatar, tmp_path: Path
) -> None:
    with pytest.raises(InputRejected) as error:
        export_web(replace(avatar, bases=None), tmp_path / "web")
    assert "being export" in error.value.fix and "--bases" in error.value.fix
    assert not any(tmp_path.iterdir())


def test_an_error_in_between_leaves_the_old_page(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = export_web(avatar, tmp_path / "web").folder
    before = (target / "avatar" / "manifest.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(exporter, "write_pose_video", full)
    with pytest.raises(OSError):
        export_web(avatar, target)
    assert (target / "avatar" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["web"]


def test_a_folder_with_other_content_stays_unless_forced(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BeingError, match="was not made by being export"):
        export_web(avatar, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    export_web(avatar, tmp_path, force=True)
    assert (tmp_path / "index.html").is_file() and not (tmp_path / "mine.txt").exists()


def test_an_avatar_of_another_speech_encoder_is_driven_by_a_server(tmp_path: Path) -> None:
    avatar = write_web_avatar(tmp_path / "avatar", gaussians=60, voice=False, mattes=False)
    made = export_web(avatar, tmp_path / "web")
    manifest = manifest_of(made.folder)
    assert not made.speaks and manifest["speech"] is None
    assert not manifest["plates"]["stacked"]
    assert not any(name.startswith("speech.") for name in manifest["tensors"])
    assert made.sizes["speech"] == 0


def test_the_plates_get_what_the_tensors_leave(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = []
    write = exporter.write_pose_video

    def noted(*arguments: object) -> int:
        bounds.append(arguments[4])
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "write_pose_video", noted)
    made = export_web(avatar, tmp_path / "web")
    tensors = (made.folder / "avatar" / "tensors.bin").stat().st_size
    assert 0.97 < bounds[0] * POSES / (exporter.BUNDLE_MAX - tensors) <= 1
    monkeypatch.setattr(exporter, "BUNDLE_MAX", tensors)
    export_web(avatar, tmp_path / "web")
    assert bounds[1] == exporter.PLATE_BYTES


def test_the_command_prints_the_sizes(avatar: Avatar, tmp_path: Path) -> None:
    target = tmp_path / "web"
    done = CliRunner().invoke(app, ["export", str(avatar.path), "--web", str(target), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.strip().splitlines()[-1])["web"]
    bundle = sum(file.stat().st_size for file in (target / "avatar").iterdir())
    assert result["bytes"] == bundle and result["speaks"] and result["bases"] == COUNT
    assert sum(result["sizes"].values()) == bundle + result["sizes"]["page"]


def test_the_page_has_all_of_its_modules_and_asks_nobody_else(site: Path) -> None:
    modules = {path.name for path in site.glob("*.js")}
    for path in site.glob("*.js"):
        text = path.read_text()
        imported = re.findall(r'(?:from|import) "\./([^"]+)"', text)
        assert set(imported) <= modules, path.name
        assert not re.findall(r'["\'`](?:https?:)?//', text), path.name


@pytest.mark.parametrize("module", sorted(path.name for path in PAGE.glob("*.js")))
def test_the_modules_have_no_errors_of_syntax(module: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js: apt-get install nodejs")
    done = subprocess.run(
        [node, "--check", "--input-type=module", "-"],
        input=(PAGE / module).read_text(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
