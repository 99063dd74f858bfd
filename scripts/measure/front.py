"""Measure the processor time and the memory of a front process of the live server, without a GPU.

    python -m scripts.measure.front [--sessions 8] [--seconds 20] [--parts] [--against CHECKOUT]
        [--rounds 3]

The front is the real one. At the other end of its link a scripted render process hands out pictures
of the drawn sample clip and mouth codes: it costs the front nothing. Clients in processes of their
own push a voice in 20 ms chunks in real time. The processor time of the front is divided by the
pictures that came.

--parts       add up the own time of each part (`front_parts`), which itself takes some
--against     the same with the code of another checkout that has this script, in turns
--connects    memory of the front over N connections, each with a text, in place of the above
--slow        time runs this many times slower for the front and its clients, so that a machine that
              others use keeps up; processor time is counted as it is

The last line is JSON. Say how busy the machine was: processor time grows with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.measure.slow_time import run_slowly

CLIENTS_A_PROCESS = 4
PICTURES = 50  # of the clip, back and forth
FIRST_PICTURE = 60
SIZE, CHANNELS = 512, 16
SETTLE_S = 4.0  # after the clients begin, before the time counts
START_S = 120.0
VOICE_S = 20.0
WARM_UP = 64  # connections before memory is read


@dataclass
class ScriptedCode:
    """As `feature_worker.MadeCode`."""

    session: Hashable
    utterance: int
    frame: int
    code: np.ndarray


class ScriptedFeatures:
    """Mouth codes at once; used like a `FeatureWorker`."""

    busy = False

    def __init__(self, chunk: int, step: int, delay: int):
        """Samples of a chunk, from one to the next, and frames of delay of a code."""
        self._chunk, self._step, self._delay = chunk, step, delay
        self._open: set[Hashable] = set()
        self._made: list[ScriptedCode] = []
        self._dice = np.random.default_rng(0)

    def open(self, session: Hashable) -> None:
        """See `FeatureWorker.open`."""
        self._open.add(session)

    def close(self, session: Hashable) -> None:
        """See `FeatureWorker.close`."""
        self._open.discard(session)
        self._made = [code for code in self._made if code.session != session]

    def put(
        self, session: Hashable, utterance: int, first: int, frames: int, samples: np.ndarray
    ) -> None:
        """See `FeatureWorker.put`."""
        for k in range((samples.size - self._chunk) // self._step + 1):
            frame = first + k - self._delay
            if frame >= 0 and session in self._open:
                code = self._dice.normal(size=CHANNELS).astype(np.float32)
                self._made.append(ScriptedCode(session, utterance, frame, code))

    def tick(self) -> list[ScriptedCode]:
        """See `FeatureWorker.tick`."""
        made, self._made = self._made, []
        return made


class ScriptedWorker:
    """Pictures of a clip at once; used like a `RenderWorker`."""

    def __init__(self, pictures: list[np.ndarray]):
        self._pictures = pictures
        self._queue: deque[Any] = deque()

    @property
    def busy(self) -> bool:
        """Whether pictures wait."""
        return bool(self._queue)

    def open(self, session: Hashable, silent_row: np.ndarray) -> None:
        """See `RenderWorker.open`."""

    def close(self, session: Hashable) -> None:
        """See `RenderWorker.close`."""
        self._queue = deque(job for job in self._queue if job.session != session)

    def put(self, job: Any) -> None:
        """See `RenderWorker.put`."""
        self._queue.append(job)

    def tick(self) -> list[Any]:
        """See `RenderWorker.tick`."""
        done = list(self._queue)
        self._queue.clear()
        for job in done:
            job.out[:] = self._pictures[job.order.pose]
        return done


def clip_pictures() -> list[np.ndarray]:
    """Pictures of the drawn sample clip as I420, uint8 [1.5 S^2] each."""
    import being.sample
    from being.inference.i420 import VIDEO_COLOURS, i420_bytes, write_i420
    from being.media.video_reading import read_frames

    pictures = []
    for number, frame in enumerate(read_frames(Path(being.sample.__file__).parent / "speaker.mp4")):
        if number < FIRST_PICTURE:
            continue
        if len(pictures) == PICTURES:
            break
        assert frame.shape == (SIZE, SIZE, 3), frame.shape
        pictures.append(np.empty(i420_bytes(SIZE), np.uint8))
        write_i420(np.ascontiguousarray(frame), pictures[-1], VIDEO_COLOURS)
    return pictures


def write_facts(path: Path) -> None:
    """Facts of an avatar with the channels of a face, whose rows are mouth codes."""
    from being.audio.causal_encoder import CausalEncoder
    from being.audio.encoder_names import CAUSAL
    from being.bench.avatars import random_voice
    from being.conventions import FEATURE_WINDOW
    from being.data.expression_channels import BLINK, ExpressionChannels
    from being.session.avatar_facts import AvatarFacts
    from being.session.motion import AvatarMotion

    names = (BLINK, "brow_inner_up", "brow_outer_up", "lid_up", "gaze_right", "gaze_up")
    count = len(names)
    channels = ExpressionChannels(
        names, (0.0,) * count, (1.0,) * count, (-1.0,) * count, (1.0,) * count
    )
    expression = np.random.default_rng(0).uniform(0, 0.3, (PICTURES, count)).astype(np.float32)
    voice = random_voice(CausalEncoder().width)
    mark = {"avatar": {"id": "0123456789abcdef" * 4}}
    AvatarFacts(
        "bench",
        SIZE,
        CAUSAL,
        np.full((FEATURE_WINDOW, CHANNELS), 0.1, np.float32),
        AvatarMotion(PICTURES, channels, expression),
        {"confirmed": True},
        "a drawn person",
        voice,
        batched=True,
        mark=mark,
    ).save(path)


def babble() -> np.ndarray:
    """Sound with the rhythm and the pitch of a voice, int16 [n] at 24 kHz."""
    from being.session.timeline import RATE

    time_s = np.arange(round(VOICE_S * RATE)) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time_s) + 0.4, 0, 1)
    phrases = (time_s % 3.0) < 2.3
    return (6000 * tone * syllables * phrases).astype(np.int16)


def render_process(facts_file: str, listener: int, parent: int) -> None:
    """Run the scripted render process until its parent ends."""
    from being.audio.sound_chunks import CHUNK_SAMPLES
    from being.conventions import SAMPLES_PER_FRAME
    from being.inference.mouth_stream import CODE_DELAY
    from being.session.admission import Admission
    from being.session.avatar_facts import AvatarFacts
    from being.session.render_process import RenderProcess

    facts = AvatarFacts.load(Path(facts_file))
    workers: dict[str, Any] = {facts.key: ScriptedWorker(clip_pictures())}
    features: dict[str, Any] = {
        facts.key: ScriptedFeatures(CHUNK_SAMPLES, SAMPLES_PER_FRAME, CODE_DELAY)
    }
    admission = Admission(1000, 1000)
    process = RenderProcess(socket.socket(fileno=listener), workers, [facts], admission, features)
    process.watch_parent(parent)
    process.run()


def front_process(slow: float, config: str, file: str) -> None:
    """Run the front; its parts, where `file` is named, are written to it at SIGUSR1."""
    from being.api import front_process as module

    run_slowly(slow)
    if slow != 1 or file:
        os.environ[module.PLAIN_LOOP] = "1"  # the other one has a clock of its own, and no parts
    if file:
        from scripts.measure.front_parts import Ledger

        ledger = Ledger()
        ledger.install()

        def write(*_: object) -> None:
            Path(file).write_text(json.dumps({"ns": ledger.ns, "process_s": time.process_time()}))

        signal.signal(signal.SIGUSR1, write)
    sys.argv = ["front", config]
    module.main()


def load_process(slow: float, config: str) -> None:
    """Run clients."""
    from being.bench import live_load

    run_slowly(slow)
    sys.argv = ["load", config]
    live_load.main()


def once(options: argparse.Namespace) -> dict[str, Any]:
    """One run: start the processes, let the clients push, and read the front's time and memory."""
    from being.api.front_process import FrontConfig
    from being.api.placement import Placement
    from being.api.readiness import bound_socket
    from being.bench.live_load import LoadConfig

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    me = [sys.executable, "-m", "scripts.measure.front"]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_facts(folder / "0.npz")
        np.save(folder / "sound.npy", babble())
        read, write = os.pipe()
        stack.callback(os.close, read)
        renderer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        renderer.bind(str(folder / "render"))
        renderer.listen(8)
        listener = stack.enter_context(bound_socket("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        placement = Placement(listener)
        stack.callback(placement.close)
        door = placement.new_door()
        metrics = folder / "metrics"
        metrics.mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)

        def run(command: list[str], pass_fds: list[int]) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                command, env=environment, pass_fds=pass_fds, text=True, stdout=subprocess.PIPE
            )
            stack.callback(end, process)
            return process

        run(
            [*me, "--as", "render", str(folder / "0.npz"), str(renderer.fileno()), str(read)],
            [renderer.fileno(), read],
        )
        config = FrontConfig(
            door=door.fileno(),
            parent=read,
            renderer=str(folder / "render"),
            facts=[str(folder / "0.npz")],
            slots=options.sessions + 2,
            token=None,
            origins=[],
            voice="hibari",
            certificate=None,
            key=None,
        ).to_json()
        parts_file = folder / "parts.json" if options.parts else None
        command = [*me, "--as", "front", str(options.slow), config, str(parts_file or "")]
        front = run(command, [door.fileno(), read])
        door.close()
        stack.callback(os.close, write)  # ends both processes
        wait_for(port, front)
        idle = memory(front.pid)

        if options.connects:
            url = f"ws://127.0.0.1:{port}/session"
            return connections(url, front.pid, options.connects)
        counts = [CLIENTS_A_PROCESS] * (options.sessions // CLIENTS_A_PROCESS)
        counts += [rest] if (rest := options.sessions % CLIENTS_A_PROCESS) else []
        url = f"ws://127.0.0.1:{port}/session"
        seconds = options.seconds + SETTLE_S + 1
        loads = []
        for number, count in enumerate(counts):
            load = LoadConfig(url, str(folder / "sound.npy"), count, seconds, number)
            loads.append(run([*me, "--as", "load", str(options.slow), load.to_json()], []))
        while sessions(port) < options.sessions:
            time.sleep(0.5)
            assert all(load.poll() is None for load in loads), "a client has ended"
        time.sleep(options.slow * SETTLE_S)
        first = reading(front, port, parts_file)
        time.sleep(options.slow * options.seconds)
        last = reading(front, port, parts_file)
        busy = memory(front.pid)
        answers = [json.loads(load.communicate()[0].splitlines()[-1]) for load in loads]

    late = np.array([value for answer in answers for _, value in answer["late"]])
    pictures = last["pictures"] - first["pictures"]
    found: dict[str, Any] = {
        "pictures": pictures,
        "pictures_of_due": round(
            pictures * options.slow / (25 * options.sessions * (last["s"] - first["s"])), 3
        ),
        "ms_a_picture": round(1000 * (last["processor_s"] - first["processor_s"]) / pictures, 3),
        "of_it_kernel": round(1000 * (last["kernel_s"] - first["kernel_s"]) / pictures, 3),
        "page_faults_a_picture": round((last["faults"] - first["faults"]) / pictures, 1),
        "lateness_ms": {
            f"p{share}": round(float(np.percentile(late, share)), 1) for share in (50, 95, 99)
        },
        "memory_mib": {"no session": idle, f"{options.sessions} sessions": busy},
    }
    if options.parts:
        parts = {
            part: (last["ns"][part] - first["ns"].get(part, 0)) / 1e6 / pictures
            for part in last["ns"]
        }
        total = 1000 * (last["process_s"] - first["process_s"]) / pictures
        parts["event loop and the rest"] = total - sum(parts.values())
        found["parts_ms"] = {
            part: round(value, 4) for part, value in sorted(parts.items(), key=lambda x: -x[1])
        }
    return found


def connections(url: str, pid: int, count: int) -> dict[str, Any]:
    """Memory of the front before and after each quarter of the connections, MiB."""
    from being.bench.live_measures import connect_often

    asyncio.run(connect_often(url, WARM_UP))
    steps = [memory(pid)["rss"]]
    for _ in range(4):
        asyncio.run(connect_often(url, count // 4))
        steps.append(memory(pid)["rss"])
    return {"connects": count, "rss_mib": steps, "pss_mib": memory(pid)["pss"]}


def wait_for(port: int, front: subprocess.Popen[str]) -> None:
    """Wait until the front serves."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and front.poll() is None:
        with contextlib.suppress(OSError):
            if "200 OK" in fetched(port, "health"):
                return
        time.sleep(0.1)
    raise RuntimeError("the front does not start")


def fetched(port: int, path: str) -> str:
    """The answer to a request, with its head."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        content = b""
        while part := connection.recv(1 << 16):
            content += part
    return content.decode()


def counter(port: int, name: str) -> float:
    """The sum of a counter in the metrics."""
    lines = [line for line in fetched(port, "metrics").splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines)


def sessions(port: int) -> int:
    """Sessions that run."""
    return round(counter(port, "being_sessions{") + counter(port, "being_sessions "))


def reading(front: subprocess.Popen[str], port: int, parts: Path | None) -> dict[str, Any]:
    """Time and pictures of the front now."""
    found: dict[str, Any] = {}
    if parts is not None:
        parts.unlink(missing_ok=True)
        os.kill(front.pid, signal.SIGUSR1)
        while not parts.exists() or not parts.read_text().endswith("}"):
            time.sleep(0.005)
        found |= json.loads(parts.read_text())
    fields = Path(f"/proc/{front.pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return found | {
        "s": time.monotonic(),
        "processor_s": (int(fields[11]) + int(fields[12])) / tick,
        "kernel_s": int(fields[12]) / tick,
        "faults": int(fields[7]),
        "pictures": counter(port, "being_frames_sent_total"),
    }


def memory(pid: int) -> dict[str, Any]:
    """Resident memory of a process, and its share of what it has in common with others, MiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0])
    return {
        "rss": round(fields["Rss"] / 1024, 1),
        "pss": round(fields["Pss"] / 1024, 1),
        "torch": "libtorch" in Path(f"/proc/{pid}/maps").read_text(),
    }


def end(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process, and make it end where it does not."""
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> None:
    """Run what the command line asks for; see the module."""
    if len(sys.argv) > 2 and sys.argv[1] == "--as":
        kind, *rest = sys.argv[2:]
        if kind == "render":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            render_process(rest[0], int(rest[1]), int(rest[2]))
        elif kind == "front":
            front_process(float(rest[0]), *rest[1:])
        else:
            load_process(float(rest[0]), *rest[1:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--connects", type=int, default=0)
    options = parser.parse_args()
    checkouts = {"own": Path.cwd()} | ({"against": options.against} if options.against else {})
    if options.rounds == 1 and not options.against:
        found = once(options)
        print_run(found)
        print(json.dumps(found))
        return
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for _ in range(options.rounds):
        for name, checkout in checkouts.items():
            command = [sys.executable, "-m", "scripts.measure.front"]
            command += ["--sessions", str(options.sessions), "--seconds", str(options.seconds)]
            command += ["--slow", str(options.slow), *(["--parts"] if options.parts else [])]
            environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
            answer = subprocess.run(
                command,
                cwd=checkout,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            runs[name].append(json.loads(answer.stdout.splitlines()[-1]))
            print(f"{name}: {runs[name][-1]['ms_a_picture']} ms a picture", flush=True)
    print(json.dumps({"load": os.getloadavg(), "runs": runs}))


def print_run(found: dict[str, Any]) -> None:
    """The figures of a run as a table."""
    print(f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}")
    for part, value in found.get("parts_ms", {}).items():
        print(f"{value:8.3f} ms  {part}")
    if "ms_a_picture" not in found:
        return
    print(f"{found['ms_a_picture']:8.3f} ms  processor time of a picture, all of the front")


if __name__ == "__main__":
    main()
