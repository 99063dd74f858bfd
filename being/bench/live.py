"""Measures the live server as its clients see it, over loopback (without a browser).

A whole picture is in it: speech features, rendering, H.264, sending. The server runs in its own
processes; clients run in this process, or, for many sessions, in others whose processor time is
told apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.api.supervisor import ServeOptions, Supervisor
from being.api.talk_options import TalkOptions
from being.audio.encoder_names import CAUSAL
from being.audio.encoders import load_encoder
from being.bench.avatars import POSES, random_avatar, random_bases, random_voice
from being.bench.drawn import drawn_sessions
from being.bench.live_load import LoadConfig
from being.bench.live_measures import (
    CONNECTS_AT_A_TIME,
    TEXTS,
    connect_often,
    connection,
    interrupts,
    live_sound,
    summary,
    text,
)
from being.bench.live_page import page_figures
from being.bench.process_time import processor_seconds
from being.config import load as load_config
from being.conventions import FPS
from being.media.resampling import resample
from being.model.avatar import load_avatar
from being.model.avatar_writing import PoseLoop, add_bases, write_avatar
from being.model.bases import required_bases
from being.report.line_chart import line_chart
from being.session.timeline import RATE
from being.threads import allowed_cores
from being.tts import speak

RECORDING = " ".join(TEXTS) * 3
CLIENTS_A_PROCESS = 13
MEMORY_STEPS = 4  # at which memory is read, of all connections
GREY = 128
LONGEST_S = 20.0  # of the sound of a single session


@dataclass(frozen=True)
class LiveBenchOptions:
    """What is measured."""

    avatar: Path | None  # bundle or run; None: an untrained avatar
    gaussians: int = 20_000  # of an untrained avatar
    device: str = "cpu"
    precision: str = "auto"
    rasterizer: str = "auto"
    fronts: int | None = None
    repeats: int = 20  # texts, interrupts, connections
    sessions: int = 1
    seconds: float = 20.0
    connects: int = 0  # connections, for the growth of memory
    report: Path | None = None
    # In headless Chromium: interrupts, and seconds of sync; None: nothing is measured there.
    page: tuple[int, float] | None = None
    # Whether the render process computes speech features; None: as `being serve` does.
    batched_features: bool | None = None
    talk: TalkOptions | None = None  # endpoints of conversations
    drawn: int = 0  # sessions at a time whose clients draw


def bench_live(
    options: LiveBenchOptions, told: Callable[[str, dict[str, Any]], None] = lambda name, part: None
) -> dict[str, Any]:
    """All figures (JSON types). told: gets each part as it comes.

    Raises as `Supervisor.start`, and InputRejected where clients cannot draw the avatar.
    """
    if options.drawn and options.avatar is not None:
        required_bases(load_avatar(options.avatar))
    with tempfile.TemporaryDirectory() as folder, live_server(options, Path(folder)) as supervisor:
        url = f"ws://127.0.0.1:{supervisor.port}/session"
        recording = write_recording(Path(folder) / "recording.npy")
        result: dict[str, Any] = {**setup_facts(options, supervisor)}
        sound = np.load(recording)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "connect": lambda: asyncio.run(connection(url, options.repeats)),
            "text": lambda: asyncio.run(text(url, options.repeats)),
            "interrupt": lambda: asyncio.run(interrupts(url, options.repeats)),
            "audio": lambda: asyncio.run(live_sound(url, sound, min(LONGEST_S, options.seconds))),
        }
        if options.page is not None:
            interrupts_there, sync_s = options.page
            page = f"http://127.0.0.1:{supervisor.port}/"
            parts["page"] = lambda: asyncio.run(
                page_figures(page, options.repeats, interrupts_there, sync_s)
            )
        if options.sessions > 1:
            parts["sessions"] = lambda: _sessions(url, recording, options, supervisor)
        if options.drawn:
            parts["client_render"] = lambda: drawn_sessions(
                supervisor, recording, options.drawn, options.seconds
            )
        if options.connects:
            parts["memory"] = lambda: _memory(url, options.connects, supervisor)
        for name, measure in parts.items():
            result[name] = measure()
            told(name, without_series(result[name]))
    if options.report is not None:
        _write_report(options.report, result)
        result["report"] = str(options.report)
    return without_series(result)


def write_recording(path: Path) -> Path:
    """Write the speech that sessions push: .npy, int16 at 24 kHz."""
    speech = speak(RECORDING)
    samples = resample(speech.samples, speech.rate, RATE)
    np.save(path, (samples.clip(-1, 1) * 32767).astype(np.int16))
    return path


def without_series(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures without the single values."""
    return {
        name: without_series(value) if isinstance(value, dict) else value
        for name, value in figures.items()
        if name != "series"
    }


@contextlib.contextmanager
def live_server(options: LiveBenchOptions, folder: Path) -> Iterator[Supervisor]:
    """The server, watched by a thread."""
    avatar = options.avatar
    if avatar is None:
        avatar = _write_untrained(folder / "untrained", options.gaussians, options.drawn > 0)
    serve = ServeOptions(
        {"bench": avatar},
        port=0,
        fronts=options.fronts,
        limit=options.sessions + 2 * CONNECTS_AT_A_TIME,
        drawn_limit=options.drawn,
        device=options.device,
        precision=options.precision,
        rasterizer=options.rasterizer,
        batched_features=options.batched_features,
        talk=options.talk,
    )
    with Supervisor(serve) as supervisor:
        supervisor.start()
        watcher = threading.Thread(target=supervisor.watch, daemon=True)
        watcher.start()
        yield supervisor
        supervisor.stop()
        watcher.join(5)


def _write_untrained(path: Path, gaussians: int, bases: bool = False) -> Path:
    """The bundle of an untrained avatar at 512 px, which reads the mouth code.

    bases: whether it has random bases, so that clients can draw it.
    """
    config = load_config("quick", [f"data.encoder={CAUSAL}"], environment={})
    width = load_encoder(config.avatar.live_encoder).width
    voice = random_voice(width)
    avatar = random_avatar(gaussians, config=config.model, audio_width=len(voice.units))
    plate = np.full((avatar.size, avatar.size, 3), GREY, np.uint8)
    loop = PoseLoop(
        "untrained",
        avatar.size,
        avatar.focal,
        avatar.world_to_camera,
        avatar.expression,
        (plate for _ in range(POSES)),
        None,
    )
    written = write_avatar(path, avatar.model, config, loop, voice, voice)
    if bases:
        add_bases(written, random_bases(avatar), {})
    return written


def setup_facts(options: LiveBenchOptions, supervisor: Supervisor) -> dict[str, Any]:
    """What was measured, and where."""
    device = options.device
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return {
        "device": name,
        "cores": allowed_cores(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "avatar": str(options.avatar) if options.avatar else f"untrained, {options.gaussians}",
        "fronts": len(supervisor.front_pids),
        "clock": "wall, at a client over loopback; no browser",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _sessions(
    url: str, recording: Path, options: LiveBenchOptions, supervisor: Supervisor
) -> dict[str, Any]:
    """Lateness over many sessions; clients run in processes of their own."""
    counts = [CLIENTS_A_PROCESS] * (options.sessions // CLIENTS_A_PROCESS)
    if rest := options.sessions % CLIENTS_A_PROCESS:
        counts.append(rest)
    before = _processor_seconds(supervisor)
    start = time.perf_counter()
    loads = []
    for number, count in enumerate(counts):
        config = LoadConfig(url, str(recording), count, options.seconds, number)
        command = [sys.executable, "-m", "being.bench.live_load", config.to_json()]
        loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    answers = [json.loads(load.communicate()[0].splitlines()[-1]) for load in loads]
    elapsed = time.perf_counter() - start
    after = _processor_seconds(supervisor)

    late = [entry for answer in answers for entry in answer["late"]]
    figures = summary([value / 1000 for _, value in late])
    pictures = sum(sum(answer["pictures"]) for answer in answers)
    sound = sum(sum(answer["sound"]) for answer in answers)
    return {
        "sessions": options.sessions,
        "seconds": options.seconds,
        "beyond_look_ahead": figures,
        "held": figures["p99_ms"] <= 1000 / FPS,
        "pictures": pictures,
        "pictures_of_sound_packets": round(pictures / max(1, sound), 4),
        "processor_s": {
            "render": round(after[0] - before[0], 1),
            "fronts": round(after[1] - before[1], 1),
            "load": round(sum(answer["processor_s"] for answer in answers), 1),
        },
        "elapsed_s": round(elapsed, 1),
    }


def _memory(url: str, connects: int, supervisor: Supervisor) -> dict[str, Any]:
    """Memory of the server's processes before and after many connections, MiB."""
    asyncio.run(connect_often(url, max(16, connects // 4)))
    steps = [_memory_mib(supervisor)]
    for _ in range(MEMORY_STEPS):
        asyncio.run(connect_often(url, connects // MEMORY_STEPS))
        steps.append(_memory_mib(supervisor))
    return {
        "connects": connects,
        "mib": steps,
        "growth_mib": round(sum(steps[-1].values()) - sum(steps[0].values()), 1),
    }


def _processor_seconds(supervisor: Supervisor) -> tuple[float, float]:
    """Processor time of the render process and of all fronts, s."""
    fronts = sum(processor_seconds(pid) for pid in supervisor.front_pids)
    return processor_seconds(supervisor.render_pid), fronts


def _memory_mib(supervisor: Supervisor) -> dict[str, float]:
    """Resident memory of the processes, MiB."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident(pid: int) -> float:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return round(pages * page / 2**20, 1)

    fronts = [resident(pid) for pid in supervisor.front_pids]
    return {"render": resident(supervisor.render_pid), "fronts": round(sum(fronts), 1)}


def _write_report(path: Path, result: dict[str, Any]) -> None:
    """A page with the figures, and every latency as a plot: its values in order of size."""
    from html import escape

    parts = ["<!doctype html><meta charset=utf-8><title>bench-live</title>", "<h1>bench-live</h1>"]
    for name, values in _series(result):
        title = f"{name}, ms, in order of size; marks at p50, p95, p99"
        ordered = np.sort(np.array(values))
        marks = [share * (len(ordered) - 1) for share in (0.5, 0.95, 0.99)]
        chart = line_chart({"ms": ordered}, title, unit=" ms", marks=marks)
        parts.append(f"<h2>{escape(title)}</h2>" + chart)
    parts.append(f"<pre>{escape(json.dumps(without_series(result), indent=1))}</pre>")
    path.write_text("\n".join(parts), encoding="utf-8")


def _series(figures: dict[str, Any], name: str = "") -> Iterator[tuple[str, list[float]]]:
    """Every list of single values, by its name."""
    for key, value in figures.items():
        if key == "series" and value:
            yield name, value
        elif isinstance(value, dict):
            yield from _series(value, f"{name} {key}".strip())
