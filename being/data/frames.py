"""Reading and writing of a clip's image files (`ori_imgs/0.jpg`, `ori_imgs/1.jpg`, ...)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from being.errors import BeingError, InputRejected
from being.reading.content import Unreadable, rejected
from being.reading.images import read_image_bytes
from being.threads import allowed_cores

JPEG_QUALITY = 96
# 4:4:4 keeps the full colour resolution, which thin lips need.
JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


class FrameFolder(Sequence[np.ndarray]):
    """The frames of a folder as a sequence of uint8 [H, W, 3] RGB.

    A frame is read from its file at each access, from any thread.
    """

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self._length = count

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
    frames: Iterator[np.ndarray], folder: Path, progress: Callable[[int], None] | None = None
) -> FrameFolder:
    """Write frames uint8 [H, W, 3] RGB as 0.jpg, 1.jpg, ... of a new folder.

    Only a few frames are in memory at a time. progress(1) is called for each frame.
    """
    folder.mkdir(parents=True)
    workers = min(8, allowed_cores())
    waiting: deque[Future[None]] = deque()
    count = 0
    with ThreadPoolExecutor(workers) as pool:
        for frame in frames:
            waiting.append(pool.submit(write_image, folder / f"{count}.jpg", frame))
            count += 1
            if len(waiting) > 4 * workers:
                waiting.popleft().result()
            if progress:
                progress(1)
        for future in waiting:
            future.result()
    return FrameFolder(folder, count)


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, as it was written.

    Raises InputRejected for a file that cannot be read.
    """
    fix = "Preprocess the clip again"
    try:
        content, (width, height) = read_image_bytes(path)
        # OpenCV opens no path: one that is no UTF-8 would end the process.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, Unreadable, cv2.error) as error:
        raise rejected(path, error, fix) from error
    if image is None or image.shape[:2] != (height, width) or image.dtype != np.uint8:
        raise InputRejected(
            f"{path} cannot be read", "it is a broken image, or not of 8 bits a channel", fix
        )
    if image.ndim == 2:
        return image
    code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, code)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as .jpg or .png.

    Raises BeingError when the file cannot be written.
    """
    assert image.dtype == np.uint8, image.dtype
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    pixels = cv2.cvtColor(image, codes[image.shape[2]]) if image.ndim == 3 else image
    done, data = cv2.imencode(path.suffix, pixels, JPEG_OPTIONS if path.suffix == ".jpg" else ())
    assert done, path
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise BeingError(
            f"cannot write {path}",
            str(error),
            "Free some space on the disk, or choose another folder",
        ) from error
