"""The built-in sample clip, a synthetic person who does not exist, and the truth about it. Made by
scripts/sample.
"""

from pathlib import Path

import numpy as np

_FOLDER = Path(__file__).parent
_PACKED = ("head_mask", "person_mask")


def sample_clip() -> Path:
    """Path of the sample: about 29 s, 512 x 512, FPS frames/s, H.264 with AAC sound. Its licence
    lies beside it.
    """
    return _FOLDER / "speaker.mp4"


def sample_truth() -> dict[str, np.ndarray]:
    """What made the sample's F frames, name -> array; the camera is the render camera of
    `being/conventions.py`.

    fps, size (px) int; focal float64, px; text str: scalars
    head_to_camera float32 [F, 4, 4]: head space (10 cm; the head at rest, origin inside it at nose
      height) to camera
    yaw_pitch_roll float32 [F, 3], degrees: the head's R = Y(yaw) X(pitch) Z(roll) in x right, y up,
      z to the camera
    unit_names str [U]; unit_weights float16 [F, U] in 0..1: the ARKit-named face units (jawOpen,
      eyeBlinkLeft, ...)
    lip_aperture float32 [F], px: height between the true inner lips in the picture, 0 when pressed
      together
    closures float32 [M], s: where the lips are closed for p, b and m, 40 ms before the middle of
      its span
    phonemes str [E]; phoneme_spans float32 [E, 2], s: what is heard (IPA; diphthongs as two), start
      and end
    mask_frames int32 [K]; head_mask, person_mask bool [K, 256, 256]: head (with hair, without neck)
      and whole person
        in those frames, every second pixel of the picture
    """
    with np.load(_FOLDER / "truth.npz", allow_pickle=False) as stored:
        return {
            key: np.unpackbits(stored[key], axis=-1).astype(bool) if key in _PACKED else stored[key]
            for key in stored.files
        }
