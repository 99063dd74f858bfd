"""Takes of the built-in speaker as a camera in a room and a separate microphone record them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from audio_samples import SPEAKER
from scipy.interpolate import make_interp_spline
from scipy.signal import butter, fftconvolve, sosfilt

from being.media import read_audio
from being.media.resampling import resample

RATE = 16_000


def speech(seconds: float = 29.0, start: float = 0.0) -> np.ndarray:
    """Speech of the built-in clip, float32 [T] at 16 kHz."""
    return read_audio(SPEAKER)[round(start * RATE) : round((start + seconds) * RATE)]


def through_camera(voice: np.ndarray, seed: int, snr: float = 12.0, wet: float = 0.8) -> np.ndarray:
    """The voice as a camera in a room hears it: echoes, no treble above 5 kHz, noise of its own.

    snr: dB. wet: power of the echoes over that of the direct sound, as an amplitude.
    """
    rng = np.random.default_rng(seed)
    echoes = rng.normal(size=4000) * np.exp(-np.arange(4000) / 1000)
    echoes *= wet / np.sqrt(np.square(echoes).sum())
    echoes[0] = 1.0
    heard = fftconvolve(voice, echoes)[: len(voice)]

    # Both ways, so that the filter delays nothing and the true offset is known.
    treble = butter(2, 5000, fs=RATE, output="sos")
    heard = sosfilt(treble, sosfilt(treble, heard)[::-1])[::-1]
    noise = rng.normal(size=len(voice)) * heard.std() * 10 ** (-snr / 20)
    return (heard + noise).astype(np.float32)


def through_microphone(
    voice: np.ndarray, offset: float, drift: float, seed: int, gain: float = 0.3, after: float = 2.0
) -> np.ndarray:
    """The voice in a recording in which time t of the voice is at `offset + (1 + drift) t`.

    offset: s; negative where the recorder was started late. after: s that it records afterwards.
    """
    rng, rate_up = np.random.default_rng(seed), 4
    fine = resample(voice, RATE, rate_up * RATE).astype(np.float64)
    seconds = len(voice) / RATE
    count = round((offset + (1 + drift) * seconds + after) * RATE)
    time = (np.arange(count) / RATE - offset) / (1 + drift)
    recorded = np.zeros(count)
    inside = (time >= 0) & (time <= seconds - 1e-3)
    places = time[inside] * RATE * rate_up
    recorded[inside] = make_interp_spline(np.arange(len(fine)), fine, 3)(places)
    noise = rng.normal(size=count) * 0.01 * voice.std()
    return (gain * (recorded + noise)).astype(np.float32)


def put_audio_into(video: Path, samples: np.ndarray | None, target: Path) -> Path:
    """A copy of the video with other audio, float32 [T] at 16 kHz, or with none."""
    with av.open(str(video)) as source, av.open(str(target), "w") as written:
        pictures = written.add_stream_from_template(source.streams.video[0])
        sound = None if samples is None else written.add_stream("pcm_f32le", rate=RATE)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = pictures
                written.mux(packet)
        if sound is not None and samples is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "flt", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            written.mux([*sound.encode(frame), *sound.encode(None)])
    return target
