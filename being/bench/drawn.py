"""Measures sessions whose clients draw: lateness of their coefficients, and processor time a frame.

The server runs in its own processes, the clients in others (`drawn_load.py`). Each session pushes
its own place of a recording in real time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from being.api.supervisor import Supervisor
from being.bench.drawn_load import BIN_MS, DrawnLoad
from being.bench.process_time import processor_seconds
from being.conventions import FPS
from being.errors import BeingError

CLIENTS_A_PROCESS = 250
CHUNK_S = 0.08  # of sound in a message: two frames
SETTLE_S = 2.0  # after the last client has begun
CONNECTS_A_SECOND = 250
START_S = 3.0  # for the load processes to start
PARTS = ("encoder", "net", "sending")


def drawn_sessions(
    supervisor: Supervisor,
    recording: Path,
    sessions: int,
    seconds: float,
    chunk_s: float = CHUNK_S,
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The figures of so many sessions at a time (JSON types).

    recording: .npy, int16 at 24 kHz; seconds: that are counted; told: gets what happens.
    """
    start = time.time() + START_S
    begun = start + max(1.0, sessions / CONNECTS_A_SECOND)
    counted = (begun + SETTLE_S, begun + SETTLE_S + seconds)
    url = f"ws://127.0.0.1:{supervisor.port}/session"
    loads = []
    for number, first in enumerate(range(0, sessions, CLIENTS_A_PROCESS)):
        count = min(CLIENTS_A_PROCESS, sessions - first)
        load = DrawnLoad(url, str(recording), count, number, chunk_s, start, begun, counted)
        command = [sys.executable, "-m", "being.bench.drawn_load", load.to_json()]
        # A file and not a pipe: late sessions have much to tell, and nobody reads before the end.
        answer = tempfile.TemporaryFile("w+")
        loads.append((subprocess.Popen(command, stdout=answer, text=True), answer))
    _sleep_until(counted[0])
    before = _Reading(supervisor)
    told(f"{sessions} sessions, of which {before.sessions} run; {seconds:g} s are counted")
    _sleep_until(counted[1])
    after = _Reading(supervisor)
    answers = [_answer(load, answer) for load, answer in loads]

    values, counts = _histogram([entry for answer in answers for entry in answer["late"]])
    frames = sum(answer["frames"] for answer in answers)
    late = {f"p{share:g}_ms": _percentile(values, counts, share) for share in (50, 95, 99)}
    failures = [failure for answer in answers for failure in answer["failures"]]
    due = FPS * sessions * seconds
    return {
        "sessions": sessions,
        "seconds": seconds,
        "chunk_ms": round(1000 * chunk_s),
        "lateness_of_the_oldest": {**late, "most_ms": float(values.max(initial=0.0))},
        "held": bool(late["p99_ms"] <= 1000 / FPS and not failures and frames >= 0.98 * due),
        "frames": frames,
        "frames_of_due": round(frames / due, 4),
        "least_frames_of_a_session": min(answer["least_frames"] for answer in answers),
        "frames_a_message": round(
            frames / max(1, sum(answer["messages"] for answer in answers)), 2
        ),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
        "processor_ms_a_frame": after.since(before),
        "busy_cores": {
            "fronts": round((after.fronts - before.fronts) / (after.at - before.at), 2),
            "busiest_front": round(
                max(b - a for a, b in zip(before.each, after.each, strict=True))
                / (after.at - before.at),
                2,
            ),
            "render": round((after.render - before.render) / (after.at - before.at), 2),
            "load": round(
                sum(answer["processor_s"] for answer in answers) / (counted[1] - start), 2
            ),
        },
    }


def _answer(load: subprocess.Popen[str], told: IO[str]) -> dict[str, Any]:
    """What a load process told when it ended. Raises BeingError when it told nothing."""
    code = load.wait()
    with told:
        told.seek(0)
        lines = told.read().splitlines()
    if code or not lines:
        raise BeingError("a load process failed", f"exit code {code}", "Measure fewer sessions")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


class _Reading:
    """Times of the server's processes now."""

    def __init__(self, supervisor: Supervisor):
        address = f"http://127.0.0.1:{supervisor.port}/metrics"
        with urllib.request.urlopen(address, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        self.at = time.time()
        self.render = processor_seconds(supervisor.render_pid)
        self.each = [processor_seconds(pid) for pid in supervisor.front_pids]
        self.fronts = sum(self.each)

        def counter(name: str) -> float:
            return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

        self.frames = counter("being_frames_sent_total")
        self.sessions = round(counter("being_sessions"))
        self.parts = {
            part: counter(f'being_drawn_seconds_total{{part="{part}"}}') for part in PARTS
        }

    def since(self, before: _Reading) -> dict[str, float]:
        """Processor time of the fronts a frame by part, ms."""
        frames = max(1.0, self.frames - before.frames)
        parts = {part: self.parts[part] - before.parts[part] for part in PARTS}
        whole = self.fronts - before.fronts
        parts["session, sound in, event loop"] = whole - sum(parts.values())
        parts["all"] = whole
        return {part: round(1000 * value / frames, 4) for part, value in parts.items()}


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def _histogram(entries: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Values in ms, ascending, and how often each came."""
    if not entries:
        return np.zeros(0), np.zeros(0)
    numbers = np.array(entries, np.float64)
    order = np.argsort(numbers[:, 0])
    return numbers[order, 0] * BIN_MS, numbers[order, 1]


def _percentile(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    """The value that `share` percent do not exceed, ms; infinite where there is none."""
    if not len(values):
        return float("inf")
    place = np.searchsorted(counts.cumsum(), share / 100 * counts.sum())
    return round(float(values[min(place, len(values) - 1)]), 1)
