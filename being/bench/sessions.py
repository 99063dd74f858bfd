"""Measures how late frames are when one avatar renders many sessions at 25 frames/s.

Each session has its own audio and its own start. Frame k of a session is due at start + k / 25 s
and cannot be rendered earlier, because its audio has only just arrived. Its lateness is the time
from then until its image is in host memory. All frames that are due are rendered in one batch.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import torch

from being.conventions import FEATURE_WINDOW, FPS
from being.inference.engine import Engine
from being.inference.feature_pool import LOOK_AHEAD_FRAMES
from being.inference.pose_path import pose_path
from being.inference.protocol import PendingFrames

MAX_BATCH = 32  # frames
WARM_UP_BATCHES = (1, 2, 4, 8, 16, MAX_BATCH)
MAX_PENDING = 2  # batches under way
ROWS_PER_PUSH = 25  # rows of speech features that arrive at a time
DISTINCT_ROWS = 256  # rows of speech features that the sessions repeat
START_DELAY_S = 0.05
IDLE_S = 2e-4  # sleep while nothing is due


class _SessionTracks:
    """The audio tracks of all sessions; speech features arrive as frames need them."""

    def __init__(self, engine: Engine, count: int):
        shape = (DISTINCT_ROWS, FEATURE_WINDOW, engine.avatar.manifest["audio_width"])
        self.features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.tracks = [engine.track() for _ in range(count)]

    def rows(self, session: int, frame: int) -> np.ndarray:
        """Rows int32 [8] of a frame's attention window, after what it needs has arrived."""
        track = self.tracks[session]
        while track.pushed < frame + 1 + LOOK_AHEAD_FRAMES:
            first = (track.pushed + 7 * session) % (DISTINCT_ROWS - ROWS_PER_PUSH)
            track.push(self.features[first : first + ROWS_PER_PUSH])
        return track.rows(np.array([frame]))[0]

    def close(self) -> None:
        for track in self.tracks:
            track.close()


def bench_sessions(engine: Engine, count: int, seconds: float) -> dict[str, Any]:
    """Lateness in ms over all frames of `count` sessions of `seconds` each (JSON types).

    The starts of the sessions are spread over the time of one frame.
    """
    for size in WARM_UP_BATCHES:
        engine.renderer.warm_up(size)
    frames = round(seconds * FPS)
    path = pose_path(frames + 4 * count, engine.avatar.pose_count)

    # All frames of all sessions in the order in which they are due; item = frame * count + session.
    times = np.add.outer(np.arange(frames) / FPS, np.arange(count) / count / FPS).ravel()
    order = np.argsort(times, kind="stable")
    due = times[order]

    tracks = _SessionTracks(engine, count)
    late = np.zeros(frames * count)
    pending = deque[tuple[PendingFrames, int, int]]()
    batches = []
    submitted = 0
    start = time.perf_counter() + START_DELAY_S

    def fetch() -> None:
        batch, first, stop = pending.popleft()
        batch.images()
        late[first:stop] = time.perf_counter() - start - due[first:stop]

    while submitted < len(order) or pending:
        if pending and pending[0][0].ready:
            fetch()
        now = time.perf_counter() - start
        stop = min(int(np.searchsorted(due, now, "right")), submitted + MAX_BATCH)
        if stop > submitted and len(pending) < MAX_PENDING:
            # Submit all frames that are due.
            chosen = order[submitted:stop]
            rows = [tracks.rows(int(item) % count, int(item) // count) for item in chosen]
            poses = path[chosen // count + 3 * (chosen % count)]
            pending.append((engine.submit(np.stack(rows), poses), submitted, stop))
            batches.append(stop - submitted)
            submitted = stop
        elif len(pending) == MAX_PENDING:
            fetch()
        elif not pending:
            time.sleep(IDLE_S)
    tracks.close()

    late_ms = late * 1000
    p99 = np.percentile(late_ms, 99)
    return {
        "sessions": count,
        "seconds": seconds,
        "frames": len(order),
        "batch": round(float(np.mean(batches)), 1),
        "p50_ms": round(float(np.percentile(late_ms, 50)), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(float(late_ms.max()), 2),
        "held": bool(p99 <= 1000 / FPS),
    }
