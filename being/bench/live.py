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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.api.supervisor import ServeOptions, Supervisor
from being.audio.encoders import load_encoder
from being.bench.avatars import POSES, random_avatar, random_voice
from being.bench.live_load import (
    BenchClient,
    LoadConfig,
    audible_from,
    is_event,
    is_picture,
    push_recording,
)
from being.config import load as load_config
from being.conventions import FPS
from being.media.resampling import resample
from being.model.avatar_writing import PoseLoop, write_avatar
from being.report.line_chart import line_chart
from being.session.timeline import FRAME, RATE
from being.threads import allowed_cores
from being.tts import speak

TEXTS = (
    "Hello, it is good to see you.",
    "Yes, of course.",
    "The trains run every ten minutes, and the last one leaves at midnight.",
    "I am not sure about that, but let us look at it together.",
)
RECORDING = " ".join(TEXTS) * 3
CLIENTS_A_PROCESS = 13
GREY = 128


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
    connects: int = 0  # connections in a row, for the growth of memory
    report: Path | None = None


def bench_live(options: LiveBenchOptions) -> dict[str, Any]:
    """All figures (JSON types). Raises as `Supervisor.start`."""
    with tempfile.TemporaryDirectory() as name, _server(options, Path(name)) as supervisor:
        url = f"ws://127.0.0.1:{supervisor.port}/session"
        recording = Path(name) / "recording.npy"
        speech = speak(RECORDING)
        samples = resample(speech.samples, speech.rate, RATE)
        np.save(recording, (samples.clip(-1, 1) * 32767).astype(np.int16))

        result: dict[str, Any] = {**_setup(options, supervisor)}
        result["connect"] = asyncio.run(_connect(url, options.repeats))
        result["text"] = asyncio.run(_text(url, options.repeats))
        result["interrupt"] = asyncio.run(_interrupt(url, options.repeats))
        result["audio"] = asyncio.run(_audio(url, np.load(recording), options.seconds))
        if options.sessions > 1:
            result["sessions"] = _sessions(url, recording, options, supervisor)
        if options.connects:
            result["memory"] = asyncio.run(_memory(url, options.connects, supervisor))
    if options.report is not None:
        _write_report(options.report, result)
        result["report"] = str(options.report)
    for part in (result["audio"], result.get("sessions", {})):
        part.pop("series", None)
    return result


@contextlib.contextmanager
def _server(options: LiveBenchOptions, folder: Path) -> Iterator[Supervisor]:
    """The server, watched by a thread."""
    avatar = options.avatar
    if avatar is None:
        avatar = _write_untrained(folder / "untrained", options.gaussians)
    serve = ServeOptions(
        {"bench": avatar},
        port=0,
        fronts=options.fronts,
        limit=max(options.sessions, 4),
        device=options.device,
        precision=options.precision,
        rasterizer=options.rasterizer,
    )
    with Supervisor(serve) as supervisor:
        supervisor.start()
        watcher = threading.Thread(target=supervisor.watch, daemon=True)
        watcher.start()
        yield supervisor
        supervisor.stop()
        watcher.join(5)


def _write_untrained(path: Path, gaussians: int) -> Path:
    """The bundle of an untrained avatar at 512 px, which reads the mouth code."""
    config = load_config("quick", [], environment={})
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
    return write_avatar(path, avatar.model, config, loop, voice, voice)


def _setup(options: LiveBenchOptions, supervisor: Supervisor) -> dict[str, Any]:
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


def _summary(values: list[float]) -> dict[str, Any]:
    """Figures in ms of times in s."""
    found = np.array(values) * 1000
    return {
        "count": len(found),
        "p50_ms": round(float(np.percentile(found, 50)), 1),
        "p99_ms": round(float(np.percentile(found, 99)), 1),
        "min_ms": round(float(found.min()), 1),
        "max_ms": round(float(found.max()), 1),
    }


async def _connect(url: str, repeats: int) -> dict[str, Any]:
    """Time from the connection to the first picture."""
    times = []
    for _ in range(repeats):
        client = BenchClient(url)
        await client.open()
        _, now = await client.until(is_picture)
        times.append(now - client.opened_s)
        await client.close()
    return {"to_first_picture": _summary(times)}


async def _text(url: str, repeats: int) -> dict[str, Any]:
    """Time from a text to its first audible sound, and to the picture that belongs to it."""
    sounds, pictures = [], []
    client = BenchClient(url)
    await client.open()
    for k in range(repeats):
        asked = time.perf_counter()
        await client.send({"type": "speak", "text": TEXTS[k % len(TEXTS)]})
        first: int | None = None
        shown: set[int] = set()
        while True:
            message, now = await client.receive()
            if is_event(message, "speaking_ended"):
                break
            if not isinstance(message, tuple):
                continue
            packet, payload = message
            if first is None and not is_picture(message):
                first = audible_from(packet, payload)
                if first is not None:
                    sounds.append(now - asked)
            elif first is not None and is_picture(message) and not shown:
                if packet.timestamp + FRAME > first:
                    shown.add(packet.timestamp)
                    pictures.append(now - asked)
        # The next text begins in the silence after this one, at another moment of a frame.
        await asyncio.sleep(0.1 + 0.013 * (k % 7))
    await client.close()
    return {"to_first_sound": _summary(sounds), "to_first_picture": _summary(pictures)}


async def _interrupt(url: str, repeats: int) -> dict[str, Any]:
    """Time from `interrupt` until nothing of the old epoch comes any more."""
    random = np.random.default_rng(0)
    answers, after = [], 0
    client = BenchClient(url)
    await client.open()
    for _ in range(repeats):
        await client.send({"type": "speak", "text": TEXTS[2]})
        await client.until(lambda m: is_event(m, "speaking_started"))
        until = time.perf_counter() + random.uniform(0, 0.5)
        while time.perf_counter() < until:
            await client.receive()
        asked = time.perf_counter()
        await client.send({"type": "interrupt"})
        _, now = await client.until(lambda m: is_event(m, "interrupted"))
        answers.append(now - asked)
        for _ in range(6):
            message, _ = await client.receive()
            after += isinstance(message, tuple) and message[0].epoch < client.epoch
    await client.close()
    return {"to_interrupted": _summary(answers), "packets_of_the_old_epoch_after_it": after}


async def _audio(url: str, recording: np.ndarray, seconds: float) -> dict[str, Any]:
    """Lateness of the pictures of sound that is pushed in real time, beyond the look-ahead."""
    client = BenchClient(url)
    await client.open()
    lateness, pictures, sound = await push_recording(client, recording, 0, seconds)
    await client.close()
    values = [value for _, value in lateness.late]
    start = lateness.late[0][0]
    return {
        "look_ahead_ms": client.ready["look_ahead_ms"],
        "beyond_look_ahead": _summary(values),
        "pictures": pictures,
        "sound_packets": sound,
        "series": [[at - start, 1000 * value] for at, value in lateness.late],
    }


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
    values = [value / 1000 for _, value in late]
    pictures = sum(sum(answer["pictures"]) for answer in answers)
    sound = sum(sum(answer["sound"]) for answer in answers)
    figures = _summary(values)
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
        "series": late,
    }


async def _memory(url: str, connects: int, supervisor: Supervisor) -> dict[str, Any]:
    """Memory of the server's processes before and after many connections, MiB."""

    async def once() -> None:
        client = BenchClient(url)
        await client.open()
        await client.send({"type": "speak", "text": "Yes."})
        await client.until(is_picture)
        await client.close()

    for _ in range(max(10, connects // 10)):
        await once()
    before = _memory_mib(supervisor)
    for _ in range(connects):
        await once()
    after = _memory_mib(supervisor)
    return {
        "connects": connects,
        "before_mib": before,
        "after_mib": after,
        "growth_mib": round(sum(after.values()) - sum(before.values()), 1),
    }


def _processor_seconds(supervisor: Supervisor) -> tuple[float, float]:
    """Processor time of the render process and of all fronts, s."""
    tick = os.sysconf("SC_CLK_TCK")

    def used(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / tick

    return used(supervisor.render_pid), sum(used(pid) for pid in supervisor.front_pids)


def _memory_mib(supervisor: Supervisor) -> dict[str, float]:
    """Resident memory of the processes, MiB."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident(pid: int) -> float:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return round(pages * page / 2**20, 1)

    fronts = [resident(pid) for pid in supervisor.front_pids]
    return {"render": resident(supervisor.render_pid), "fronts": round(sum(fronts), 1)}


def _write_report(path: Path, result: dict[str, Any]) -> None:
    """A page with the figures, and the lateness over time as plots."""
    from html import escape

    parts = ["<!doctype html><meta charset=utf-8><title>bench-live</title>", "<h1>bench-live</h1>"]
    for name in ("audio", "sessions"):
        series = result.get(name, {}).pop("series", None)
        if not series:
            continue
        # The worst lateness of each 40 ms.
        times = np.array([at for at, _ in series])
        worst = np.full(int(times.max() * FPS) + 1, np.nan)
        for at, value in series:
            index = int(at * FPS)
            worst[index] = np.nanmax([worst[index], value])
        title = f"{name}: ms after the look-ahead at which pictures arrive (worst of each 40 ms)"
        parts.append(f"<h2>{title}</h2>" + line_chart({"ms": worst}, title, unit=" ms"))
    parts.append(f"<pre>{escape(json.dumps(result, indent=1))}</pre>")
    path.write_text("\n".join(parts), encoding="utf-8")
