"""The commands that write, on tiny inputs; each runs in a forked process that may be killed.

`make_world` makes a folder with one small input of every kind. A trial is a copy of it, in which
commands run (`start`) and whose results are compared (`fingerprint`, `faults`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDE, CLIP_FRAMES, FAMILY_FRAMES = 160, 52, 22
PIECES = ("home", "family", "trained", "clip.mp4", "speech.wav", "scene.being", "pred.mp4")
# What differs from run to run: times, dates and names of files.
NOT_COMPARED = ("times.json", "report.html", "environment.json", "run.json", "metrics.jsonl")
WRONG = ("Traceback", "internal error")
Content = list[dict[str, str]]  # of each result of a command, digests by name
LIMIT_S = 300  # of one command; beyond it hangs


@dataclass(frozen=True)
class Command:
    """A command of the program; its words are relative to the trial."""

    name: str
    words: tuple[str, ...]
    target: str  # what it writes
    # Exit codes of the same command when the target is complete already
    again: tuple[int, ...] = (0,)
    # Whether two runs write the same bytes
    same_bytes: bool = True


TINY_TRAINING = (
    "data.size=32",
    "model.mouth=audio",
    "data.initial_gaussians=100",
    "train.coarse.steps=6",
    "train.fine.steps=4",
    "train.fine.batch=2",
    "train.checkpoint_every=2",
    "train.evaluate_every=2",
    "train.lips.warmup_steps=0",
    "train.lips.closure_steps=0",
    "train.preview_seconds=0",
    "train.loss.feature=0",
    "model.plane_resolution=8",
)
SCENE, RUN, NEW = "home/data/scene", "home/runs/scene/first", "home/data/new"
TRAINING = " ".join(f"-o {item}" for item in TINY_TRAINING)
COMMANDS = {
    name: Command(name, tuple(words.split()), target, again, same_bytes=name != "bench-fps")
    for name, words, target, again in (
        ("preprocess", f"preprocess clip.mp4 --consent x --out {NEW}", NEW, (1,)),
        ("import", f"data import family --out {NEW}", NEW, (1,)),
        ("unpack", f"data unpack scene.being --out {NEW}", NEW, (1,)),
        ("features", f"data features {SCENE} --latency low", SCENE, (0,)),
        ("pack", f"data pack {SCENE} --out new.being", "new.being", (0,)),
        ("data-export", f"data export {SCENE} --out exported", "exported", (1,)),
        ("train", f"train {SCENE} --config quick --device cpu {TRAINING}", "home/runs/scene", (0,)),
        ("import-checkpoint", "import-checkpoint trained --out imported", "imported", (1,)),
        ("render", f"render {RUN} --audio speech.wav --device cpu --out a.mp4", "a.mp4", (0,)),
        ("tts-video", f"tts-video {RUN} --text Hi --device cpu --out a.mp4", "a.mp4", (0,)),
        ("eval", f"eval {RUN} --device cpu", f"{RUN}/eval", (0,)),
        ("eval-pair", "eval --pred pred.mp4 --truth clip.mp4 --out report", "report", (0,)),
        ("bench-fps", f"bench-fps {RUN} --frames 8 --device cpu", f"{RUN}/bench", (0,)),
        ("export", f"export {RUN} --ply --onnx --out made", "made", (0,)),
    )
}


# --- the world


def make_world(folder: Path, names: Iterable[str] = COMMANDS) -> Path:
    """Fill `folder` with the inputs of the commands `names`: a dataset, and where they need them a
    finished run, a pack, a family folder, a trained GaussianTalker, videos and a sound.
    """
    import family_folder
    from drawn_face import talking_head, write_clip
    from scene import write_scene
    from tiny_home import hum, make_dataset, make_home
    from trained_gaussiantalker import write_trained

    from being.face.landmarks import BLENDSHAPES
    from being.interop.pack.packing import pack
    from being.media import read_audio, write_wav
    from being.sample import sample_clip

    needed = " ".join(" ".join(COMMANDS[name].words) for name in names)
    scene = write_scene(folder / "scene")
    if RUN in needed:
        make_home(folder / "home", scene)
        (path,) = (folder / "home/runs/scene").iterdir()
        path.rename(folder / RUN)
    else:
        make_dataset(folder / "home", scene)
        (folder / "home/runs/scene").mkdir(parents=True)
    shutil.rmtree(scene)
    # An export for other systems needs blendshapes and the family's landmark files.
    with np.load(folder / SCENE / "landmarks.npz") as found:
        arrays = dict(found)
    arrays["blendshapes"] = np.full((len(arrays["points"]), BLENDSHAPES), 0.1, np.float32)
    np.savez(folder / SCENE / "landmarks.npz", **arrays)
    for i, points in enumerate(arrays["points"]):
        np.savetxt(folder / SCENE / f"ori_imgs/{i}.lms", points[:68, :2])
    if "scene.being" in needed:
        pack(folder / SCENE, folder / "scene.being")
    if "family" in needed:
        family_folder.write_folder(folder / "family", family_folder.truth(FAMILY_FRAMES))
    if "trained" in needed:
        write_trained(folder / "trained")
    if ".mp4" in needed:
        pictures, _, _ = talking_head(CLIP_FRAMES, SIDE)
        speech = read_audio(sample_clip())[: CLIP_FRAMES * 640]
        write_clip(folder / "clip.mp4", pictures, speech)
        write_clip(folder / "pred.mp4", pictures[1:] + pictures[-1:], speech)
    write_wav(folder / "speech.wav", hum(0.6))
    return folder


def copy_world(world: Path, trial: Path) -> Path:
    """A copy of the world, in which a command may write."""
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(parents=True)
    for piece in PIECES:
        if not (world / piece).exists():
            continue
        if (world / piece).is_dir():
            shutil.copytree(world / piece, trial / piece, symlinks=True)
        else:
            shutil.copy2(world / piece, trial / piece)
    return trial


# --- running


def load_modules() -> None:
    """Import what commands need, once, before processes are forked. Starts no threads."""
    import torch

    import being.bench.benchmark
    import being.cli.app
    import being.eval.evaluation
    import being.inference.video
    import being.interop.family.exporter
    import being.interop.family.importer
    import being.interop.gaussiantalker.importer
    import being.interop.pack.unpacking
    import being.train.training  # noqa: F401

    torch.set_num_threads(1)


def shorten() -> None:
    """Replace what takes long and writes nothing: the face landmarks of a family folder (its
    images are drawn), and the repetitions of a benchmark.
    """
    import family_folder

    import being.bench.benchmark
    import being.bench.fps
    import being.interop.family.importer

    truth = family_folder.truth(FAMILY_FRAMES)
    being.interop.family.importer.FaceLandmarker = lambda: family_folder.Landmarker(truth)
    being.bench.benchmark.TRIAL_S = 0.1
    being.bench.fps.WARM_UP_CALLS = 1
    being.bench.fps.matmul_ms = lambda: 1.0
    being.bench.benchmark.cold_start = lambda *_: {"process_s": 1.0}


def run_here(words: tuple[str, ...], trial: Path) -> None:
    """Run a command in this process, in the folder `trial`; ends the process."""
    os.chdir(trial)
    os.environ["BEING_HOME"] = str(trial / "home")
    os.environ["BEING_OFFLINE"] = "1"
    shorten()
    from being.cli.app import main

    sys.argv = ["being", *words]
    main()


def start(
    words: tuple[str, ...], trial: Path, log: Path, hook: Callable[[], None] | None = None
) -> int:
    """Start a command in a forked process; its id. Text goes to `log`; hook: called before."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if hook is not None:
            hook()
        run_here(words, trial)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, limit: float = LIMIT_S) -> int:
    """Exit code of a forked process, negative for a signal. Raises AssertionError for one that
    hangs. It is killed then, and when this process is interrupted.
    """
    deadline = time.monotonic() + limit
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        raise AssertionError(f"process {child} did not end in {limit} s")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def run(command: Command, trial: Path, log: Path) -> int:
    """Run a command in a forked process; its exit code."""
    return wait(start(command.words, trial, log))


# --- results


def fingerprint(path: Path, name: str = "") -> dict[str, str]:
    """What a file or folder holds, as digests by name; without hidden files and what differs from
    run to run. Empty for a path that is not there.
    """
    if path.is_dir():
        found: dict[str, str] = {}
        for inside in sorted(path.iterdir()):
            hidden = inside.name.startswith(".") or inside.name in NOT_COMPARED
            if not hidden and inside.name not in ("events", "previews", "eval", "bench"):
                found |= fingerprint(inside, f"{name}/{inside.name}" if name else inside.name)
        return found
    if not path.is_file():
        return {}
    if path.suffix == ".being":
        with zipfile.ZipFile(path) as archive:
            # Matroska files have random numbers in their headers, so only sizes are compared.
            parts = [(info.filename, info.file_size) for info in archive.infolist()]
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        return {name or path.name: str(parts)}
    if path.suffix == ".mp4":
        return {name or path.name: _video_content(path)}
    return {name or path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def _video_content(path: Path) -> str:
    """Frames, their sizes, and the digest of the audio of a video.

    x264 gives other bytes for the same frames from run to run: on some processors its estimate of
    how far a block matters differs (with `mbtree` off it does not). All frames are decoded.
    """
    import av

    with av.open(str(path)) as container:
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
    sound = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.audio):
            sound.update(bytes(packet))
    return f"{len(frames)} frames {sorted(set(frames))} audio {sound.hexdigest()[:16]}"


def target_content(command: Command, trial: Path) -> Content:
    """Fingerprints of what a command writes: one, or one of each run that trainings made."""
    target = trial / command.target
    if command.name == "train":
        runs = [path for path in sorted(target.iterdir()) if path.name[0] not in ".f"]
        return [fingerprint(path) for path in runs]
    if not command.same_bytes:
        files = [path for path in target.glob("*") if not path.name.startswith(".")]
        return [{file.suffix: str(sorted(json.loads(file.read_text())))} for file in files]
    return [fingerprint(target)]


def faults(command: Command, trial: Path, before: Content, whole: Content) -> str:
    """What is wrong with the target, which must be as `before`, or `whole`; "" when nothing is.

    A training may also be on its way: then each of its checkpoints must load.
    """
    try:
        found = target_content(command, trial)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"{command.target} cannot be read: {error}"
    if command.name == "train":
        return _faults_of_runs(trial / command.target)
    if not command.same_bytes:
        return "" if all(one == whole[0] for one in found) else f"{command.target} is not whole"
    if found in (before, whole):
        return ""
    if command.name == "features":
        # Two files change, one after the other; the manifest names only what is there.
        return _faults_of_features(trial / command.target)
    names = sorted(set(found[0].items()) ^ set(whole[0].items()))[:4]
    return f"{command.target} is neither as before nor whole: {names}"


def _faults_of_runs(folder: Path) -> str:
    from being.errors import BeingError
    from being.runs.run_directory import Run

    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        try:
            run = Run.open(path)
            run.config  # noqa: B018
            for checkpoint in (path / "checkpoints").glob("*"):
                if not checkpoint.name.startswith("."):
                    run.load(checkpoint.name)
        except BeingError as error:
            return str(error)
    return ""


def _faults_of_features(folder: Path) -> str:
    from being.data.dataset import Dataset
    from being.errors import BeingError

    try:
        dataset = Dataset.open(folder)
        for name in dataset.manifest["features"]:
            assert np.isfinite(dataset.features(name)).all(), name
    except (BeingError, AssertionError) as error:
        return str(error)
    return ""


def debris(trial: Path) -> list[str]:
    """Hidden files and folders that a command left."""
    endings = (".lock", ".old")
    return [
        str(path.relative_to(trial))
        for path in trial.rglob(".*")
        if path.name.endswith(endings) or ".part" in path.name
    ]


def complaints(log: Path) -> str:
    """The first line of a log that no person should see; "" when there is none."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in lines if any(word in line for word in WRONG)), "")
