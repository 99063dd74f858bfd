"""Where lips must meet (p, b, m) and where they must part (open vowels), read from phonemes: two
channels beside an encoder's own, the same for every voice.

Hidden states tell lips well in the voice that was learnt from, and less in others. What cannot be
otherwise in any voice is said apart and loud: a bilabial is no bilabial with open lips (Edwards et
al. 2016, "JALI"). `train/closing.py` teaches a network to obey them. What that is worth:
docs/encoders.md.
"""

from __future__ import annotations

import numpy as np

from being.audio.phonemes import CLASSES, CLOSURE, letters_of
from being.conventions import FEATURE_WINDOW

OPEN = CLASSES.index("a")
# Steps of 20 ms after a moment in which the phoneme's peak may come, first and last: lips are at
# their place 0.06 s before it (`phonemes`), closed from 0.10 to 0.02 s before, widest for a shorter
# time.
SPANS = {CLOSURE: (1, 5), OPEN: (2, 4)}
CHANNELS = len(SPANS)
STATES = 144  # channels before them: the hidden states
SURE = 0.3  # probability from which on a phoneme counts fully
LOUD = 8.0  # of a channel that is fully on; hidden states have a deviation of about 1
SMOOTH = np.array([1, 2, 3, 2, 1]) / 9  # lips take two frames to meet: sharper edges made them jump


def articulation(steps: np.ndarray) -> np.ndarray:
    """Channels float32 [B, S, 2] in 0..8, closure and opening, of log-probabilities float32 [B, S,
    191].

    Step k is on while lips are at their place for a phoneme whose peak comes up to 0.1 s later;
    past the end of a piece nothing comes.
    """
    assert steps.ndim == 3, steps.shape
    count, edge, found = steps.shape[1], len(SMOOTH) // 2, []
    for kind, (first, last) in SPANS.items():
        sure = np.minimum(np.exp(steps[..., letters_of(kind)]).sum(-1) / SURE, 1)
        sure = np.pad(sure, ((0, 0), (edge, last + edge)))  # from step -2 on
        held = np.stack([sure[:, k : k + count + 2 * edge] for k in range(first, last + 1)]).max(0)
        found.append(sum(weight * held[:, k : k + count] for k, weight in enumerate(SMOOTH)))
    return (LOUD * np.stack(found, -1)).astype(np.float32)


def told_by(encoder: str, width: int) -> bool:
    """Whether features of that width which `encoder` gave end with these channels."""
    from being.audio.encoders import Name

    return Name.of(encoder).base == "hama" and width == STATES + CHANNELS


def place(encoder: str) -> int:
    """The step of a frame's window of 16 before which the frame's own time lies."""
    from being.audio.encoders import Name
    from being.audio.feature_stream import latency_of

    latency = Name.of(encoder).latency
    return FEATURE_WINDOW // 2 + (latency_of(latency).shift if latency else 0)
