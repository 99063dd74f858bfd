"""The watermark: read back after attacks in rendered videos, false alarms, PSNR, cost.

    python -m scripts.measure.watermark RUN... --audio FILE... --out FOLDER [--videos 50]
        [--whole-frames 50] [--clips FILE...] [--unmarked 200] [--share 1/2]

Each video is 10 s of one avatar that speaks one piece of the audio. It is read back after x264 at
crf 28, after scaling to 0.75, after a crop to 80 % of each side (both with crf 23), after all three
together (crf 28), and after --into-source where the avatar has its source frames (crf 28; at most
`--whole-frames` videos). The same video without the mark, and pieces of the real clips under the
same attacks, must give no alarm. PSNR is that of the frames with the mark against those without;
the costs are processor time of all threads: of adding the mark, and of rendering the frame.

FOLDER gets a JSON file for each video and for each reading of a real clip. What is there is not
measured again, so the count goes on after a kill, and with more avatars. With --share 1/2 and 2/2
two processes fill one folder. The last line is the JSON of all counts in FOLDER.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.audio.feature_windows import frame_count
from being.files import write_json
from being.inference.engine import Engine
from being.inference.look import Look
from being.media import VideoSettings, VideoWriter, read_audio, read_frames
from being.provenance.mark import identity_of
from being.provenance.watermark import Watermark, chosen_key
from being.provenance.watermark_reading import read_watermark

SECONDS, RATE, FPS = 10, 16_000, 25
CRF, MILD_CRF = 28, 23
REAL_SIDE = 400  # px: longer side of the real clips' pieces
REAL_ATTACKS = ("crf28", "scaled", "cropped", "together", "mirrored", "again", "twice")
REAL_CRF = {"again": 18, "twice": 35}
ENGINES = 3  # that are kept in memory, of each kind
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


def reading_of(frames: list[np.ndarray], crf: int, folder: Path) -> dict[str, Any]:
    """What is read in the frames after x264."""
    file, (height, width) = folder / "a.mp4", frames[0].shape[:2]
    with VideoWriter(file, width, height, settings=VideoSettings(crf=crf)) as video:
        for frame in frames:
            video.write(frame)
    found = read_watermark(file, chosen_key())
    return {
        "z": round(found.z, 2),
        "found": found.found,
        "payload": found.payload,
        "bound": found.false_alarm,
    }


def crf_of(attack: str) -> int:
    return MILD_CRF if attack in ("scaled", "cropped", "mirrored") else CRF


@functools.lru_cache(2 * ENGINES)
def engine_of(run: Path, into_source: bool) -> Engine:
    return Engine.load(run, look=Look(into_source=into_source))


class Video:
    """One video of the count: an avatar that speaks a piece of audio."""

    def __init__(self, run: Path, piece: Piece, out: Path):
        self.run, self.piece = run, piece
        self.identity = identity_of(engine_of(run, False).avatar.manifest)
        self.file = out / f"video-{self.identity[:10]}-{piece.name}.json"

    def row(self) -> dict[str, Any]:
        """What is known of it so far."""
        return json.loads(self.file.read_text()) if self.file.is_file() else {}

    def measure(self, folder: Path) -> None:
        """Measure all attacks on the avatar's square, unless that is done."""
        if self.row():
            return
        engine = engine_of(self.run, False)
        plain, frame_ms = self._rendered(engine)
        watermark = Watermark(self.identity)
        marked = [frame.copy() for frame in plain]
        cost = self._mark(marked, watermark)
        pairs = zip(plain[::10], marked[::10], strict=True)
        errors = [((a.astype(np.float32) - b) ** 2).mean() for a, b in pairs]
        seed = hashlib.sha256(self.file.name.encode()).digest()
        corner = np.random.default_rng(list(seed)).random(2)
        row: dict[str, Any] = {
            "avatar": engine.avatar.manifest["name"],
            "identity": self.identity,
            "audio": self.piece.name,
            "side": plain[0].shape[0],
            "payload": watermark.payload,
            "psnr": round(float(10 * np.log10(255**2 / max(errors))), 2),
            "cost_ms": round(cost, 4),
            "frame_ms": round(frame_ms, 3),
            "unmarked": reading_of(plain, CRF, folder),
        }
        for attack in ATTACKS[:-1]:
            row[attack] = reading_of(attacked(marked, attack, corner), crf_of(attack), folder)
        write_json(self.file, row)

    @property
    def has_source(self) -> bool:
        """Whether --into-source can be measured."""
        return engine_of(self.run, False).avatar.surround is not None

    def measure_into_source(self, folder: Path) -> None:
        """Measure the whole source frames, unless that is done."""
        row = self.row()
        if "into_source" in row:
            return
        frames, frame_ms = self._rendered(engine_of(self.run, True))
        cost = self._mark(frames, Watermark(self.identity))
        row["into_source"] = reading_of(frames, CRF, folder)
        row["into_source_size"] = list(frames[0].shape[:2])
        row["into_source_cost_ms"], row["into_source_frame_ms"] = round(cost, 4), round(frame_ms, 3)
        write_json(self.file, row)

    def _rendered(self, engine: Engine) -> tuple[list[np.ndarray], float]:
        """Frames that may be written to, and the ms of processor time of one."""
        features = list(engine.encode(self.piece.samples))
        start = time.process_time()
        frames = [
            np.array(frame) for frame in engine.video(features, frame_count(self.piece.samples))
        ]
        return frames, 1000 * (time.process_time() - start) / len(frames)

    @staticmethod
    def _mark(frames: list[np.ndarray], watermark: Watermark) -> float:
        """Mark the frames in place; ms of processor time of one."""
        start = time.thread_time()
        for frame in frames:
            watermark.add(frame)
        return 1000 * (time.thread_time() - start) / len(frames)


@dataclass(frozen=True)
class Piece:
    """SECONDS s of an audio file."""

    name: str
    samples: np.ndarray  # float32 [T] at 16 kHz


def pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """The pieces of audio files."""
    for file in files:
        samples = read_audio(file)
        length = SECONDS * RATE
        for start in range(0, len(samples) - length + 1, length):
            name = f"{file.stem}-{start // RATE:03d}"
            yield Piece(name, samples[start : start + length])


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
                f"{file.stem}-{number:02d}",
                [np.asarray(Image.fromarray(f).resize((size[0], size[1]))) for f in part],
            )


def measure_real(clip: str, frames: list[np.ndarray], attack: str, out: Path, work: Path) -> None:
    """Measure one reading of a real clip, unless that is done."""
    file = out / f"clip-{clip}-{attack}.json"
    if file.is_file():
        return
    seed = hashlib.sha256(file.name.encode()).digest()
    changed = attacked(frames, attack, np.random.default_rng(list(seed)).random(2))
    crf = REAL_CRF.get(attack) or crf_of(attack)
    write_json(file, {"clip": clip, "attack": attack, "unmarked": reading_of(changed, crf, work)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--audio", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--whole-frames", type=int, default=50)
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--unmarked", type=int, default=200, help="readings of real clips")
    parser.add_argument("--share", default="1/1", help="K/N: every Nth piece of work, from the Kth")
    options = parser.parse_args()
    share, shares = map(int, options.share.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)

    def mine(work: Iterable[Any]) -> Iterator[Any]:
        return itertools.islice(work, share - 1, None, shares)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The avatars take turns, so that each speaks about as often.
        spoken = list(pieces(options.audio))
        turns = itertools.product(range(len(spoken)), range(len(options.runs)))
        videos = [
            Video(options.runs[i], spoken[(k + i) % len(spoken)], options.out)
            for k, i in itertools.islice(turns, options.videos)
        ]
        for video in mine(videos):
            video.measure(folder)
            print(video.file.name, flush=True)
        # One piece of a clip at a time is in memory.
        clips = ((clip, attack) for clip in real_pieces(options.clips) for attack in REAL_ATTACKS)
        for (clip, frames), attack in mine(itertools.islice(clips, options.unmarked)):
            measure_real(clip, frames, attack, options.out, folder)
            print(clip, attack, flush=True)
        whole = [video for video in videos if video.has_source][: options.whole_frames]
        for video in mine(whole):
            video.measure_into_source(folder)
            print(video.file.name, "into source", flush=True)
    print(json.dumps(summary(options.out)))


def summary(out: Path) -> dict[str, Any]:
    """Counts of all results in a folder."""
    videos = [json.loads(file.read_text()) for file in sorted(out.glob("video-*.json"))]
    clips = [json.loads(file.read_text()) for file in sorted(out.glob("clip-*.json"))]
    found: dict[str, Any] = {"videos": len(videos)}
    found["avatars"] = dict(Counter(f"{row['avatar']} {row['identity'][:8]}" for row in videos))
    for attack in ATTACKS:
        read = [row for row in videos if attack in row]
        found[attack] = {
            "of": len(read),
            "avatars": len({row["identity"] for row in read}),
            "found": sum(row[attack]["found"] for row in read),
            "avatar_told": sum(row[attack]["payload"] == row["payload"] for row in read),
            "least_z": min((row[attack]["z"] for row in read), default=None),
            "missed": [[row["avatar"], row["audio"]] for row in read if not row[attack]["found"]],
        }
    unmarked = [row["unmarked"] for row in (*videos, *clips)]
    found["unmarked"] = {
        "of": len(unmarked),
        "real": len(clips),
        "alarms": sum(value["found"] for value in unmarked),
        "largest_z": max((value["z"] for value in unmarked), default=None),
    }
    found["least_psnr"] = min((row["psnr"] for row in videos), default=None)
    for prefix in ("", "into_source_"):
        shares = [
            row[f"{prefix}cost_ms"] / row[f"{prefix}frame_ms"]
            for row in videos
            if f"{prefix}cost_ms" in row
        ]
        found[f"{prefix}largest_share_of_frame"] = round(max(shares, default=0.0), 4)
    found["required"] = list(REQUIRED)
    return found


if __name__ == "__main__":
    main()
