"""Mouth codes of live audio: a stream of speech features, then the mapping from voice to mouth.

`mouth_batch` (torch) and `mouth_streams` (numpy) compute the same for many streams at once, from
chunks of sound.
"""

from __future__ import annotations

import numpy as np

from being.audio.encoder_names import CAUSAL_LATENCY
from being.audio.feature_stream import FeatureStream
from being.audio.feature_windows import STRIP
from being.audio.sound_chunks import FIRST_OUT
from being.conventions import (
    ATTENTION_FUTURE,
    ATTENTION_PAST,
    FEATURE_WINDOW,
    STEPS_PER_FRAME,
)
from being.errors import InputRejected
from being.model.voice_to_mouth import MouthRowStream, VoiceToMouth

# The strip of frame i ends with the step 2 i + STRIP_END. So the code of frame k - CODE_DELAY can
# be computed when chunk k is in.
STRIP_END = STEPS_PER_FRAME * ATTENTION_FUTURE + FEATURE_WINDOW // 2 - 1 - CAUSAL_LATENCY.shift
CODE_DELAY = (STRIP_END - FIRST_OUT - STEPS_PER_FRAME + 1) // STEPS_PER_FRAME
assert STEPS_PER_FRAME * CODE_DELAY == STRIP_END - FIRST_OUT - STEPS_PER_FRAME + 1
# The window, relative to the frame, that each step of a strip is of: windows outside are zero.
STRIP_WINDOWS = [-ATTENTION_PAST] * FEATURE_WINDOW + [
    1 - ATTENTION_PAST + k // STEPS_PER_FRAME for k in range(STRIP - FEATURE_WINDOW)
]
MOST_STREAMS = 64  # of a batch
ENDLESS = 1 << 40  # frames of a stream whose end is not known


def live_stream(
    encoder: str, voice: VoiceToMouth | None, width: int
) -> FeatureStream | MouthStream:
    """A stream of the encoder called `encoder`: audio in, rows for `FeatureTrack.push` out.

    voice: the mapping to the mouth code from its features; None: the rows are speech features with
    `width` channels. Raises InputRejected where the mapping was fitted on features of another
    width, and as `FeatureStream`.
    """
    stream = FeatureStream(encoder, None, width if voice is None else voice.width)
    if voice is None:
        return stream
    if stream.width != voice.width:
        raise InputRejected(
            f"the avatar needs '{encoder}' speech features that are {voice.width} wide",
            f"those of this version are {stream.width} wide",
            "Train it again",
        )
    return MouthStream(stream, voice)


class MouthStream:
    """Chunks of audio in, rows of mouth codes out; used like a `FeatureStream`.

    `name` is that of the encoder, `width` the channels K of a row.
    """

    def __init__(self, stream: FeatureStream, voice: VoiceToMouth):
        self._stream, self._rows = stream, MouthRowStream(voice)
        self.name, self.width = stream.name, len(voice.units)

    @property
    def seconds(self) -> float:
        """Look-ahead, s: that of the speech features; the mapping adds none."""
        return self._stream.seconds

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows float32 [k, 16, K] that are complete now; arguments as `FeatureStream.push`."""
        return self._rows.push(self._stream.push(samples))

    def finish(self) -> np.ndarray:
        """The remaining rows float32 [k, 16, K], as if the audio ended here."""
        rows = self._rows.push(self._stream.finish())
        return np.concatenate([rows, self._rows.finish()])
