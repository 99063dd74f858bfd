"""The work of `being bench-fps`: prepares an avatar, measures it, prints and saves results."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from being.audio.clip_features import encode_frames
from being.audio.feature_windows import frame_count
from being.bench import variants
from being.bench.avatars import random_avatar, resampled, screen_coverage, with_random_bases
from being.bench.cold_start import cold_start
from being.bench.deformations import compare_deformations, comparison_table
from being.bench.fps import memory_growth, result_table, time_engine
from being.bench.sessions import bench_sessions
from being.console import console
from being.conventions import FEATURE_WINDOW, FPS, SAMPLE_RATE
from being.errors import BeingError
from being.files import Part
from being.inference.engine import Engine
from being.media.resampling import resample
from being.model.avatar import Avatar, load_avatar
from being.tts import speak

COMPARED_FRAMES = 24  # frames that every variant renders
# Rows over which random features are averaged, so that they change about as slowly as speech.
SMOOTHED_ROWS = 5
# Search for the largest number of sessions.
TRIAL_S = 3.0  # duration of a trial
MAX_TRIALS = 4
FIRST_TRIAL_SHARE = 0.8  # sessions of the first trial, as a share of the pipelined frame rate


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured."""

    frames: int = 200
    precision: str = "auto"
    deform: str = "network"  # or "bases"; measured beside the network
    random: int | None = None  # Gaussians of an untrained avatar
    gaussians: int | None = None  # number to which a trained avatar is resampled
    compare: bool = False  # compare all variants instead
    prune_to: tuple[float, ...] = (0.5, 0.25)  # shares of the Gaussians, for `compare`
    sessions: int | None = None  # measure only so many sessions
    seconds: float = 10.0  # duration of `sessions`
    long: int | None = None  # frames over which the growth of memory is measured
    rasterizer: str = "auto"  # a backend of `being.splat`
    refine_model: Path | None = None  # folder of a diffusion model, for `compare`


def run_benchmark(
    folder: Path | None, device: torch.device, options: BenchmarkOptions
) -> dict[str, Any]:
    """Figures (JSON types) of the avatar at `folder`, or of an untrained one; they are printed as
    they are measured.
    """
    # The avatar.
    if folder is None:
        assert options.random, "an avatar or a number of Gaussians"
        make = with_random_bases if options.deform == "bases" else random_avatar
        avatar = make(options.random, device=device)
    else:
        avatar = load_avatar(folder, device)
    avatar.model.backend = options.rasterizer
    if options.gaussians:
        avatar = resampled(avatar, options.gaussians)

    # Its size on screen, which decides the cost of rasterization.
    on_screen, tiles = screen_coverage(avatar)
    result: dict[str, Any] = {
        "avatar": str(folder) if folder else f"random, {options.random} Gaussians",
        "gaussians_on_screen": on_screen,
        "tiles_per_gaussian": round(tiles, 2),
    }

    # The measurement that was asked for.
    if options.compare:
        result |= _compare_variants(avatar, options)
    elif options.sessions:
        engine = Engine(avatar, options.precision, deform=options.deform)
        result["sessions"] = bench_sessions(engine, options.sessions, options.seconds)
        console.info(sessions_summary(result["sessions"]))
    else:
        result |= _measure_engine(avatar, folder, options)
    if folder is not None:
        _save(folder, result)
    return result


def _measure_engine(
    avatar: Avatar, folder: Path | None, options: BenchmarkOptions
) -> dict[str, Any]:
    """Times of the engine, of a cold start, and the number of sessions."""
    engine = Engine(avatar, options.precision, deform=options.deform)
    result = time_engine(engine, options.frames)
    console.info(result_table(result))
    if options.deform == "bases":
        result["deformations"] = compare_deformations(avatar, options.precision, options.frames)
        console.info(comparison_table(result["deformations"]))
    if folder is not None:
        result["start"] = cold_start(folder, str(engine.device), options.precision, options.deform)
        console.info(f"cold start: {_listed(result['start'])}")
    result["sessions"] = find_max_sessions(engine, result["rows"][-1]["flowing_ms_a_frame"])
    console.info(sessions_summary(result["sessions"]))
    if options.long:
        result["growth"] = memory_growth(engine, options.long)
        console.info(f"memory: {_listed(result['growth'])}")
    return result


def _listed(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in figures.items())


def _compare_variants(avatar: Avatar, options: BenchmarkOptions) -> dict[str, Any]:
    """Frame rate and PSNR of every variant."""
    features = _speech_features(avatar)
    console.info(
        f"{len(features)} frames one by one; {len(avatar.model.gaussians)} Gaussians, "
        f"{avatar.size} px; PSNR of the worst frame against the torch renderer in float32\n"
        f"  {'variant':<44}{'frames/s':>10}{'PSNR dB':>10}"
    )
    rows = variants.compare(avatar, features, options.prune_to, console.info, options.refine_model)
    return {"roads": rows}


def _speech_features(avatar: Avatar) -> torch.Tensor:
    """Features [F, 16, C] of synthesised speech, or of smoothed noise where the voice or the speech
    encoder is missing.
    """
    encoder, width = avatar.manifest["encoder"], avatar.manifest["audio_width"]
    try:
        speech = speak("Good morning, how are you?", "hibari", 1.0)
        samples = resample(speech.samples, speech.rate, SAMPLE_RATE)
        features = torch.from_numpy(encode_frames(samples, frame_count(samples), encoder, width))
        if features.shape[2] == width:
            return features[:COMPARED_FRAMES]
    except (BeingError, ImportError):
        pass
    shape = (COMPARED_FRAMES + SMOOTHED_ROWS, FEATURE_WINDOW, width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.unfold(0, SMOOTHED_ROWS, 1).mean(-1)[:COMPARED_FRAMES] * SMOOTHED_ROWS**0.5


def find_max_sessions(engine: Engine, frame_ms: float) -> dict[str, Any]:
    """Figures of the largest number of sessions tried whose 99th percentile of lateness is within
    the time of a frame.

    frame_ms: ms a frame when batches are pipelined; the first trial is computed from it.
    """
    count = max(1, int(FIRST_TRIAL_SHARE * 1000 / frame_ms / FPS))
    best: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    for _ in range(MAX_TRIALS):
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


def sessions_summary(found: dict[str, Any]) -> str:
    """The figures of `bench_sessions` as one line."""
    return (
        f"sessions at {FPS} frames/s with the 99th percentile of lateness within "
        f"{1000 // FPS} ms: {found['sessions']} (p50 {found.get('p50_ms')} ms, "
        f"p99 {found.get('p99_ms')} ms over {found.get('seconds')} s)"
    )


def _save(folder: Path, result: dict[str, Any]) -> None:
    """Save the figures in the folder `bench` of the run that the avatar belongs to, if any."""
    run = folder if (folder / "run.json").is_file() else folder.parent
    if not (run / "run.json").is_file():
        return
    file = run / "bench" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    try:
        with Part(file, free_name=True) as part:
            part.path.write_text(json.dumps(result, indent=1))
    except OSError as error:
        console.warn(f"the figures are not saved in {file.parent}: {error.strerror or error}")
        return
    console.info(f"figures saved in {file.parent}")
