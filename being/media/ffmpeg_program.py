"""The ffmpeg program, for what PyAV's libraries lack: finding it, what it has, running it safely.

It is, in this order, the file that IMAGEIO_FFMPEG_EXE names, the one of the package imageio-ffmpeg
(`pip install 'being[ffmpeg]'`, a static build under the GPL that runs as a program of its own), or
`ffmpeg` on the PATH.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import av

from being.errors import BeingError, EnvironmentFault

VARIABLE = "IMAGEIO_FFMPEG_EXE"
INSTALL_FIX = "Install one: pip install 'being[ffmpeg]'"
Backend = Literal["pyav", "ffmpeg program"]
# Bytes of what the program prints that are kept: the last ones.
KEPT_OUTPUT, KEPT_LIST = 4000, 1 << 20
LIST_SECONDS = 30.0  # in which it must list what it has
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True)
class MediaInput:
    """A file that the program reads."""

    path: Path
    # options of this input, for instance ("-f", "f32le")
    options: tuple[str, ...] = ()


def find_program() -> Path | None:
    """The ffmpeg program, or None.

    Raises EnvironmentFault where IMAGEIO_FFMPEG_EXE names no program.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise EnvironmentFault(
                f"{VARIABLE} names no program",
                f"{named} is not an executable file",
                "Correct or unset the variable",
            )
        return Path(found)
    try:
        import imageio_ffmpeg

        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # not installed, or a build without a program
        pass
    found = shutil.which("ffmpeg")
    return None if found is None else Path(found)


def backend_for(*, encoder: str | None = None, filter: str | None = None) -> Backend:
    """What has the encoder and the filter of these ffmpeg names: PyAV where it can, else the
    program.

    Raises EnvironmentFault where neither has them.
    """
    assert encoder or filter
    if (encoder is None or _pyav_encodes(encoder)) and (
        filter is None or filter in av.filter.filters_available
    ):
        return "pyav"
    program = find_program()
    wanted = " and ".join(
        f"the {kind} '{name}'" for kind, name in (("encoder", encoder), ("filter", filter)) if name
    )
    if program is None:
        raise EnvironmentFault(
            f"{wanted} of ffmpeg is not here",
            "PyAV was built without it, and there is no ffmpeg program",
            INSTALL_FIX,
        )
    if (encoder is None or encoder in program_encoders(program)) and (
        filter is None or filter in program_filters(program)
    ):
        return "ffmpeg program"
    raise EnvironmentFault(
        f"{wanted} of ffmpeg is not here",
        f"PyAV and {program} were built without it",
        f"{INSTALL_FIX}; unset {VARIABLE} if it names another",
    )


@lru_cache(maxsize=8)
def program_encoders(program: Path) -> frozenset[str]:
    """Names of the encoders that the program has. Raises EnvironmentFault where it does not run."""
    return _listed(program, "-encoders")


@lru_cache(maxsize=8)
def program_filters(program: Path) -> frozenset[str]:
    """Names of the filters that the program has. Raises EnvironmentFault where it does not run."""
    return _listed(program, "-filters")


def run_program(
    inputs: Sequence[MediaInput],
    options: Sequence[str],
    output: Path,
    *,
    folder: Path | None = None,
    seconds: float | None = None,
) -> None:
    """Run the program on files of this machine, and wait for it.

    options: of the output, before its path. folder: in which it runs. seconds: after which it is
    ended. Of the inputs only files are opened, none that they refer to on the net. It ends with
    this process, at an interrupt, and after `seconds`. Raises EnvironmentFault (no program),
    BeingError with its last words (it failed, or took too long).
    """
    program = find_program()
    if program is None:
        raise EnvironmentFault(
            "there is no ffmpeg program", "this needs one beside PyAV", INSTALL_FIX
        )
    command = [str(program), "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-y"]
    for given in inputs:
        command += ["-protocol_whitelist", "file", *given.options, "-i", _as_file(given.path)]
    code, said = _run([*command, *options, _as_file(output)], KEPT_OUTPUT, folder, seconds)
    if code is None:
        raise BeingError("ffmpeg does not finish", f"it was ended after {seconds:.0f} s")
    if code != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise BeingError("ffmpeg failed", " / ".join(lines[-3:]) or f"exit code {code}")


def _as_file(path: Path) -> str:
    """The path as ffmpeg takes it: never as an option, a protocol or a pattern."""
    return f"file:{path.absolute()}"


def _pyav_encodes(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _listed(program: Path, kind: str) -> frozenset[str]:
    """The names in the program's list of this kind."""
    code, text = _run([str(program), "-hide_banner", kind], KEPT_LIST, None, LIST_SECONDS)
    # A line has flags, the name, and what it is; the legend above has an equals sign.
    rows = [line.split() for line in text.splitlines()]
    names = frozenset(row[1] for row in rows if len(row) > 2 and row[1] != "=")
    if code != 0 or not names:
        raise EnvironmentFault(
            f"{program} is not a working ffmpeg", f"it does not list its {kind[1:]}", INSTALL_FIX
        )
    return names


def _run(
    command: list[str], kept: int, folder: Path | None, seconds: float | None
) -> tuple[int | None, str]:
    """Exit code of a command, None after `seconds`, and the last `kept` bytes that it printed."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_death_with_parent(),
        )
    except OSError as error:
        raise EnvironmentFault(
            f"{command[0]} cannot be started", error.strerror or str(error), INSTALL_FIX
        ) from error
    assert process.stdout is not None
    tail = bytearray()
    reader = threading.Thread(target=_keep_tail, args=(process.stdout, tail, kept), daemon=True)
    reader.start()
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        # Also after an interrupt: nothing of it goes on.
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
    return code, tail.decode(errors="replace")


def _keep_tail(stream: IO[bytes], tail: bytearray, kept: int) -> None:
    """Read a stream to its end, and keep its last bytes."""
    while block := stream.read1(4096):  # type: ignore[attr-defined]  # of a buffered pipe
        tail += block
        del tail[: max(0, len(tail) - kept)]


def _death_with_parent() -> Callable[[], None] | None:
    """What a new process calls so that Linux kills it when this one dies; None elsewhere."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def call() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return call
