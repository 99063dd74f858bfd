"""Whether the head in its source frame shows the border of the avatar's square.

    python -m scripts.measure.source_border RUN AUDIO [--frames 250] [--sheet FILE]

renders RUN with `--into-source` and measures, for each frame, the mean absolute difference of the
pixels on both sides of the square's border, less the same in the recording. Prints the mean and the
99th percentile over the frames, in levels of 255. The sheet shows 24 frames.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from being import media
from being.audio.feature_windows import frame_count
from being.data.dataset import Dataset
from being.data.source_video import find_source, source_frame_numbers, whole_frames
from being.inference.engine import Engine
from being.inference.look import Look
from being.inference.pose_path import pose_path
from being.interop.surround import frames_of
from being.media import read_audio
from being.runs.run_directory import Run

SHEET_FRAMES, COLUMNS, SHEET_HEIGHT = 24, 8, 480


def border_steps(frame: np.ndarray, crop: tuple[float, float, float]) -> float:
    """Mean absolute difference across the borders of a square that lie inside a frame."""
    left, top, side = crop
    edges = [round(left), round(top), round(left + side), round(top + side)]
    height, width = frame.shape[:2]
    picture = frame.astype(np.int16)
    rows, columns = slice(max(edges[1], 0), edges[3]), slice(max(edges[0], 0), edges[2])
    steps = []
    for x in (edges[0], edges[2]):
        if 0 < x < width:
            steps.append(np.abs(picture[rows, x] - picture[rows, x - 1]).reshape(-1))
    for y in (edges[1], edges[3]):
        if 0 < y < height:
            steps.append(np.abs(picture[y, columns] - picture[y - 1, columns]).reshape(-1))
    return float(np.concatenate(steps).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()

    engine = Engine.load(options.run, look=Look(into_source=True))
    surround = engine.avatar.surround
    dataset = Dataset.open(Run.open(options.run).dataset)
    video = find_source(dataset.path)
    assert surround is not None and video is not None
    samples = read_audio(options.audio)[: options.frames * 640]
    path = pose_path(frame_count(samples), engine.avatar.pose_count)

    # The recording's own steps at the border, by pose.
    poses = frames_of(engine.avatar, dataset)
    numbers = source_frame_numbers(dataset.manifest)[poses.start : poses.stop]
    info = media.probe(video)
    own = [
        border_steps(frame, surround.crop)
        for frame in whole_frames(info, numbers, info.width, info.height)
    ]

    more, shown = [], []
    wanted = set(np.linspace(0, len(path) - 1, SHEET_FRAMES).astype(int).tolist())
    for k, frame in enumerate(engine.video(engine.encode(samples), len(path))):
        more.append(border_steps(frame, surround.crop) - own[path[k]])
        if k in wanted:
            scale = SHEET_HEIGHT / frame.shape[0]
            size = (round(frame.shape[1] * scale), SHEET_HEIGHT)
            shown.append(np.asarray(Image.fromarray(frame).resize(size)))
    if options.sheet is not None:
        rows = [np.concatenate(shown[k : k + COLUMNS], 1) for k in range(0, len(shown), COLUMNS)]
        Image.fromarray(np.concatenate(rows)).save(options.sheet)
    result = {
        "frames": len(more),
        "mean_levels": round(float(np.mean(more)), 3),
        "p99_levels": round(float(np.percentile(more, 99)), 3),
        "recording_levels": round(float(np.mean(own)), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
