"""Many people talk to one avatar at once: N sessions at 25 frames/s, each with its own sound and
its own start.

A session's frame k is due at start + k / 25 s and cannot be rendered earlier (its sound has just
come). Lateness is the time from then until its picture lies in host memory. Whatever is due is
rendered together.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import torch

from being.conventions import FPS
from being.inference.engine import Engine
from being.inference.feature_pool import AHEAD
from being.inference.pose_path import pose_path

MOST = 32  # frames of a batch
CHUNK = 25  # rows of sound that come at a time
OWN = 256  # different rows of sound that a session repeats


def bench_sessions(engine: Engine, count: int, seconds: float) -> dict[str, Any]:
    """Lateness in ms over all frames of `count` sessions of `seconds` each, starts staggered over
    one frame's time.
    """
    channels = engine.avatar.manifest["audio_width"]
    generator = torch.Generator().manual_seed(0)
    speech = torch.randn(OWN, 16, channels, generator=generator)
    sounds = [engine.sound() for _ in range(count)]
    for size in (1, 2, 4, 8, 16, MOST):
        engine.head.warm(size)
    frames = round(seconds * FPS)
    path = pose_path(frames + 4 * count, engine.avatar.poses)
    heard = [0] * count  # rows pushed
    offsets = np.arange(count) / count / FPS
    order = np.argsort(np.add.outer(np.arange(frames) / FPS, offsets).ravel(), kind="stable")
    due = np.add.outer(np.arange(frames) / FPS, offsets).ravel()[order]
    late, under_way, at = np.zeros(frames * count), deque[tuple[Any, int, int]](), 0
    batches = []
    start = time.perf_counter() + 0.05

    def fetch() -> None:
        ticket, first, stop = under_way.popleft()
        ticket.pictures()
        late[first:stop] = time.perf_counter() - start - due[first:stop]

    while at < len(order) or under_way:
        if under_way and under_way[0][0].ready:
            fetch()
        now = time.perf_counter() - start
        stop = int(np.searchsorted(due, now, "right"))
        stop = min(stop, at + MOST)
        if stop > at and len(under_way) < 2:
            chosen = order[at:stop]
            rows = []
            for item in chosen:
                frame, session = divmod(int(item), count)
                while heard[session] < frame + 1 + AHEAD:
                    first = (heard[session] + 7 * session) % (OWN - CHUNK)
                    sounds[session].push(speech[first : first + CHUNK])
                    heard[session] += CHUNK
                rows.append(sounds[session].rows(np.array([frame]))[0])
            poses = path[chosen // count + 3 * (chosen % count)]
            under_way.append((engine.submit(np.stack(rows), poses), at, stop))
            batches.append(stop - at)
            at = stop
        elif under_way and len(under_way) == 2:
            fetch()
        elif not under_way:
            time.sleep(2e-4)
    for sound in sounds:
        sound.close()
    late *= 1000
    return {
        "sessions": count,
        "seconds": seconds,
        "frames": len(order),
        "batch": round(float(np.mean(batches)), 1),
        **{
            f"{name}_ms": round(float(value), 2)
            for name, value in (
                ("p50", np.percentile(late, 50)),
                ("p99", np.percentile(late, 99)),
                ("max", late.max()),
            )
        },
        "held": bool(np.percentile(late, 99) <= 1000 / FPS),
    }
