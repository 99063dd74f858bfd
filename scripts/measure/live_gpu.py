"""Measure live sessions on a GPU machine: correctness there, then bars of latency and of sessions.

    python -m scripts.measure.live_gpu [--sessions 100] [--seconds 60] [--repeats 40]
        [--connects 1000] [--gaussians 20000] [--device cuda] [--fronts N] [--front-features]
        [--budget SECONDS] [--only PART,PART] [--client-sessions 1000] [--chunk 0.08]

Parts, each in a process of its own, so that a fault in one leaves the others:

    correct   mouth codes of many streams on the device against one stream on the processor, and
              pictures written as I420 on the device against the native code; time of a batch
    bench     `bench-live`: connection, text, interrupt, sound of a microphone, N sessions at
              25 frames/s (each its own place in a recording, pushed in 20 ms chunks in real time;
              features, H.264 and sending over loopback included), memory over connections
    fewer     where the sessions were late: them again for 20 s, with 9 front processes
    client    sessions whose clients draw, only with --only client: --client-sessions of them for
              --seconds, then how many hold, for CLIENT_S each; each figure is printed as it comes.
              It needs no GPU: the render process only counts the sessions

Nothing is installed or fetched. The last line is JSON, before it stands a summary.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

STREAMS = 64
SOUND_S = 4.0
TIMED = 200  # batches
LIMIT_S = {"correct": 150, "bench": 360, "fewer": 120}
FEWER_FRONTS, FEWER_S = 9, 20.0
# Of the search for the most sessions whose clients draw: seconds of each try, and the factors by
# which their number changes.
CLIENT_S, CLIENT_MORE, CLIENT_FEWER = 12.0, (1.25, 1.5, 2.0), (0.8, 0.65, 0.5, 0.35, 0.25, 0.15)
CLIENT_GAUSSIANS = 500  # nothing is rendered
CLIENT_AROUND_S = 12.0  # of a try, beside what is counted: processes start, sessions begin


def main() -> None:
    """Run the parts and print what they found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=list(LIMIT_S))
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--connects", type=int, default=1000)
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--fronts", type=int)
    parser.add_argument(
        "--front-features", action="store_true", help="features in the front processes"
    )
    parser.add_argument("--only", help="parts, with commas between them")
    parser.add_argument("--budget", type=float, default=470.0, help="seconds for all parts")
    parser.add_argument("--client-sessions", type=int, default=1000)
    parser.add_argument("--chunk", type=float, default=0.08, help="s of sound in a message")
    options = parser.parse_args()
    if options.only == "client":
        print(json.dumps({"client": client(options)}))
        return
    if options.part:
        parts = {"correct": correct, "bench": bench, "fewer": fewer}
        print(json.dumps(parts[options.part](options)), flush=True)
        return

    found: dict[str, Any] = {}
    end = time.time() + options.budget
    for part, limit in LIMIT_S.items():
        if options.only and part not in options.only.split(","):
            continue
        if part == "fewer" and found.get("bench", {}).get("sessions", {}).get("held"):
            continue
        started = time.time()
        limit = min(limit, end - started)
        command = [sys.executable, "-u", "-m", "scripts.measure.live_gpu", "--part", part]
        found[part] = run(command + sys.argv[1:], limit)
        print(f"[{part}: {time.time() - started:.0f} s]", flush=True)
    print_summary(found)
    print(json.dumps(found))


def run(command: list[str], limit: float) -> dict[str, Any]:
    """What a part printed as JSON: its last line, or what came before it was stopped."""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 15)
                output, _ = process.communicate()
        errors.seek(0)
        told = errors.read()
        told = told if len(told) < 2500 else f"{told[:1500]} ... {told[-1000:]}"
    parts: dict[str, Any] = {}
    for line in output.splitlines():
        if line.startswith("{"):
            parts.update(json.loads(line))
    if process.returncode:
        parts["failed"] = f"exit status {process.returncode}: {told}"
    return parts


def correct(options: argparse.Namespace) -> dict[str, Any]:
    """The device against the processor."""
    return {**codes_on_the_device(options.device), **pictures_on_the_device(options)}


def codes_on_the_device(device: str) -> dict[str, Any]:
    """Mouth codes of 64 streams against those of single ones, and the time of a batch."""
    from being.audio.causal_conformer import shipped_weights
    from being.audio.encoder_names import CAUSAL
    from being.audio.sound_chunks import CHUNK_SAMPLES, ChunkCutter
    from being.bench.avatars import random_voice
    from being.conventions import SAMPLE_RATE
    from being.data.mouth import CODE_GAIN
    from being.inference.mouth_batch import MouthBatch, MouthBatchRunner
    from being.inference.mouth_stream import CODE_DELAY, live_stream
    from being.media.resampling import resample
    from being.tts import speak

    weights = shipped_weights()
    width = weights.width + 2
    voice = replace(random_voice(width), closure_step=16)
    speech = speak("The trains run every ten minutes, and the last one leaves at midnight. " * 3)
    sound = resample(speech.samples, speech.rate, SAMPLE_RATE)
    rng = np.random.default_rng(0)
    size = int(SOUND_S * SAMPLE_RATE)
    sounds = [
        sound[first : first + size - int(rng.integers(2000))]
        for first in rng.integers(0, sound.size - size, STREAMS)
    ]

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    runner = MouthBatchRunner(MouthBatch(weights, voice, STREAMS + 1, device))
    started = time.perf_counter()
    runner.warm_up(STREAMS)
    warm_s = time.perf_counter() - started
    cutters = []
    for samples in sounds:
        cutters.append(ChunkCutter())
        cutters[-1].push(samples)
        cutters[-1].pad(cutters[-1].frames + CODE_DELAY)
    codes: list[list[np.ndarray]] = [[] for _ in sounds]
    for k in range(max(cutter.complete for cutter in cutters)):
        # Batches of different sizes, as sessions come.
        going = [i for i, cutter in enumerate(cutters) if k < cutter.complete]
        for part in (going[: 1 + k % 7], going[1 + k % 7 :]):
            if part:
                made = runner.submit(
                    np.array(part),
                    np.full(len(part), k),
                    np.array([cutters[i].frames for i in part]),
                    np.stack([cutters[i].samples(k, k + 1) for i in part]),
                ).codes()
                for i, code in zip(part, made, strict=True):
                    codes[i].append(code.copy())
    step_difference = steps_on_the_device(sounds[:4], device)
    worst, spread = 0.0, 0.0
    for i in range(0, STREAMS, 8):
        stream = live_stream(CAUSAL, voice, width)
        rows = np.concatenate([stream.push(sounds[i]), stream.finish()])[:, 0]
        made = np.stack(codes[i])[CODE_DELAY:] * CODE_GAIN
        assert made.shape == rows.shape, (made.shape, rows.shape)
        worst = max(worst, float(np.abs(made - rows).max()))
        spread = max(spread, float(rows.std()))

    times = {}
    for size in (1, 8, 32, 64):
        samples = np.zeros((size, CHUNK_SAMPLES), np.float32)
        started = time.perf_counter()
        for k in range(TIMED):
            runner.submit(
                np.arange(size), np.full(size, k), np.full(size, 1 << 40), samples
            ).codes()
        times[str(size)] = round(1000 * (time.perf_counter() - started) / TIMED, 3)
    return {
        "codes": {
            "steps_worst_difference": step_difference,
            "codes_worst_difference": worst,
            "codes_deviation": spread,
            "batch_ms": times,
            "graphs_s": round(warm_s, 1),
        }
    }


def steps_on_the_device(sounds: list[np.ndarray], device: str) -> float:
    """The largest difference of feature steps, which are up to 8 large."""
    from being.audio.causal_conformer import shipped_weights
    from being.audio.causal_encoder import CausalEncoder
    from being.audio.conformer_batch import ConformerBatch
    from being.audio.sound_chunks import FIRST_OUT, ChunkCutter

    batch = ConformerBatch(shipped_weights(), len(sounds), device)
    cutters, made = [], []
    for samples in sounds:
        cutters.append(ChunkCutter())
        cutters[-1].push(samples)
        cutters[-1].pad(max(len(s) for s in sounds) // 640 + 4)
    streams = torch.arange(len(sounds), device=device)
    for k in range(cutters[0].complete):
        chunks = torch.full((len(sounds),), k, device=device)
        samples = np.stack([cutter.samples(k, k + 1) for cutter in cutters])
        made.append(batch.push(streams, chunks, torch.from_numpy(samples).to(device)).cpu())
    steps = torch.cat(made, 1)[:, -FIRST_OUT:].numpy()
    worst = 0.0
    for samples, own in zip(sounds, steps, strict=True):
        stream = CausalEncoder().steps()
        expected = np.concatenate([stream.push(samples), stream.finish()])
        worst = max(worst, float(np.abs(own[: len(expected)] - expected).max()))
    return worst


def pictures_on_the_device(options: argparse.Namespace) -> dict[str, Any]:
    """I420 written on the device against the native code of its RGB pictures."""
    from being.bench.avatars import random_avatar
    from being.inference.engine import Engine
    from being.inference.i420 import COLOURS, write_i420
    from being.inference.protocol import PlanarRenderer

    avatar = random_avatar(options.gaussians, device=options.device)
    engine = Engine(avatar)
    renderer = engine.renderer
    if not isinstance(renderer, PlanarRenderer):
        return {"pictures": {"renderer": type(renderer).__name__, "planar": False}}
    poses = np.arange(8)
    kinds = [COLOURS[k % 2] for k in range(8)]
    features = torch.randn(8, 16, avatar.manifest["audio_width"])
    differing = 0
    with engine.track(features) as track:
        rows, expression = track.rows(np.arange(8)), engine.expression[poses]
        images = engine.submit(rows, poses).images().copy()
        planar = renderer.submit_planar(rows, poses, expression, kinds).images().copy()
        for image, made, kind in zip(images, planar, kinds, strict=True):
            expected = np.zeros_like(made)
            write_i420(image, expected, kind)
            differing += int((made != expected).sum())

        times = {}
        for size in (1, 8, 32):
            many = np.resize(np.arange(8), size)
            for name in ("rgb", "i420"):
                chosen = [kinds[k] for k in many]
                for count in (5, TIMED):  # the first ones make graphs
                    started = time.perf_counter()
                    for _ in range(count):
                        if name == "rgb":
                            engine.submit(rows[many], many).images()
                        else:
                            values = expression[many]
                            renderer.submit_planar(rows[many], many, values, chosen).images()
                    taken = time.perf_counter() - started
                times[f"{name}_{size}"] = round(1000 * taken / TIMED, 3)
    return {"pictures": {"differing_bytes": differing, "bytes": planar.size, "batch_ms": times}}


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """`bench-live` with all its parts; each is printed as it comes."""
    from being.bench.live import LiveBenchOptions, bench_live

    def told(name: str, part: dict[str, Any]) -> None:
        print(json.dumps({name: part}), flush=True)

    return bench_live(
        LiveBenchOptions(
            None,
            gaussians=options.gaussians,
            device=options.device,
            fronts=options.fronts,
            repeats=options.repeats,
            sessions=options.sessions,
            seconds=options.seconds,
            connects=options.connects,
            batched_features=not options.front_features,
        ),
        told,
    )


def fewer(options: argparse.Namespace) -> dict[str, Any]:
    """The sessions once more, with fewer front processes and nothing else."""
    options.fronts, options.repeats, options.connects = FEWER_FRONTS, 1, 0
    options.seconds = min(options.seconds, FEWER_S)
    return {"sessions": bench(options)["sessions"]}


def client(options: argparse.Namespace) -> dict[str, Any]:
    """The most sessions that hold whose clients draw, and the figures of all tries."""
    from pathlib import Path

    from being.bench.drawn import drawn_sessions
    from being.bench.live import LiveBenchOptions, live_server, setup_facts, write_recording

    end = time.time() + options.budget
    wanted, tries = options.client_sessions, list[dict[str, Any]]()
    settings = LiveBenchOptions(
        None,
        gaussians=CLIENT_GAUSSIANS,
        fronts=options.fronts,
        drawn=round(wanted * max(CLIENT_MORE)),
        batched_features=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        recording = write_recording(Path(folder) / "recording.npy")
        print(f"[{time.time() - end + options.budget:.0f} s: the server starts]", flush=True)
        with live_server(settings, Path(folder)) as supervisor:
            setup = setup_facts(settings, supervisor)
            print(f"[{time.time() - end + options.budget:.0f} s] {json.dumps(setup)}", flush=True)

            def measured(sessions: int, seconds: float) -> bool | None:
                """Whether they hold; None where no time is left."""
                if time.time() + seconds + CLIENT_AROUND_S > end:
                    return None
                found = drawn_sessions(
                    supervisor, recording, sessions, seconds, options.chunk, print
                )
                tries.append(found)
                print(json.dumps(found), flush=True)
                return bool(found["held"])

            held = measured(wanted, options.seconds)
            for factor in CLIENT_MORE if held else CLIENT_FEWER:
                if held is None or (seen := measured(round(wanted * factor), CLIENT_S)) is None:
                    break
                if seen != held:
                    break
    most = max((one["sessions"] for one in tries if one["held"]), default=0)
    return {**setup, "most_sessions_that_hold": most, "tries": tries}


def print_summary(found: dict[str, Any]) -> None:
    """The figures beside the bars, at most 60 lines."""
    print("\n== live sessions: summary ==")
    for part, figures in found.items():
        if "failed" in figures:
            print(f"{part} FAILED: {figures['failed']}")
    for name in ("codes", "pictures"):
        print(f"{name}: {json.dumps(found.get('correct', {}).get(name))}")
    run = found.get("bench", {})
    setup = {name: value for name, value in run.items() if not isinstance(value, dict)}
    print(f"setup: {json.dumps(setup)}")
    late = run.get("audio", {}).get("beyond_look_ahead", {})
    print(f"bar 1, sound to its encoded picture beyond the look-ahead, ms (bar 15): {late}")
    spoken = run.get("text", {})
    for name in ("to_first_sound", "to_first_picture"):
        print(f"bar 2, text {name}, ms (bar 200): {spoken.get(name)}")
    print(f"bar 3, interrupt: {json.dumps(run.get('interrupt'))}")
    print(f"connect: {json.dumps(run.get('connect'))}")
    print(f"bar 5, sessions (bar: p99 40 ms): {json.dumps(run.get('sessions'))}")
    print(f"bar 5, memory: {json.dumps(run.get('memory'))}")
    if "fewer" in found:
        again = found["fewer"].get("sessions")
        print(f"sessions with {FEWER_FRONTS} fronts: {json.dumps(again)}")


if __name__ == "__main__":
    main()
