"""How many sessions a machine serves in real time, measured before the first one is admitted.

All of them may speak at once: rendering, speech features and H.264 are measured.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from being.audio.causal_conformer import shipped_weights
from being.audio.sound_chunks import CHUNK_SAMPLES
from being.conventions import ATTENTION_WINDOW, FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from being.inference.i420 import VIDEO_COLOURS
from being.inference.mouth_stream import ENDLESS
from being.inference.mouth_streams import MouthStreams
from being.media.live_video import new_encoder
from being.session.avatar_facts import AvatarFacts
from being.session.live_session import SILENT_ROW, FrameOrder
from being.session.render_worker import PictureJob, RenderWorker

SHARE = 2 / 3  # of the time of the device, and of each front process, that sessions may take
SECONDS = 0.6  # of measuring
BATCH = 8
MOST = 512
# Of sessions whose clients draw: the most, and processor time a frame of their clocks, motion,
# sound and messages, s (docs/measurements.md).
MOST_DRAWN, DRAWN_SESSION_S = 4096, 0.25e-3


def front_capacity(facts: AvatarFacts, fronts: int) -> int:
    """The number of sessions whose speech and video `fronts` processes make, at least 1."""
    seconds = _encoding_seconds(facts) + (0.0 if facts.batched else _feature_seconds(facts))
    return max(1, min(MOST, int(SHARE * fronts / FPS / seconds)))


def drawn_capacity(facts: AvatarFacts, fronts: int) -> int:
    """The number of sessions whose clients draw that `fronts` processes serve, at least 1."""
    seconds = DRAWN_SESSION_S + (
        _batched_feature_seconds(facts) if facts.can_be_batched else _feature_seconds(facts)
    )
    return max(1, min(MOST_DRAWN, int(SHARE * fronts / FPS / seconds)))


def _batched_feature_seconds(facts: AvatarFacts) -> float:
    """Processor time of the mouth code of a frame in a batch of BATCH sessions, s."""
    assert facts.voice is not None
    streams, numbers = MouthStreams(shipped_weights(), facts.voice, BATCH), np.arange(BATCH)
    sound = np.random.default_rng(0).normal(0, 0.05, (BATCH, CHUNK_SAMPLES)).astype(np.float32)

    def frames(first: int, count: int) -> None:
        for k in range(first, first + count):
            streams.submit(numbers, np.full(BATCH, k), np.full(BATCH, ENDLESS), sound)

    frames(0, BATCH)
    start = time.process_time()
    frames(BATCH, 2 * BATCH)
    return (time.process_time() - start) / (2 * BATCH * BATCH)


def _feature_seconds(facts: AvatarFacts) -> float:
    """Processor time of the speech features of a frame on one thread, s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stream = facts.stream()
        noise = np.random.default_rng(0).normal(0, 0.05, 3 * SAMPLE_RATE).astype(np.float32)
        stream.push(noise[: 2 * SAMPLE_RATE])  # the encoder's past is full from here on
        start, rows = time.process_time(), 0
        for at in range(2 * SAMPLE_RATE, len(noise), SAMPLES_PER_FRAME):
            rows += len(stream.push(noise[at : at + SAMPLES_PER_FRAME]))
        return (time.process_time() - start) / max(1, rows)
    finally:
        torch.set_num_threads(threads)


def _encoding_seconds(facts: AvatarFacts) -> float:
    """Processor time of the H.264 of a picture, s."""
    encoder = new_encoder("h264", *facts.coded)
    random = np.random.default_rng(0)
    picture = random.integers(90, 160, facts.picture_bytes, dtype=np.uint8)
    encoder.encode(picture, True, b"{}")
    start = time.process_time()
    for _ in range(BATCH):
        encoder.encode(np.roll(picture, 7), False, b"{}")
    return (time.process_time() - start) / BATCH


def measured_capacity(worker: RenderWorker, facts: AvatarFacts) -> int:
    """The number of sessions that the device renders, at least 1; takes about a second."""
    worker.open("capacity", facts.silent_row)
    expression = np.zeros(len(facts.motion.channels), np.float32)
    window = np.full(ATTENTION_WINDOW, SILENT_ROW, np.int32)
    out = np.zeros(facts.picture_bytes, np.uint8)

    def render(batch: int) -> None:
        for k in range(batch):
            order = FrameOrder(k % facts.motion.poses, expression, window, [])
            worker.put(PictureJob("capacity", order, out, VIDEO_COLOURS, k))
        while worker.busy:
            worker.tick()

    render(1)
    render(BATCH)
    pictures, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        render(BATCH)
        pictures += BATCH
    worker.close("capacity")
    return max(1, min(MOST, int(SHARE * pictures / elapsed / FPS)))
