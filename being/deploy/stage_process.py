"""Runs one `being` command in a process group of its own, which ends when the parent ends.

    python -m being.deploy.stage_process LOCK LOG WORDS...

stdin is a pipe that the parent holds open and never writes. When it closes, because the parent
closed it or was killed, the command is asked to end (SIGTERM), and killed when it has not ended
after GRACE_S. LOCK is the file whose lock is held meanwhile: the process of an earlier attempt is
waited for. LOG gets what the command prints for people; stdout gets its JSON answer. The exit code
is the command's, 128 + N for signal N.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from being.locks import acquire

GRACE_S = 30.0
POLL_S = 0.1
WAIT_S = 2 * GRACE_S  # for the process of an earlier attempt
PROGRAM = [sys.executable, "-m", "being.cli.app"]
MODULE = ["-m", "being.deploy.stage_process"]
STILL_RUNNING = 75  # exit code where that process does not end


def main() -> int:
    """Run the command; see the module. Returns its exit code."""
    lock, log, *words = sys.argv[1:]
    # Ctrl-C at the terminal reaches the farm alone, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(lock, "a", encoding="utf-8") as held:
        if not _locked(held.fileno()):
            return STILL_RUNNING
        with open(log, "ab") as messages:
            child = subprocess.Popen(
                [*PROGRAM, *words, "--json"],
                stdin=subprocess.DEVNULL,
                stderr=messages,
                start_new_session=True,
                # A command that ignores the signal would inherit that.
                preexec_fn=_default_signals,
            )
        threading.Thread(target=_end_with_parent, args=[child], daemon=True).start()
        code = child.wait()
        _signal_group(child, signal.SIGKILL)  # what the command has left behind
    return code if code >= 0 else 128 - code


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours, after waiting for an earlier attempt."""
    deadline = time.monotonic() + WAIT_S
    while not acquire(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_attached(lock: Path, log: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as above; it ends with this process, also where this one is killed.

    KeyboardInterrupt ends it and is raised again.
    """
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as faults:
        process = subprocess.Popen(
            [sys.executable, *MODULE, str(lock), str(log), *words],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=faults,
        )
        assert process.stdin is not None
        try:
            # Ray interrupts without a signal, which a wait without end would not notice.
            while process.poll() is None:
                time.sleep(POLL_S)
        finally:
            process.stdin.close()
            process.wait()
        for file in (answer, faults):
            file.seek(0)
        return subprocess.CompletedProcess(words, process.returncode, answer.read(), faults.read())


if __name__ == "__main__":
    sys.exit(main())
