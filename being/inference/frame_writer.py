"""Frames written by a thread of its own, through a queue of few: the encoder works while later
frames render.
"""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType

import numpy as np

from being.media import VideoWriter

WAITING = 16  # frames between the renderer and the encoder; memory does not grow beyond them
LOOK_S = 0.1  # how often a full queue looks whether the encoder has failed


class WritingThread:
    """Hands frames to a `VideoWriter`, in order; what goes wrong there is raised here."""

    def __init__(self, video: VideoWriter):
        self._video = video
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(WAITING)
        self._stopped = threading.Event()
        self.busy = 0.0  # s that encoding took
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    def _run(self) -> None:
        try:
            while (frame := self._frames.get()) is not None and not self._stopped.is_set():
                start = time.perf_counter()
                self._video.write(frame)
                self.busy += time.perf_counter() - start
        except BaseException as error:
            self._error = error

    def write(self, frame: np.ndarray) -> None:
        """Append one picture, uint8 [H, W, 3] RGB, which must not change afterwards; waits while
        the queue is full.
        """
        while self._thread.is_alive():
            try:
                return self._frames.put(frame, timeout=LOOK_S)
            except queue.Full:
                continue
        raise self._error or RuntimeError("the encoder has stopped")

    def __enter__(self) -> WritingThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stopped.set()
        while self._thread.is_alive():
            try:
                self._frames.put(None, timeout=LOOK_S)
                break
            except queue.Full:
                if self._stopped.is_set():
                    self._frames.get_nowait()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
