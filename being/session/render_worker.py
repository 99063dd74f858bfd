"""The render worker: all sessions of one avatar share its engine, one batch a tick."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from being.inference.engine import MAX_PENDING, Engine
from being.inference.i420 import Colours, write_i420
from being.inference.live_look import FILMED, LiveLook, live_look, stack_matte
from being.inference.protocol import PendingFrames, PlanarRenderer
from being.provenance.watermark import Watermark
from being.session.live_session import KEPT_ROWS, SILENT_ROW, FrameOrder
from being.threads import allowed_cores

MAX_BATCH = 32  # pictures
# From this many pictures on, the conversion to I420 uses several threads.
SHARED_CONVERSION = 4


@dataclass(frozen=True)
class PictureJob:
    """A picture that a session has ordered."""

    session: Hashable
    order: FrameOrder
    out: np.ndarray  # uint8 [n], where the I420 picture is written, with its matte
    colours: Colours
    token: int  # of the caller


class RenderWorker:
    """Renders the pictures of all sessions of one avatar. Not for several threads."""

    def __init__(
        self, engine: Engine, watermark: Watermark | None = None, look: LiveLook | None = None
    ):
        """watermark: of the pictures; None: they have none. look: whose avatar the engine renders;
        default: as filmed.
        """
        self.engine, self._watermark = engine, watermark
        self._look = look or live_look(engine.avatar, FILMED)
        # A renderer that writes I420 itself; an image that is finished here is RGB.
        renderer, finished = engine.renderer, self._look.finish is None
        self._planar = renderer if isinstance(renderer, PlanarRenderer) and finished else None
        self._images = 2 if self._look.matte else 1  # of a picture
        self._first: dict[Hashable, int] = {}  # first row of each session in the feature pool
        self._queue: deque[PictureJob] = deque()
        self._pending: deque[tuple[PendingFrames, list[PictureJob]]] = deque()
        self._threads = ThreadPoolExecutor(max(1, min(8, allowed_cores() // 2)))
        self.batches = self.pictures = 0

    @property
    def sessions(self) -> int:
        """Open sessions."""
        return len(self._first)

    @property
    def busy(self) -> bool:
        """Whether pictures wait or are being rendered."""
        return bool(self._queue or self._pending)

    def warm_up(self, sessions: int) -> None:
        """Prepare for batches of up to `sessions` pictures, so that the first are not slower."""
        size = 1
        while size < 2 * min(sessions, MAX_BATCH):
            frames = min(size, MAX_BATCH)
            if self._planar is None:
                self.engine.renderer.warm_up(frames)
            else:
                self._planar.warm_up(frames, planar=True)
            size *= 2
        self.engine.renderer.decode_plates(np.arange(self.engine.avatar.pose_count))

    def open(self, session: Hashable, silent_row: np.ndarray) -> None:
        """Make room for a session. silent_row: speech features float32 [16, C] of silence."""
        assert session not in self._first, session
        pool = self.engine.renderer.pool
        first = self._first[session] = pool.allocate(KEPT_ROWS + 1)
        pool.scatter([first + KEPT_ROWS], torch.from_numpy(silent_row[None].copy()))

    def close(self, session: Hashable) -> None:
        """Free what a session holds; its pictures that wait are not rendered."""
        first = self._first.pop(session, None)
        if first is None:
            return
        self._queue = deque(job for job in self._queue if job.session != session)
        self.engine.renderer.pool.free(first, KEPT_ROWS + 1)

    def put(self, job: PictureJob) -> None:
        """Order a picture; a session that is closed gets none."""
        if job.session in self._first:
            self._queue.append(job)

    def tick(self) -> list[PictureJob]:
        """Start one batch of what waits; the pictures that are finished, in order of their batches.

        Waits for a batch where `MAX_PENDING` are under way, or nothing else is to be done.
        """
        finished: list[PictureJob] = []
        if self._pending and self._pending[0][0].ready:
            finished += self._fetch()
        started = bool(self._queue) and len(self._pending) < MAX_PENDING
        if started:
            self._start()
        if self._pending and not finished:
            newest = self._pending[-1][0].ready
            if newest or not started or len(self._pending) == MAX_PENDING:
                finished += self._fetch()
        return finished

    def _start(self) -> None:
        """Submit one batch."""
        most = MAX_BATCH // self._images
        jobs = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        places: list[int] = []
        values: list[np.ndarray] = []
        rows = np.empty((len(jobs), len(jobs[0].order.window)), np.int32)
        for k, job in enumerate(jobs):
            first, window = self._first[job.session], job.order.window
            for number, row in job.order.rows:
                places.append(first + number % KEPT_ROWS)
                values.append(row)
            silent = window == SILENT_ROW
            rows[k] = first + np.where(silent, KEPT_ROWS, window % KEPT_ROWS)
        if places:
            self.engine.renderer.pool.scatter(places, torch.from_numpy(np.stack(values)))
        poses = np.array([job.order.pose for job in jobs], np.int64)
        expression = np.stack([job.order.expression for job in jobs])
        colours = [job.colours for job in jobs]
        if self._look.matte:
            rows, expression = (np.concatenate([part, part]) for part in (rows, expression))
            poses = np.concatenate([poses, poses + self._look.poses])
            colours *= 2
        if self._planar is None:
            pending = self.engine.submit(rows, poses, expression)
        else:
            pending = self._planar.submit_planar(rows, poses, expression, colours)
        self._pending.append((pending, jobs))
        self.batches += 1
        self.pictures += len(jobs)

    def _fetch(self) -> list[PictureJob]:
        """Write the pictures of the oldest batch where they belong."""
        pending, jobs = self._pending.popleft()
        images = pending.images()
        alive = [k for k, job in enumerate(jobs) if job.session in self._first]

        def planes(k: int, colours: Colours) -> np.ndarray:
            """Image k as I420."""
            if self._planar is not None:
                return np.asarray(images[k])
            made = np.empty(images[k].size // 2, np.uint8)
            write_i420(images[k], made, colours)
            return made

        def write(k: int) -> None:
            job, look = jobs[k], self._look
            if look.matte:
                both = planes(k, job.colours), planes(k + len(jobs), job.colours)
                stack_matte(*both, look.width, job.colours, job.out)
            elif look.finish is not None:
                write_i420(look.finish(job.order.pose, images[k]), job.out, job.colours)
            elif self._planar is None:
                write_i420(images[k], job.out, job.colours)
            else:
                job.out[:] = images[k]
            if self._watermark is not None:
                luma = job.out[: look.width * look.height]
                self._watermark.add(luma.reshape(look.height, look.width))

        copied_only = self._planar is not None and self._watermark is None and not self._look.matte
        if self._look.finish is not None or copied_only or len(alive) < SHARED_CONVERSION:
            for k in alive:
                write(k)
        else:
            list(self._threads.map(write, alive))
        return [jobs[k] for k in alive]

    def shut_down(self) -> None:
        """Free the engine."""
        self._threads.shutdown()
        self.engine.close()
