"""A thread that writes frames to a video file while later frames render."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import Protocol

import numpy as np

from being.provenance.watermark import Watermark

QUEUE_FRAMES = 16  # between the renderer and the encoder; memory does not grow beyond them
POLL_SECONDS = 0.1  # between checks whether the encoder has failed, while the queue is full


class PictureSink(Protocol):
    """What frames are written to: `VideoWriter`, `PngSequenceWriter`."""

    def write(self, frame: np.ndarray) -> None:
        """Append one frame."""


class FrameWriter:
    """Writes frames to a video, in order, on a thread; its errors are raised here.

    This is the last stage at which a frame has pixels: here it gets its watermark.
    """

    def __init__(self, video: PictureSink, watermark: Watermark | None = None):
        self._video, self._watermark = video, watermark
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(QUEUE_FRAMES)
        self._stopped = threading.Event()
        self.busy = 0.0  # s that encoding took
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    def _run(self) -> None:
        try:
            while (frame := self._frames.get()) is not None and not self._stopped.is_set():
                start = time.perf_counter()
                if self._watermark is not None:
                    frame = self._watermark.marked(frame)
                self._video.write(frame)
                self.busy += time.perf_counter() - start
        except BaseException as error:
            self._error = error

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [H, W, 3] RGB or [H, W, 4] RGBA; wait while the queue is full.

        The array is used up: its pixels may change here, and nobody else may change them. Raises
        what the encoder raised.
        """
        while self._thread.is_alive():
            try:
                return self._frames.put(frame, timeout=POLL_SECONDS)
            except queue.Full:
                continue
        raise self._error or RuntimeError("the encoder has stopped")

    def __enter__(self) -> FrameWriter:
        self._thread.start()
        return self

    def __exit__(
        self, error_type: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last frame; after an error, drop the frames that wait."""
        if error_type is not None:
            self._stopped.set()
        while self._thread.is_alive():
            try:
                self._frames.put(None, timeout=POLL_SECONDS)
                break
            except queue.Full:
                if self._stopped.is_set():
                    self._frames.get_nowait()
        self._thread.join()
        if error_type is None and self._error is not None:
            raise self._error
