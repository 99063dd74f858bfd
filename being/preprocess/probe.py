"""A look at a clip before any long work: what will not do is refused within seconds, with the reason."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from being import media
from being.conventions import FPS, SAMPLE_RATE
from being.errors import InputRejected
from being.preprocess.landmarks import FaceBox, FaceLandmarker

SECONDS_MIN = 2.0
SAMPLES = 12  # frames looked at
PICTURE_SIDE = 512  # px, largest side of a dataset's pictures unless asked otherwise
FACE_SIDE_MIN = 64  # px, brow to chin, in the dataset's pictures (less where smaller ones are asked for)
FACES_IN_MIN = 0.5  # share of the sampled frames that must show a face
SECOND_FACE = 0.4  # side of another face over the first one's, from which it is a second person
SECOND_FACE_IN = 0.34  # share of the sampled frames with one
SILENCE_PEAK = 1e-3
CROP_FACES = 2.5  # side of the square round the head over the face's
CROP_FACE_AT = 0.54  # height of the face's centre in the square


@dataclass(frozen=True)
class Preflight:
    """What was found; `crop` and `size` say how frames become the dataset's pictures."""

    info: media.MediaInfo
    crop: tuple[int, int, int]  # left, top, side, px of the upright source picture
    size: int  # px, side of the dataset's square pictures
    sound: np.ndarray  # float32 [T] at 16 kHz, sample 0 at the first frame
    seconds: float

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """The dataset's picture uint8 [size, size, 3] of a source frame uint8 [H, W, 3] RGB."""
        left, top, side = self.crop
        square = frame[top:top + side, left:left + side]
        if side == self.size:
            return np.ascontiguousarray(square)
        return cv2.resize(square, (self.size, self.size), interpolation=cv2.INTER_AREA)


def picture_and_sound(video: Path) -> tuple[media.MediaInfo, np.ndarray]:
    """Facts of a clip and its sound, float32 [T] at 16 kHz: what can be refused without looking for a face.

    Raises InputRejected with the reason: not a video, too short, no sound, silent or damaged sound.
    """
    info = media.probe(video)
    if 0 < info.duration < SECONDS_MIN:
        raise _too_short(video, info.duration)
    sound = media.read_audio(video)
    if not np.isfinite(sound).all():
        raise InputRejected(f"the sound of {video} holds samples that are not numbers", fix="Export the clip again")
    if np.abs(sound).max(initial=0.0) < SILENCE_PEAK:
        raise InputRejected(f"the sound of {video} is silent", "speech is what moves the lips",
                            "Give a clip in which the person is heard")
    return info, sound


def preflight(video: Path, landmarker: FaceLandmarker, size: int = PICTURE_SIDE) -> Preflight:
    """Facts of a usable clip of one speaking person. size: largest side of the dataset's pictures, px.

    Raises InputRejected with the reason: as `picture_and_sound`, no face, several faces, a face too small.
    """
    video = Path(video)
    info, sound = picture_and_sound(video)
    step = max(1, round(info.duration * FPS / SAMPLES))
    frames = list(itertools.islice(media.read_frames(video), step // 2, None, step))
    faces = [landmarker.faces(frame) for frame in frames]
    _check_faces(video, faces)
    height, width = frames[0].shape[:2]
    crop = square_around_face(width, height, [found[0] for found in faces if found])
    side = min(crop[2], size) // 2 * 2
    face = float(np.median([found[0].size.max() for found in faces if found]))
    if face * side / crop[2] < FACE_SIDE_MIN * min(1.0, size / PICTURE_SIDE):
        raise InputRejected(f"the face in {video} is too small", f"about {face:.0f} px in a picture of "
                            f"{width}x{height}, at least {FACE_SIDE_MIN} px are needed",
                            "Record closer, or at a higher resolution")
    return Preflight(info, crop, side, sound, info.duration or len(sound) / SAMPLE_RATE)


def check_length(video: Path, frames: int) -> None:
    """Raise InputRejected when a decoded clip is too short (containers may be silent or wrong about their length)."""
    if frames < SECONDS_MIN * FPS:
        raise _too_short(video, frames / FPS)


def square_around_face(width: int, height: int, faces: list[FaceBox]) -> tuple[int, int, int]:
    """Left, top and side in px of the square to keep: a square picture whole, else one round the head with margin."""
    if width == height:
        return 0, 0, width
    low = np.min([face.centre - face.size / 2 for face in faces], axis=0)
    high = np.max([face.centre + face.size / 2 for face in faces], axis=0)
    face_side = float(np.median([face.size.max() for face in faces]))
    spread = float(max(0.0, (high - low).max() - face_side))
    side = int(min(width, height, round(CROP_FACES * face_side + spread)))
    centre = (low + high) / 2
    left = int(np.clip(round(centre[0] - side / 2), 0, width - side))
    top = int(np.clip(round(centre[1] - CROP_FACE_AT * side), 0, height - side))
    return left, top, side


def _check_faces(video: Path, faces: list[list[FaceBox]]) -> None:
    shown = sum(bool(found) for found in faces)
    if shown < FACES_IN_MIN * len(faces):
        what = f"no face was found in {video}" if not shown else f"{video} shows a face only part of the time"
        raise InputRejected(what, f"{shown} of {len(faces)} sampled frames show one",
                            "Record one person who looks at the camera, with the whole head in the picture")
    several = sum(len(found) > 1 and found[1].size.max() > SECOND_FACE * found[0].size.max() for found in faces)
    if several > SECOND_FACE_IN * len(faces):
        raise InputRejected(f"{video} shows several faces", f"in {several} of {len(faces)} sampled frames",
                            "Crop the video to one person")


def _too_short(video: Path, seconds: float) -> InputRejected:
    return InputRejected(f"{video} is too short", f"{seconds:.1f} s, at least {SECONDS_MIN:.0f} s are needed",
                         "Record half a minute or more of speech")
