"""Encode frames and audio as an mp4 under a size limit (H.264 yuv420p and AAC).

The metadata say that the clip is synthetic.
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LARGEST = 3_000_000 - 40_000  # bytes
AUDIO_BITRATE = 72_000  # bit/s
FIRST_CRF = 18  # tried first
CRF_PER_HALVING = 6.0  # the size halves about every 6 steps
METADATA = {
    "title": "A synthetic speaker (AI-generated, nobody's face)",
    "comment": "Synthetic, AI-generated person who does not exist: "
    "rendered from CC0 MakeHuman data, "
    "spoken by a synthetic voice. Sample clip of the software 'being'.",
}


def encode(
    path: Path, frames: Iterable[np.ndarray], fps: int, sound: np.ndarray, rate: int, crf: int
) -> None:
    """Writes the clip. frames: uint8 [H, W, 3] RGB; sound: float32 [T] mono at `rate` Hz."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        container.metadata.update(METADATA)
        options = {
            "crf": str(crf),
            "preset": "slow",
            "profile": "high",
            "x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
        }
        video = container.add_stream("libx264", rate=fps, options=options)
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        audio.bit_rate = AUDIO_BITRATE
        for picture in frames:
            if not video.width or video.width != picture.shape[1]:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(sound), 1024):
            block = av.AudioFrame.from_ndarray(
                sound[None, start : start + 1024], format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def encode_to_fit(
    path: Path, frames: Callable[[], Iterable[np.ndarray]], fps: int, sound: np.ndarray, rate: int
) -> int:
    """The CRF of a file under LARGEST bytes left at `path`: the best that the size of a first try
    promises.
    """
    crf, step = FIRST_CRF, 0
    while True:
        encode(path, frames(), fps, sound, rate, crf)
        excess = math.log2(path.stat().st_size / LARGEST)
        if excess <= 0 and (step or excess > -1 / CRF_PER_HALVING):
            return crf
        step = 1 if step else math.ceil(CRF_PER_HALVING * excess)
        crf += step
