"""The watermark: read back after attacks in rendered videos, false alarms, PSNR, cost.

    python -m scripts.measure.watermark RUN... --audio FILE... [--videos 50] [--whole-frames 12]
        [--clips FILE...] [--unmarked 150] [--out rows.jsonl]

Each video is 10 s of one avatar that speaks one piece of the audio. It is read back after x264 at
crf 28, after scaling to 0.75, after a crop to 80 % of each side (both with crf 23), after all three
together (crf 28), and after --into-source where the avatar has its source frames (crf 28; at most
`--whole-frames` videos). The same video without the mark, and pieces of the real clips under the
same attacks, must give no alarm. PSNR is that of the frames with the mark against those without;
the cost is processor time of adding it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from being.audio.feature_windows import frame_count
from being.inference.engine import Engine
from being.inference.look import Look
from being.media import VideoSettings, VideoWriter, read_audio, read_frames
from being.provenance.mark import identity_of
from being.provenance.watermark import Watermark, chosen_key
from being.provenance.watermark_reading import read_watermark

SECONDS, RATE, FPS = 10, 16_000, 25
CRF, MILD_CRF = 28, 23
REAL_SIDE = 400  # px: longer side of the real clips' pieces
ATTACKS = ("crf28", "scaled", "cropped", "together", "into_source")
REQUIRED = ("crf28", "scaled", "cropped", "into_source")


def attacked(frames: Iterable[np.ndarray], attack: str, corner: np.ndarray) -> list[np.ndarray]:
    """The frames after the part of an attack that is no encoding; corner: [2] in [0, 1]."""
    found = []
    for frame in frames:
        if attack in ("cropped", "together"):
            sides = np.array(frame.shape[:2])
            kept = (0.8 * sides).astype(int)
            top, left = (corner * (sides - kept)).astype(int)
            frame = frame[top : top + kept[0], left : left + kept[1]]
        if attack in ("scaled", "together"):
            size = (round(0.75 * frame.shape[1]), round(0.75 * frame.shape[0]))
            frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        if attack == "mirrored":
            frame = frame[:, ::-1]
        found.append(np.ascontiguousarray(frame))
    return found


def reading_of(frames: list[np.ndarray], crf: int, folder: Path) -> dict[str, object]:
    """What is read in the frames after x264."""
    file, (height, width) = folder / "a.mp4", frames[0].shape[:2]
    with VideoWriter(file, width, height, settings=VideoSettings(crf=crf)) as video:
        for frame in frames:
            video.write(frame)
    start = time.perf_counter()
    found = read_watermark(file, chosen_key())
    seconds = time.perf_counter() - start
    return {
        "z": round(found.z, 2),
        "found": found.found,
        "payload": found.payload,
        "seconds": round(seconds, 2),
        "bound": found.false_alarm,
    }


def crf_of(attack: str) -> int:
    return MILD_CRF if attack in ("scaled", "cropped", "mirrored") else CRF


@functools.cache
def engine_of(run: Path, into_source: bool) -> Engine:
    return Engine.load(run, look=Look(into_source=into_source))


def measure_video(
    run: Path, samples: np.ndarray, folder: Path, seed: int, whole_frame: bool
) -> dict[str, object]:
    """Readings of one video of one avatar."""
    engine = engine_of(run, False)
    watermark = Watermark(identity_of(engine.avatar.manifest))
    corner = np.random.default_rng(seed).random(2)
    plain = list(engine.video(engine.encode(samples), frame_count(samples)))
    marked = [frame.copy() for frame in plain]
    start = time.thread_time()
    for frame in marked:
        watermark.add(frame)
    cost = 1000 * (time.thread_time() - start) / len(marked)
    errors = [
        ((a.astype(np.float32) - b) ** 2).mean()
        for a, b in zip(plain[::10], marked[::10], strict=True)
    ]
    row: dict[str, object] = {
        "avatar": engine.avatar.manifest["name"],
        "side": plain[0].shape[0],
        "payload": watermark.payload,
        "psnr": round(float(10 * np.log10(255**2 / max(errors))), 2),
        "cost_ms": round(cost, 3),
        "unmarked": reading_of(plain, CRF, folder),
    }
    for attack in ATTACKS[:-1]:
        row[attack] = reading_of(attacked(marked, attack, corner), crf_of(attack), folder)
    if whole_frame and engine.avatar.surround is not None:
        whole = engine_of(run, True)
        frames = []
        for frame in whole.video(whole.encode(samples), frame_count(samples)):
            frames.append(watermark.marked(frame))
        row["into_source"] = reading_of(frames, CRF, folder)
        row["into_source_size"] = frames[0].shape[:2]
    return row


def pieces(files: Iterable[Path]) -> Iterator[np.ndarray]:
    """Pieces of SECONDS s of audio files, float32 [T] at 16 kHz."""
    for file in files:
        samples = read_audio(file)
        length = SECONDS * RATE
        for start in range(0, len(samples) - length + 1, length):
            yield samples[start : start + length]


def real_pieces(files: Iterable[Path]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Pieces of SECONDS s, or the rest, of real clips, at most REAL_SIDE px a side."""
    for file in files:
        frames = read_frames(file)
        for number in itertools.count():
            part = list(itertools.islice(frames, SECONDS * FPS))
            if len(part) < 2 * FPS:
                break
            scale = min(1.0, REAL_SIDE / max(part[0].shape[:2]))
            size = [2 * round(scale * side / 2) for side in part[0].shape[1::-1]]
            yield (
                f"{file.stem} {number}",
                [np.asarray(Image.fromarray(f).resize((size[0], size[1]))) for f in part],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--audio", nargs="*", type=Path, default=[])
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--whole-frames", type=int, default=12)
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--unmarked", type=int, default=150, help="readings of real clips")
    parser.add_argument("--out", type=Path, help="rows as JSON lines")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []

    def keep(row: dict[str, object]) -> None:
        rows.append(row)
        if options.out:
            with open(options.out, "a") as file:
                file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The avatars take turns, so that each speaks about as often.
        spoken = list(pieces(options.audio))
        turns = itertools.product(range(len(spoken)), options.runs)
        for number, (k, run) in enumerate(itertools.islice(turns, options.videos)):
            turned = spoken[(k + options.runs.index(run)) % len(spoken)]
            more = sum("into_source" in row for row in rows) < options.whole_frames
            keep(measure_video(run, turned, folder, number, more))
        done = 0
        random = np.random.default_rng(0)
        for clip, frames in real_pieces(options.clips):
            for attack in ("crf28", "scaled", "cropped", "together", "mirrored", "again", "twice"):
                if done == options.unmarked:
                    break
                changed = attacked(frames, attack, random.random(2))
                crf = {"again": 18, "twice": 35}.get(attack) or crf_of(attack)
                keep({"clip": clip, "attack": attack, "unmarked": reading_of(changed, crf, folder)})
                done += 1
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """Counts of all rows."""
    videos = [row for row in rows if "avatar" in row]
    found: dict[str, object] = {"videos": len(videos)}
    found["avatars"] = len({str(row["avatar"]) for row in videos})
    for attack in ATTACKS:
        read = [row for row in videos if attack in row]
        values: list[dict] = [row[attack] for row in read]  # type: ignore[misc]
        right = [
            value["payload"] == row["payload"] for row, value in zip(read, values, strict=True)
        ]
        found[attack] = {
            "of": len(read),
            "found": sum(value["found"] for value in values),
            "avatar_told": sum(right),
            "least_z": min((value["z"] for value in values), default=None),
        }
    unmarked: list[dict] = [row["unmarked"] for row in rows]  # type: ignore[misc]
    found["unmarked"] = {
        "of": len(unmarked),
        "real": len(rows) - len(videos),
        "alarms": sum(value["found"] for value in unmarked),
        "largest_z": max((value["z"] for value in unmarked), default=None),
    }
    found["least_psnr"] = min((row["psnr"] for row in videos), default=None)  # type: ignore[type-var]
    found["required"] = list(REQUIRED)
    return found


if __name__ == "__main__":
    main()
