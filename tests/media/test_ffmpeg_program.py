"""The ffmpeg program: which one is taken, what has an encoder or filter, and how it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from being.errors import BeingError, EnvironmentFault
from being.media import ffmpeg_program
from being.media.ffmpeg_program import (
    VARIABLE,
    MediaInput,
    backend_for,
    find_program,
    program_encoders,
    program_filters,
    run_program,
)

LISTS = """Filters:
  T.. = Timeline support
  A = Audio input/output
 ... zscale            V->V       Apply resizing, colorspace and bit depth conversion.
 T.C own_filter        A->A       Does something.
Encoders:
 V..... = Video
 ------
 VFS... own_encoder          Own encoder
"""


def write_program(path: Path, body: str) -> Path:
    """An executable shell script instead of ffmpeg."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that lists `LISTS`, else notes its arguments in the folder where it runs."""
    script = (
        f"case \"$*\" in *-encoders|*-filters) cat <<'END'\n{LISTS}END\n;;\n"
        '*) printf "%s\\n" "$@" > arguments ;; esac'
    )
    path = write_program(tmp_path / "bin" / "ffmpeg", script)
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_the_variable_then_the_package_then_the_path_names_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, bundled, on_path = (
        write_program(tmp_path / name / "ffmpeg", "exit 0") for name in ("a", "b", "c")
    )
    monkeypatch.setenv("PATH", str(on_path.parent))
    package = SimpleNamespace(get_ffmpeg_exe=lambda: str(bundled))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_program() == named
    monkeypatch.delenv(VARIABLE)
    assert find_program() == bundled
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert find_program() == on_path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(EnvironmentFault, match=f"{VARIABLE} names no program"):
        find_program()


def test_pyav_is_taken_where_it_has_all_else_the_program(program: Path) -> None:
    assert backend_for(encoder="prores_ks") == backend_for(filter="loudnorm") == "pyav"
    assert program_encoders(program) >= {"own_encoder"} and "=" not in program_encoders(program)
    assert program_filters(program) >= {"zscale", "own_filter"}
    assert backend_for(encoder="own_encoder") == backend_for(filter="own_filter")
    assert backend_for(encoder="own_encoder", filter="zscale") == "ffmpeg program"
    with pytest.raises(EnvironmentFault, match="encoder 'none'.*not here.*being\\[ffmpeg\\]"):
        backend_for(encoder="none", filter="zscale")


def test_without_a_program_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg_program, "find_program", lambda: None)
    for call in (
        lambda: backend_for(filter="own_filter"),
        lambda: run_program([], [], Path("out.mp4")),
    ):
        with pytest.raises(EnvironmentFault, match=r"no ffmpeg program.*pip install"):
            call()


def test_a_program_that_is_no_ffmpeg_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(write_program(tmp_path / "bin" / "other", "echo hello")))
    with pytest.raises(EnvironmentFault, match="other is not a working ffmpeg"):
        backend_for(filter="own_filter")


def test_names_of_files_are_neither_options_nor_protocols(program: Path, tmp_path: Path) -> None:
    names = ["-f", "http://host/a.mp4", "$(touch x)", "a b.wav"]
    inputs = [MediaInput(Path(name), ("-f", "wav")) for name in names]
    run_program(inputs, ["-c", "copy"], Path("-y"), folder=tmp_path)
    given = (tmp_path / "arguments").read_text().splitlines()
    assert "-nostdin" in given and given[-3:] == ["-c", "copy", f"file:{Path('-y').absolute()}"]
    places = [i for i, argument in enumerate(given) if argument == "-i"]
    assert len(places) == len(names)
    for i, name in zip(places, names, strict=True):
        assert given[i - 4 : i] == ["-protocol_whitelist", "file", "-f", "wav"]
        assert given[i + 1] == f"file:{Path(name).absolute()}"
    assert not (tmp_path / "x").exists()


def test_what_a_failed_program_said_last_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "i=0; while [ $i -lt 3000 ]; do echo noise noise noise noise; i=$((i+1)); done"
    body = f"{noise}; echo 'no such codec' >&2; exit 1"
    monkeypatch.setenv(VARIABLE, str(write_program(tmp_path / "bin" / "ffmpeg", body)))
    with pytest.raises(BeingError, match=r"ffmpeg failed.*no such codec") as error:
        run_program([], [], tmp_path / "out")
    assert len(str(error.value)) < 500


def test_a_slow_program_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    monkeypatch.setenv(VARIABLE, str(write_program(tmp_path / "bin" / "ffmpeg", body)))
    with pytest.raises(BeingError, match="does not finish"):
        run_program([], [], tmp_path / "out", seconds=0.5)
    assert not is_running(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_program_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    body = f"echo $$ > {tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; exec sleep 60"
    program = write_program(tmp_path / "bin" / "ffmpeg", body)
    code = (
        "from pathlib import Path; from being.media.ffmpeg_program import run_program; "
        "run_program([], [], Path('out'))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, VARIABLE: str(program)},
        stderr=subprocess.DEVNULL,
    )
    wait_until((tmp_path / "pid").exists)
    child = int((tmp_path / "pid").read_text())
    assert is_running(child)
    parent.send_signal(number)
    parent.wait(120)
    wait_until(lambda: not is_running(child))


def test_a_list_of_files_cannot_lead_into_the_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.delenv(VARIABLE, raising=False)
    listed = tmp_path / "list.m3u8"
    listed.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(BeingError, match="ffmpeg failed"):
        run_program([MediaInput(listed)], ["-f", "null"], tmp_path / "out", seconds=20)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition) -> None:  # type: ignore[no-untyped-def]  # any callable
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
