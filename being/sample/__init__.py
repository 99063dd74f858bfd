"""The built-in sample clip of a synthetic person, and its ground truth.

scripts/sample generates both. The person does not exist.
"""

from pathlib import Path

import numpy as np

_FOLDER = Path(__file__).parent
_PACKED = ("head_mask", "person_mask")


def sample_clip() -> Path:
    """Path of the sample clip: about 29 s, 512 x 512 px, FPS frames/s, H.264 with AAC audio.

    Its licence is in speaker.LICENSE.txt beside it.
    """
    return _FOLDER / "speaker.mp4"


def sample_truth() -> dict[str, np.ndarray]:
    """The true values of the sample's F frames, by name.

    The camera is the render camera of `being/conventions.py`.

    fps, size: int (px); focal: float64, px; text: str; all scalars
    head_to_camera: float32 [F, 4, 4], from head space (unit 10 cm, head at rest, origin inside the
        head at nose height) to camera space
    yaw_pitch_roll: float32 [F, 3], degrees: the head's R = Y(yaw) X(pitch) Z(roll), with x right,
        y up, z to the camera
    unit_names: str [U]; unit_weights: float16 [F, U] in 0..1: the face units under ARKit's names
        (jawOpen, eyeBlinkLeft, ...)
    lip_aperture: float32 [F], px: height between the true inner lips in the image, 0 when closed
    closures: float32 [M], s: times at which the lips are closed for p, b and m, 40 ms before the
        middle of the phoneme's span
    phonemes: str [E]; phoneme_spans: float32 [E, 2], s: start and end of each phoneme in the audio
        (IPA; a diphthong is two phonemes)
    mask_frames: int32 [K]; head_mask, person_mask: bool [K, 256, 256], of these frames: the head
        (with hair, without neck) and the whole person, every second pixel of the image
    """
    with np.load(_FOLDER / "truth.npz", allow_pickle=False) as stored:
        return {
            key: np.unpackbits(stored[key], axis=-1).astype(bool) if key in _PACKED else stored[key]
            for key in stored.files
        }
