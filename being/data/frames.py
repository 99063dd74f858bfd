"""A clip's pictures on disk as `ori_imgs/%d.jpg`: written once from the video, read again by every
later step.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from being.errors import BeingError, InputRejected

JPEG_QUALITY = 96
JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)  # full colour resolution: lips


class FrameFolder(Sequence[np.ndarray]):
    """The frames of a folder as a sequence of uint8 [H, W, 3] RGB; read when asked for, from any
    thread.
    """

    def __init__(self, folder: Path, count: int):
        self.folder, self._length = folder, count

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return read_image(self.folder / f"{index % self._length}.jpg")


def write_frames(
    pictures: Iterator[np.ndarray], folder: Path, progress: Callable[[int], None] | None = None
) -> FrameFolder:
    """Write pictures uint8 [H, W, 3] RGB as 0.jpg, 1.jpg, ...; a few are encoded at a time, so
    memory stays flat.
    """
    folder.mkdir(parents=True)
    workers = max(1, min(8, os.cpu_count() or 1))
    waiting: deque[Future[None]] = deque()
    count = 0
    with ThreadPoolExecutor(workers) as pool:
        for picture in pictures:
            waiting.append(pool.submit(write_image, folder / f"{count}.jpg", picture))
            count += 1
            if len(waiting) > 4 * workers:
                waiting.popleft().result()
            if progress:
                progress(1)
        for future in waiting:
            future.result()
    return FrameFolder(folder, count)


def read_image(path: Path) -> np.ndarray:
    """A picture file as uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, as it was written."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise InputRejected(f"{path} cannot be read", fix="Preprocess the clip again")
    if picture.ndim == 2:
        return picture
    return cv2.cvtColor(
        picture, cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB
    )


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as .jpg or .png. Raises BeingError when
    it cannot.
    """
    assert picture.dtype == np.uint8, picture.dtype
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    pixels = cv2.cvtColor(picture, codes[picture.shape[2]]) if picture.ndim == 3 else picture
    done, data = cv2.imencode(path.suffix, pixels, JPEG_OPTIONS if path.suffix == ".jpg" else ())
    assert done, path
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise BeingError(
            f"cannot write {path}", str(error), "Make room on the disk or choose another place"
        ) from error
