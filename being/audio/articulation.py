"""Articulation channels: speech features that mark closed lips (p, b, m) and open vowels.

Two channels stand beside an encoder's own channels, the same for every voice. Hidden states predict
the lips well in the voice of the training clip, and less well in other voices. But a bilabial is no
bilabial with open lips, in any voice (Edwards et al. 2016, "JALI"); these channels say so
explicitly. `train/lip_closure.py` trains a network to follow them. docs/encoders.md has figures of
their effect.
"""

from __future__ import annotations

import numpy as np

from being.audio.encoder_names import CAUSAL, EncoderName, latency_of
from being.audio.phonemes import CLOSURE, PHONEME_CLASSES, symbols_of_class
from being.conventions import FEATURE_WINDOW

OPEN = PHONEME_CLASSES.index("a")
# Steps of 20 ms after a moment in which the phoneme's peak may come, first and last: lips reach
# their position 0.06 s before the peak (`phonemes`), are closed from 0.10 to 0.02 s before it, and
# are widest for a shorter time.
SPANS = {CLOSURE: (1, 5), OPEN: (2, 4)}
ARTICULATION_CHANNELS = len(SPANS)
# Channels before them: the hidden states.
HIDDEN_CHANNELS = 144
# Probability of a phoneme from which on its channel is fully on.
FULL_PROBABILITY = 0.3
# Value of a channel that is fully on; hidden states have a standard deviation of about 1.
CHANNEL_MAX = 8.0
# Smoothing over steps: lips take two frames to meet. Sharper edges made them jump.
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9


def articulation_channels(steps: np.ndarray) -> np.ndarray:
    """Channels float32 [B, S, 2] in 0..8, closure and opening, of log-probabilities float32 [B, S,
    191].

    Step k is on while lips are in position for a phoneme whose peak comes up to 0.1 s later. Past
    the end of a piece there are no phonemes.
    """
    assert steps.ndim == 3, steps.shape
    count, margin = steps.shape[1], len(SMOOTHING) // 2
    channels = []
    for phoneme_class, (first, last) in SPANS.items():
        # Probability of the class, from step -margin on, with zeros past the ends.
        probability = np.exp(steps[..., symbols_of_class(phoneme_class)]).sum(-1)
        level = np.minimum(probability / FULL_PROBABILITY, 1)
        level = np.pad(level, ((0, 0), (margin, last + margin)))

        # A channel is as high as the surest peak in its span, and then smoothed.
        span = [level[:, k : k + count + 2 * margin] for k in range(first, last + 1)]
        peak = np.stack(span).max(0)
        channels.append(sum(weight * peak[:, k : k + count] for k, weight in enumerate(SMOOTHING)))
    return (CHANNEL_MAX * np.stack(channels, -1)).astype(np.float32)


def has_articulation(encoder: str, width: int) -> bool:
    """True if features of `encoder` with `width` channels end with the articulation channels."""
    has_channels = EncoderName.of(encoder).base in ("hama", CAUSAL)
    return has_channels and width == HIDDEN_CHANNELS + ARTICULATION_CHANNELS


def frame_time_step(encoder: str) -> int:
    """The row of a frame's feature window at which the frame's own time lies (between it and the
    row before).
    """
    latency = latency_of(encoder)
    return FEATURE_WINDOW // 2 + (latency.shift if latency else 0)
