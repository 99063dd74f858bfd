"""Write the true values of the sample clip (`truth.npz`).

They are camera, face units, lips, masks and phonemes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.sample import motion, mouth, render, voice
from scripts.sample.mesh import Head

MASK_EVERY = 10  # frames
MASK_SHRINK = 2  # masks are kept at half the picture's size


class Script:
    """The clip as numbers: face unit `weights` [F], `angles` [F, 3] rad, `sway` [F, 3] in 10 cm."""

    def __init__(self, speech: voice.Speech):
        self.speech = speech
        weights, stress = mouth.tracks(speech.events, speech.duration)
        moves = motion.motion(mouth.frame_count(speech.duration), stress)
        for name, weight in moves.weights.items():
            weights[name] = weights[name] + weight if name in weights else weight
        self.weights, self.angles, self.sway = weights, moves.angles, moves.sway

    def __len__(self) -> int:
        return len(self.angles)

    def pose(self, frame: int) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """(weights, angles, sway) of one frame, as the renderer takes them."""
        return (
            {name: float(w[frame]) for name, w in self.weights.items()},
            self.angles[frame],
            self.sway[frame],
        )


def apertures(head: Head, script: Script) -> np.ndarray:
    """Lip aperture float32 [F], px: height between the true inner-lip vertices in the picture; 0:
    lips pressed.
    """
    pair, out = list(head.lip_pair()), []
    for frame in range(len(script)):
        _, y, _ = render.project(head.base_pose(*script.pose(frame))[pair])
        out.append(max(y[1] - y[0], 0.0))
    return np.array(out, np.float32)


def write_truth(path: Path, head: Head, script: Script, classes: Iterator[np.ndarray]) -> None:
    """Writes the truth; classes: the mask of every MASK_EVERY-th frame, uint8 [H, W] of `render`'s
    classes.

    Its keys are described in `being/sample/__init__.py`, which reads it.
    """
    shrunk = [c[::MASK_SHRINK, ::MASK_SHRINK] for c in classes]
    spoken = mouth.segments(script.speech.events)
    spans = np.array([s[1:3] for s in spoken]) + voice.ANTICIPATION
    poses = [render.head_to_camera(a, s) for a, s in zip(script.angles, script.sway, strict=True)]
    np.savez_compressed(
        path,
        fps=mouth.FPS,
        size=render.SIZE,
        focal=render.FOCAL,
        text=script.speech.text,
        head_to_camera=np.array(poses, np.float32),
        yaw_pitch_roll=np.degrees(script.angles).astype(np.float32),
        unit_names=np.array(list(script.weights)),
        unit_weights=np.stack(list(script.weights.values()), 1).astype("f2"),
        lip_aperture=apertures(head, script),
        closures=mouth.closures(script.speech.events).astype(np.float32),
        phonemes=np.array([s[0] for s in spoken]),
        phoneme_spans=spans.astype(np.float32),
        mask_frames=np.arange(0, len(script), MASK_EVERY, dtype=np.int32),
        head_mask=np.packbits([m == render.HEAD_CLASS for m in shrunk], axis=-1),
        person_mask=np.packbits([m != render.BACKGROUND for m in shrunk], axis=-1),
    )
