"""Loudness of audio by EBU R 128: measured, and brought to a target without clipping."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from being.errors import InputRejected, UsageError
from being.media.ffmpeg_program import Backend, MediaInput, backend_for, run_program

TARGETS = (-40.0, -5.0)  # LUFS
PEAK_MAX = -1.5  # dB of full scale, true peak
ACCURACY = 0.5  # LU
CLOSE = 0.05  # LU, from which no further pass is made
GATE = -69.5  # LUFS; the measurement knows nothing quieter than -70
BLOCK_SECONDS = 0.4  # one block of the measurement
BLOCK = 1 << 16  # samples that a graph of PyAV takes at once
PASSES = 8
# Of the limiter. It works on four times the samples, so that peaks between samples are seen.
OVERSAMPLING = 4
ATTACK, RELEASE = 5, 60  # ms

# A filter of ffmpeg and its options.
Filter = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Loudness:
    """The loudness of audio."""

    # LUFS, of the whole; -inf for silence
    integrated: float
    # dB of full scale, between the samples too
    true_peak: float


@dataclass(frozen=True)
class NormalisedLoudness:
    """Audio of a target loudness, and how it was made."""

    # float32 [T, C] in [-1, 1]
    samples: np.ndarray
    # before and after
    source: Loudness
    result: Loudness
    # whether peaks were limited: else all samples have one gain
    limited: bool
    backend: Backend

    def facts(self) -> dict[str, float | bool | str]:
        """What a command reports with --json."""
        return {
            "lufs_before": round(self.source.integrated, 2),
            "lufs": round(self.result.integrated, 2),
            "true_peak_db": round(self.result.true_peak, 2),
            "limited": self.limited,
            "backend": self.backend,
        }


def check_loudness_target(target: float) -> None:
    """Raise UsageError unless the target, in LUFS, is one that audio can be brought to."""
    if not TARGETS[0] <= target <= TARGETS[1]:
        raise UsageError(
            f"--loudness {target:g} is not from {TARGETS[0]:g} to {TARGETS[1]:g}",
            "it is in LUFS",
            "-16 is usual on the web, -23 in broadcasting",
        )


def measure_loudness(samples: np.ndarray, rate: int) -> Loudness:
    """The loudness of float32 [T, C] at `rate` Hz; C is 1 or 2."""
    assert samples.ndim == 2 and samples.shape[1] in (1, 2), samples.shape
    block = math.ceil(BLOCK_SECONDS * rate)
    short = max(0, block - len(samples))
    padded = np.pad(samples, ((0, short), (0, 0)))
    _, said = _filtered(padded, rate, [("ebur128", {"peak": "true", "metadata": "1"})])
    integrated = float(said.get("lavfi.r128.I", "-inf"))
    peak = float(said.get("lavfi.r128.true_peak", "0"))
    return Loudness(
        integrated if integrated > GATE else -math.inf,
        20 * math.log10(peak) if peak > 0 else -math.inf,
    )


def normalise_loudness(samples: np.ndarray, rate: int, target: float) -> NormalisedLoudness:
    """Audio brought to the loudness `target` in LUFS, at most -1.5 dB of true peak.

    samples: float32 [T, C] in [-1, 1] at `rate` Hz; C is 1 or 2. One gain for all samples, and
    where the peaks would be too high a limiter. Raises UsageError for a target out of range, or one
    that this audio cannot reach within 0.5 LU; InputRejected for silence.
    """
    check_loudness_target(target)
    source = measure_loudness(samples, rate)
    if not math.isfinite(source.integrated):
        raise InputRejected(
            "the audio is silent",
            f"it has no part above {GATE:.0f} LUFS, so it cannot be made louder",
            "Give audio with speech, or leave --loudness out",
        )
    backend = _backend()

    # One gain, where the peaks allow it.
    gain = target - source.integrated
    if source.true_peak + gain <= PEAK_MAX:
        louder = (samples * np.float32(_factor(gain))).astype(np.float32)
        result = measure_loudness(louder, rate)
        return NormalisedLoudness(louder, source, result, False, backend)

    # Else a limiter. It takes loudness away, and coming back to the rate raises peaks a little.
    ceiling, best = PEAK_MAX - 0.1, None
    for _ in range(PASSES):
        louder = _limited(samples * np.float32(_factor(gain)), rate, ceiling)
        result = measure_loudness(louder, rate)
        short = target - result.integrated
        if result.true_peak <= PEAK_MAX:
            if best is None or abs(short) < abs(target - best.result.integrated):
                best = NormalisedLoudness(louder, source, result, True, backend)
            if abs(short) <= CLOSE:
                break
        ceiling -= max(0.0, result.true_peak - PEAK_MAX + 0.02)
        gain += 1.2 * short
    if best is None or abs(target - best.result.integrated) > ACCURACY:
        reached = "" if best is None else f"it reaches {best.result.integrated:.1f} LUFS"
        raise UsageError(
            f"--loudness {target:g} cannot be reached under a true peak of {PEAK_MAX:g} dB",
            reached,
            "Give a lower value: -16 is usual on the web, -23 in broadcasting",
        )
    return best


def _factor(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _limited(samples: np.ndarray, rate: int, ceiling: float) -> np.ndarray:
    """Samples float32 [T, C] whose peaks are limited to `ceiling` dB, at the same times."""
    limiter = {
        "limit": f"{_factor(ceiling):.6f}",
        "attack": str(ATTACK),
        "release": str(RELEASE),
        "level": "0",
        "latency": "1",
    }
    found, _ = _filtered(
        samples,
        rate,
        [
            ("aresample", {"sample_rate": str(OVERSAMPLING * rate)}),
            ("alimiter", limiter),
            ("aresample", {"sample_rate": str(rate)}),
        ],
    )
    found = found[: len(samples)]
    return np.pad(found, ((0, len(samples) - len(found)), (0, 0)))


def _backend() -> Backend:
    """What runs the filters. Raises EnvironmentFault where nothing has them."""
    backends = {backend_for(filter=name) for name in ("ebur128", "alimiter", "ametadata")}
    return "ffmpeg program" if "ffmpeg program" in backends else "pyav"


def _filtered(
    samples: np.ndarray, rate: int, filters: Sequence[Filter]
) -> tuple[np.ndarray, dict[str, str]]:
    """The samples float32 [U, C] that a chain of filters makes, and its last frame's metadata."""
    run = _filtered_by_pyav if _backend() == "pyav" else _filtered_by_program
    with tempfile.TemporaryDirectory(prefix="being-") as name:
        folder = Path(name)
        notes = folder / "notes"
        found = run(np.ascontiguousarray(samples, np.float32), rate, filters, folder)
        # "frame:N ..." begins the lines of a frame.
        said = notes.read_text(errors="replace").rpartition("frame:")[2].splitlines()[1:]
    return found, dict(line.partition("=")[::2] for line in said)


def _filtered_by_pyav(
    samples: np.ndarray, rate: int, filters: Sequence[Filter], folder: Path
) -> np.ndarray:
    """As `_filtered`; the metadata goes into the file `notes` in the folder."""
    channels = samples.shape[1]
    layout = "mono" if channels == 1 else "stereo"
    graph = av.filter.Graph()
    clock = Fraction(1, rate)
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout=layout, time_base=clock)
    last = [("ametadata", {"mode": "print", "file": str(folder / "notes")})]
    chain = [source, *(graph.add(name, **options) for name, options in [*filters, *last])]
    chain += [graph.add("aformat", sample_fmts="flt"), graph.add("abuffersink")]
    for before, after in zip(chain[:-1], chain[1:], strict=True):
        before.link_to(after)
    graph.configure()

    # Push in blocks, then the end, and take what is ready after each.
    frames: list[av.AudioFrame | None] = []
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, clock
        frames.append(frame)
    parts: list[np.ndarray] = [np.zeros((0, channels), np.float32)]
    for pushed in [*frames, None]:
        source.push(pushed)
        while True:
            try:
                made = cast(av.AudioFrame, chain[-1].pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            parts.append(made.to_ndarray().reshape(-1, channels))
    return np.concatenate(parts)


def _filtered_by_program(
    samples: np.ndarray, rate: int, filters: Sequence[Filter], folder: Path
) -> np.ndarray:
    """As `_filtered_by_pyav`."""
    channels, raw = samples.shape[1], ("-f", "f32le")
    samples.astype("<f4").tofile(folder / "in")
    chain = [*filters, ("ametadata", {"mode": "print", "file": "notes"})]
    text = ",".join(
        f"{name}={':'.join(f'{key}={value}' for key, value in options.items())}"
        for name, options in chain
    )
    run_program(
        [MediaInput(folder / "in", (*raw, "-ar", str(rate), "-ac", str(channels)))],
        ["-af", text, *raw],
        folder / "out",
        folder=folder,
    )
    return np.fromfile(folder / "out", "<f4").reshape(-1, channels).astype(np.float32)
