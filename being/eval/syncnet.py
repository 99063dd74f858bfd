"""Sync-C and Sync-D: SyncNet's confidence and distance of mouth and voice, with the user's weights.

SyncNet (Chung & Zisserman 2016) puts 0.2 s of mouth and of voice into one space. Sync-D (LSE-D) is
the distance of the two at the best offset, Sync-C (LSE-C) how much larger the usual distance at the
other offsets is. Network, distances and spectrum are those of the package `syncnet-python`, which
carries no weights. Frames are cut as in its `syncnet_pipeline._crop`. Three things differ from
there: the face's box comes from our landmarks and not from the detector S3FD, the cut frames are
not compressed, and one clip is one track.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from being.assets.file_state import file_sha256
from being.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME
from being.errors import EnvironmentFault, InputRejected
from being.face.face_reader import LANDMARK_SIDE
from being.face.landmarks import MESH_POINTS, Landmarks
from being.reading.content import RESTORE_HINT, reason
from being.reading.tensors import load_pickled, load_tensors
from being.threads import use_free_cores

PACKAGE, VERSION = "syncnet_python", "0.2.3"
# Of the names and contents of the package's Python files, in order.
DIGEST = "be66db7dd82574031a6ac68620220c5b6c22e8cb45dc558c36798a0909fc9466"
INSTALL = f"pip install 'being[syncnet]' (syncnet-python {VERSION}; in an environment of its own)"

SIDE = 224  # px of a cut frame
MARGIN = 0.4  # of the half face to each side, twice as much below
GREY = 110  # beyond the picture
SMOOTHED = 13  # frames of the median of the boxes
WINDOW = 5  # frames that the network sees at once
STEPS_PER_FRAME, WINDOW_STEPS = 4, 20  # of the spectrum, 10 ms each
OFFSETS = 15  # frames to each side that are tried
BATCH = 20  # windows
LEAST_FRAMES = 25
LEFT_AT_END = 5  # frames that the package leaves out

PROTOCOL = (
    f"SyncNet of syncnet-python {VERSION}, frames cut to 224 px round the landmarks' box, offsets "
    f"of {OFFSETS} frames to each side; weights of the user"
)


@dataclass(frozen=True)
class Parts:
    """What is used of the packages."""

    network: Callable[[], torch.nn.Module]  # with forward_lip and forward_aud
    distances: Callable[..., list[Tensor]]  # (mouths [N, C], voices [N, C], vshift) -> N of [2v+1]
    spectrum: Callable[[np.ndarray, int], np.ndarray]  # (int16 [T], Hz) -> float [T / 160, 13]


def load_parts() -> Parts:
    """The parts of the packages.

    Raises EnvironmentFault where a package is missing, or is not the one that was read and pinned.
    """
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found is not None else None
    if not folders:
        raise EnvironmentFault("SyncNet is not installed", f"no package {PACKAGE}", INSTALL)
    if package_digest(Path(folders[0])) != DIGEST:
        raise EnvironmentFault(
            f"the package {PACKAGE} is another one than {VERSION}",
            "the digest of its files differs from that of the version that was read",
            f"pip install --force-reinstall --no-deps syncnet-python=={VERSION}",
        )
    try:
        model = importlib.import_module(f"{PACKAGE}.SyncNetModel")
        instance = importlib.import_module(f"{PACKAGE}.SyncNetInstance")
        speech = importlib.import_module("python_speech_features")
    except (ImportError, OSError) as error:
        raise EnvironmentFault("SyncNet cannot be loaded", reason(error), INSTALL) from error
    return Parts(model.S, instance.calc_pdist, speech.mfcc)


def package_digest(folder: Path) -> str:
    """The sha256 of the Python files of a folder: names and contents, in order."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


class SyncNet:
    """The network with the user's weights, on the CPU."""

    def __init__(self, weights: Path):
        """weights: a file of torch.save or safetensors (`syncnet_v2.model`).

        Raises EnvironmentFault as `load_parts`, InputRejected for a file of another network.
        """
        self.parts = load_parts()
        self.network = self.parts.network()
        self.network.load_state_dict(_checked_weights(weights, self.network.state_dict()))
        self.network.eval().requires_grad_(False)
        self.weights = {"file": weights.name, "sha256": file_sha256(weights)}

    def figures(
        self, images: Iterable[np.ndarray], faces: Landmarks, audio: np.ndarray
    ) -> tuple[dict[str, Any] | None, str]:
        """Confidence, distance and offset of a clip, and the reason where there are none.

        images: uint8 [H, W, 3] RGB, 25 a second; faces: their landmarks, px of an image whose
        shorter side is 512; audio: float32 [T] in [-1, 1] at 16 kHz, from the first image on.
        """
        count = min(len(faces), len(audio) // SAMPLES_PER_FRAME)
        if count < LEAST_FRAMES:
            return None, f"{count} frames with audio, at least {LEAST_FRAMES} are needed"
        if not faces.found.any():
            return None, "no face was found"
        windows = count - LEFT_AT_END
        mouths = self._mouths(images, face_squares(faces), windows)
        voices = self._voices(audio, windows)
        apart = torch.stack(self.parts.distances(mouths, voices, vshift=OFFSETS), 1).mean(1)
        least, place = apart.min(0)
        return {
            "confidence": float(apart.median() - least),
            "distance": float(least),
            "offset": OFFSETS - int(place),
            "windows": windows,
        }, ""

    def _mouths(self, images: Iterable[np.ndarray], squares: np.ndarray, windows: int) -> Tensor:
        """float32 [windows, 1024] of windows of WINDOW frames."""
        forward: Callable[[Tensor], Tensor] = self.network.forward_lip  # type: ignore[assignment]
        latest: deque[Tensor] = deque(maxlen=WINDOW)
        waiting: list[Tensor] = []
        found: list[Tensor] = []
        done = 0
        for image, square in zip(images, squares, strict=False):
            use_free_cores()
            latest.append(torch.from_numpy(cut_face(image, square)).permute(2, 0, 1).float())
            if len(latest) < WINDOW:
                continue
            waiting.append(torch.stack(tuple(latest), 1))
            done += 1
            if len(waiting) == BATCH or done == windows:
                found.append(forward(torch.stack(waiting)))
                waiting = []
            if done == windows:
                break
        return torch.cat(found)

    def _voices(self, audio: np.ndarray, windows: int) -> Tensor:
        """float32 [windows, 1024] of windows of WINDOW_STEPS steps of the spectrum."""
        whole = np.round(audio * 32768).clip(-32768, 32767).astype(np.int16)
        steps = torch.from_numpy(np.ascontiguousarray(self.parts.spectrum(whole, SAMPLE_RATE).T))
        parts = [
            steps[:, STEPS_PER_FRAME * k : STEPS_PER_FRAME * k + WINDOW_STEPS]
            for k in range(windows)
        ]
        forward: Callable[[Tensor], Tensor] = self.network.forward_aud  # type: ignore[assignment]
        batches = [torch.stack(parts[k : k + BATCH]) for k in range(0, windows, BATCH)]
        return torch.cat([forward(batch[:, None].float()) for batch in batches])


def face_squares(faces: Landmarks) -> np.ndarray:
    """Centre (x, y) and half side of each face, float64 [F, 3], px of an image whose shorter side
    is 512. Frames without a face get values between those of their neighbours.
    """
    from scipy.signal import medfilt

    points = faces.points[:, :MESH_POINTS, :2]
    found = np.flatnonzero(faces.found)
    low, high = points[found].min(1), points[found].max(1)
    known = np.column_stack([(low + high) / 2, (high - low).max(1) / 2])
    numbers = np.arange(len(faces))
    columns = [np.interp(numbers, found, column) for column in known.T]
    return np.column_stack([medfilt(column, SMOOTHED) for column in columns])


def cut_face(image: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The face with mouth and chin, uint8 [224, 224, 3] BGR.

    image: uint8 [H, W, 3] RGB; square: as of `face_squares`.
    """
    x, y, half = square * (min(image.shape[:2]) / LANDMARK_SIDE)
    pad = int(half * (1 + 2 * MARGIN))
    padded = cv2.copyMakeBorder(
        image[..., ::-1], pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(GREY,) * 3
    )
    x, y = x + pad, y + pad
    top, bottom = int(y - half), int(y + half * (1 + 2 * MARGIN))
    left, right = int(x - half * (1 + MARGIN)), int(x + half * (1 + MARGIN))
    return cv2.resize(padded[max(top, 0) : bottom, max(left, 0) : right], (SIDE, SIDE))


def _checked_weights(file: Path, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file, named and sized as the network's own. Raises InputRejected."""
    what = f"{file} holds no weights of SyncNet"
    found = load_tensors(file) if file.suffix == ".safetensors" else load_pickled(file)
    if not isinstance(found, dict) or set(found) != set(own):
        raise InputRejected(what, "it has other names of tensors", "Give syncnet_v2.model")
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.shape != own[name].shape:
            raise InputRejected(
                what, f"{name} has another size than {list(own[name].shape)}", RESTORE_HINT
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputRejected(f"{file} holds values that are not finite", name, RESTORE_HINT)
    return found
