"""A front process loads no torch: it would take 400 MB, in each of a dozen processes."""

from __future__ import annotations

import subprocess
import sys

# What a front of an avatar with the live encoder does: speech in a voice, its features by the
# encoder and the mapping to the mouth code (on a CPU), pictures to H.264.
FRONT = """
import sys
import numpy as np
from being.api import front_process, server, supervisor, webrtc
from being.api.workshop import Clause, End, SpeechTask
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.inference.i420 import i420_bytes
from being.media.live_video import mark_json, new_encoder
from being.model.voice_to_mouth import VoiceToMouth
from being.audio.causal_conformer import shipped_weights
from being.audio.causal_encoder import CausalEncoder
from being.inference.mouth_streams import MouthStreams
from being.model.coefficient_net import CoefficientNet, quantised
from being.session.coefficient_worker import CoefficientWorker
from being.audio.feature_windows import STRIP
from being.inference.mouth_stream import live_stream
from being.session.speech_source import SpeechSource
from being.tts.voices import speak_plain

width, k = CausalEncoder().width, len(MOUTH_CHANNELS)
shapes = dict(
    step_mean=(width,), step_basis=(width, 4), window=(STRIP,), strip_mean=(STRIP * 4,),
    strip_basis=(STRIP * 4, 8), centres=(9, 8), weights=(9, k), code_mean=(k,),
    predicted_quantiles=(k, 3), true_quantiles=(k, 3), closed=(k,),
)
tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
zero, one = np.zeros(k, np.float32), np.ones(k, np.float32)
units = MouthUnits(MOUTH_CHANNELS, zero, one, -one, one).to_dict()
voice = VoiceToMouth.from_parts(tensors, {"units": units, "gamma": 0.5, "closure_step": -1})
speech = speak_plain("Hello there.", "hibari", 1.0)
source = SpeechSource(live_stream("hama-causal", voice, k), speech.rate, one)
blocks = [*source.speak(speech, True, 0), *source.finish()]
assert sum(len(block.rows) for block in blocks) > 10
rows = MouthStreams(shipped_weights(), voice, 2)
made = rows.submit(np.arange(2), np.zeros(2, int), np.full(2, 9), np.zeros((2, 1040), "f4"))
assert made.values.shape == (2, k)
net = CoefficientNet(np.zeros((3, 12), "f4"), np.zeros(k + 14, "f4"), np.ones(k + 14, "f4"),
                     ((np.ones((5, k + 14), "f4"), zero[:5]),))
made = net.coefficients(made.values, np.zeros((2, 2), "f4"), np.zeros(2, int))
assert quantised(made)[0].shape == (2, 5)
CoefficientWorker(3)
encoder = new_encoder("h264", 64, 64)
encoder.encode(np.zeros(i420_bytes(64), np.uint8), True, mark_json("a", None, 0))
print([name for name in ("torch", "transformers", "cv2") if name in sys.modules])
"""


def test_a_front_that_speaks_encodes_and_computes_features_has_no_torch() -> None:
    found = subprocess.run([sys.executable, "-c", FRONT], stdout=subprocess.PIPE, text=True)
    assert found.returncode == 0 and found.stdout.strip() == "[]", found.stdout
