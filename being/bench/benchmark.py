"""What `being bench-fps` does: an avatar found or made, measured, told, and the figures kept with
its run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from being.audio.feature_windows import encode, frame_count
from being.bench import variants
from being.bench.avatars import coverage, random_avatar, resampled
from being.bench.cold_start import cold_start
from being.bench.fps import bench, growth, table
from being.bench.sessions import bench_sessions
from being.console import say
from being.conventions import FPS
from being.files import write_json
from being.inference.engine import Engine
from being.model.avatar import Avatar, load_avatar

COMPARED = 24  # frames that every road renders
SMOOTH = 5  # rows over which random features are averaged, to move about as slowly as speech
TRIAL_S = 3.0  # of a number of sessions
TRIALS = 4
HOPE = 0.8  # of the frames/s that flow, as sessions, to begin with


@dataclass(frozen=True)
class Wanted:
    """What is to be measured."""

    frames: int = 200
    precision: str = "auto"
    random: int | None = None  # Gaussians of an untrained avatar
    gaussians: int | None = None  # to resample a trained one to
    compare: bool = False
    prune_to: tuple[float, ...] = (0.5, 0.25)
    sessions: int | None = None
    seconds: float = 10.0
    long: int | None = None  # frames over which memory is watched


def measure(folder: Path | None, device: torch.device, wanted: Wanted) -> dict[str, Any]:
    """Figures of the avatar at `folder`, or of an untrained one, as a dict; people are told as they
    come.
    """
    if folder is None:
        assert wanted.random, "an avatar or a number of Gaussians"
        avatar = random_avatar(wanted.random, device=device)
    else:
        avatar = load_avatar(folder, device)
    if wanted.gaussians:
        avatar = resampled(avatar, wanted.gaussians)
    shown, tiles = coverage(avatar)
    result: dict[str, Any] = {
        "avatar": str(folder) if folder else f"random, {wanted.random} Gaussians",
        "gaussians_on_screen": shown,
        "tiles_per_gaussian": round(tiles, 2),
    }
    if wanted.compare:
        result |= _compared(avatar, wanted)
    elif wanted.sessions:
        engine = Engine(avatar, wanted.precision)
        result["sessions"] = bench_sessions(engine, wanted.sessions, wanted.seconds)
        say(told(result["sessions"]))
    else:
        result |= _timed(avatar, folder, wanted)
    if folder is not None:
        _keep(folder, result)
    return result


def _timed(avatar: Avatar, folder: Path | None, wanted: Wanted) -> dict[str, Any]:
    engine = Engine(avatar, wanted.precision)
    result = bench(engine, wanted.frames)
    say(table(result))
    if folder is not None:
        result["start"] = cold_start(folder, str(engine.device), wanted.precision)
        say(
            "cold start: " + ", ".join(f"{name} {value}" for name, value in result["start"].items())
        )
    result["sessions"] = most_sessions(engine, result["rows"][-1]["flowing_ms_a_frame"])
    say(told(result["sessions"]))
    if wanted.long:
        result["growth"] = growth(engine, wanted.long)
        say("memory: " + ", ".join(f"{name} {value}" for name, value in result["growth"].items()))
    return result


def _compared(avatar: Avatar, wanted: Wanted) -> dict[str, Any]:
    features = _speech(avatar)
    say(
        f"{len(features)} frames one by one; {len(avatar.model.gaussians)} Gaussians, {avatar.size} px; PSNR of the "
        "worst frame against plain float32\n"
        f"  {'road':<44}{'frames/s':>10}{'PSNR dB':>10}"
    )
    return {"roads": variants.compare(avatar, features, wanted.prune_to, say)}


def _speech(avatar: Avatar) -> torch.Tensor:
    """Features [F, 16, C] of spoken words where a voice and the encoder are at hand, else of
    smoothed noise.
    """
    from being.errors import BeingError

    try:
        from being.conventions import SAMPLE_RATE
        from being.media.resampling import to_rate
        from being.tts import speak

        speech = speak("Good morning, how are you?", "hibari", 1.0)
        samples = to_rate(speech.samples, speech.rate, SAMPLE_RATE)
        features = torch.from_numpy(
            encode(
                samples,
                frame_count(samples),
                avatar.manifest["encoder"],
                avatar.manifest["audio_width"],
            )
        )
        if features.shape[2] == avatar.manifest["audio_width"]:
            return features[:COMPARED]
    except (BeingError, ImportError):
        pass
    noise = torch.randn(
        COMPARED + SMOOTH,
        16,
        avatar.manifest["audio_width"],
        generator=torch.Generator().manual_seed(0),
    )
    return noise.unfold(0, SMOOTH, 1).mean(-1)[:COMPARED] * SMOOTH**0.5


def most_sessions(engine: Engine, flowing_ms: float) -> dict[str, Any]:
    """The largest number of sessions tried whose 99th percentile of lateness is within a frame's
    time.
    """
    count, best, failed = max(1, int(HOPE * 1000 / flowing_ms / FPS)), None, None
    for _ in range(TRIALS):
        found = bench_sessions(engine, count, TRIAL_S)
        if found["held"]:
            best = found
            if failed is not None:
                break
            count = max(count + 1, int(count * 1.25))
        else:
            failed = found
            if best is not None or count == 1:
                break
            count = max(1, int(count * 0.7))
    return best or {**(failed or {}), "sessions": 0}


def told(found: dict[str, Any]) -> str:
    """Sessions for people."""
    return (
        f"sessions at {FPS} frames/s with the 99th percentile of lateness within 40 ms: {found['sessions']} "
        f"(p50 {found.get('p50_ms')} ms, p99 {found.get('p99_ms')} ms over {found.get('seconds')} s)"
    )


def _keep(folder: Path, result: dict[str, Any]) -> None:
    """Save the figures with the run, under its folder `bench`."""
    run = folder if (folder / "run.json").is_file() else folder.parent
    if (run / "run.json").is_file():
        place = run / "bench"
        place.mkdir(exist_ok=True)
        write_json(place / f"{time.strftime('%Y%m%d-%H%M%S')}.json", result)
        say(f"figures kept in {place}")
