"""Is the sound of a clip fit to learn lips from: speech in it, level, clipping, noise, bandwidth.

`python scripts/measure/speech.py VIDEO` prints the findings of sound and speech of a clip.
"""

from __future__ import annotations

import numpy as np

from being.audio.phonemes import LEVEL_RATE, Heard
from being.conventions import SAMPLE_RATE
from being.preprocess.inspection.findings import Finding

SILENT_PEAK = 1e-3  # of full scale, -60 dB: as quiet as an unplugged microphone
SPEECH_LEAST = 1.0  # s; less is no speech to learn from
QUIET = -45.0  # dB of full scale; speech of the shared clips and voices lies between -8 and -26
SPEECH_LEVEL = (
    -23.0
)  # dB of full scale that too quiet sound is brought to (broadcast habit, EBU R 128)
DC_MOST = 0.01  # mean of the samples; the shared clips and voices have 0.0017 at most
# Percentiles of |sample| while somebody speaks, 99.99th over 99.5th and 99.9th over 99th, the
# lower: 1.26 to 1.89 in nine recordings and voices (1.08 in a tenth, which is cut), 1.01 to 1.15
# when these are amplified 2 to 20 times over full scale, at any later sampling rate and volume. 1.5
# times over, 0.1 % of the samples cut, is not told.
CLIPPED = 1.17
CLIPPED_SHARE = 0.9  # of the limit; samples above it are cut ones
CLIPPED_MOST = 0.01  # of a second's samples above it: this second is named
NOISY, VERY_NOISY = 15.0, 8.0  # dB of speech over noise
QUIET_PART = 20  # percentile of the levels up to which it is asked what the noise is
TELEPHONE_BAND = (4000.0, 5500.0)  # Hz
TELEPHONE = (
    -70.0
)  # dB under the strongest part of the spectrum: -27 to -53 in recordings, -94 to -98 from 8 kHz
# share of a pause's power that stands in narrow lines, from which it is hum or music and no noise
TONAL = 0.5
LINE_FRAMES = 200  # pieces of 0.13 s that are looked at, spread over the sound
LINE = 10.0  # a line: a bin this many times stronger than the median of its neighbours
LONG_PAUSE = 3.0  # s


def check_sound(heard: Heard) -> tuple[Finding, ...]:
    """What is right and wrong with a sound: "sound", "sound level", "clipping", "noise",
    "bandwidth", "voice".
    """
    if heard.damaged:
        return (
            Finding(
                "sound",
                "rejection",
                f"{heard.damaged} samples of the sound are not numbers",
                (),
                "Export the clip again, for instance with: ffmpeg -i IN -c:v copy -c:a aac OUT.mp4",
            ),
        )
    if np.abs(heard.sound).max(initial=0.0) < SILENT_PEAK:
        return (
            Finding(
                "sound",
                "rejection",
                "the sound is silent: it never gets louder than -60 dB of full scale",
                ((0.0, heard.seconds),),
                "Give a clip in which the person is heard",
            ),
        )
    voice = _check_voice(heard)
    if voice.level == "rejection":
        return (_present(heard), voice)
    return (
        _present(heard),
        _check_level(heard),
        _check_clipping(heard),
        _check_noise(heard),
        _check_band(heard),
        voice,
    )


def mended(heard: Heard) -> np.ndarray:
    """The sound without a constant offset and, where the speech is too quiet, louder: float32 [T]
    in [-1, 1].
    """
    sound = heard.sound - np.float32(_offset(heard))
    if heard.speech and heard.speech_level < QUIET:
        gain = min(
            10 ** ((SPEECH_LEVEL - heard.speech_level) / 20), 0.99 / float(np.abs(sound).max())
        )
        sound = sound * np.float32(gain)
    return sound


def _present(heard: Heard) -> Finding:
    return Finding("sound", "ok", f"{heard.seconds:.1f} s of sound")


def _check_voice(heard: Heard) -> Finding:
    if heard.speech_seconds < SPEECH_LEAST:
        lines = _line_share(heard.sound)
        what = "music or a tone" if lines > TONAL else "noise or something else"
        return Finding(
            "voice",
            "rejection",
            f"no speech is heard in {heard.seconds:.1f} s of sound, but {what}",
            ((0.0, heard.seconds),),
            "Give a clip in which the person speaks, near the microphone and without music",
        )
    edges = [0.0, *(t for stretch in heard.speech for t in stretch), heard.seconds]
    pauses = tuple(
        (a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > LONG_PAUSE
    )
    what = f"speech in {heard.speech_seconds:.1f} s of {heard.seconds:.1f} s"
    if heard.speech_seconds < 0.5 * heard.seconds:
        return Finding(
            "voice",
            "warning",
            f"{what}: the rest teaches the lips little",
            pauses,
            "Cut the pauses out, or record somebody who keeps talking",
        )
    return Finding(
        "voice",
        "ok",
        what + (f", {len(pauses)} pauses of more than {LONG_PAUSE:.0f} s" if pauses else ""),
        pauses,
    )


def _offset(heard: Heard) -> float:
    mean = float(heard.sound.mean(dtype=np.float64))
    return mean if abs(mean) > DC_MOST else 0.0


def _check_level(heard: Heard) -> Finding:
    level, offset = heard.speech_level, _offset(heard)
    said = f"speech has {level:.0f} dB of full scale"
    if level < QUIET:
        return Finding(
            "sound level",
            "warning",
            f"{said}: it is nearly silent",
            (),
            "It is made louder, and its noise with it. Better record again, nearer to the microphone",
        )
    if offset:
        return Finding(
            "sound level",
            "warning",
            f"{said}; the samples' mean is {offset:+.3f} instead of 0",
            (),
            "The mean is taken off. Look for a faulty microphone or sound card",
        )
    return Finding("sound level", "ok", said)


def _check_clipping(heard: Heard) -> Finding:
    times = np.arange(len(heard.sound)) / SAMPLE_RATE
    loud = np.abs(heard.sound - heard.sound.mean())
    low, limit, high, highest = np.percentile(loud[heard.speaking(times)], (99, 99.5, 99.9, 99.99))
    if high > CLIPPED * low and highest > CLIPPED * limit:
        return Finding("clipping", "ok", "the loudest parts are not cut off")
    parts = (
        np.pad(loud > CLIPPED_SHARE * limit, (0, -len(loud) % SAMPLE_RATE))
        .reshape(-1, SAMPLE_RATE)
        .mean(1)
    )
    cut = np.flatnonzero(parts > CLIPPED_MOST)
    at = tuple((float(k), min(float(k + 1), heard.seconds)) for k in cut)
    return Finding(
        "clipping",
        "warning",
        f"loud parts are cut off, in {len(cut)} of {len(parts)} seconds: "
        "distorted speech moves the lips wrongly",
        _joined(at),
        "Record again with the level turned down",
    )


def _check_noise(heard: Heard) -> Finding:
    ratio = heard.speech_level - heard.noise_level
    said = f"speech stands {ratio:.0f} dB over what is heard between the words"
    if ratio >= NOISY:
        return Finding("noise", "ok", said)
    quiet = np.repeat(
        heard.level <= np.percentile(heard.level, QUIET_PART), SAMPLE_RATE // LEVEL_RATE
    )
    kind = (
        "music, hum or another tone"
        if _line_share(heard.sound, quiet[: len(heard.sound)]) > TONAL
        else "noise"
    )
    worse = ": sounds are missed" if ratio < VERY_NOISY else ""
    return Finding(
        "noise",
        "warning",
        f"{said}, which is {kind}{worse}",
        (),
        "Record in a quiet room without music, near the microphone; or take the noise out of the sound with "
        "a program for it",
    )


def _check_band(heard: Heard) -> Finding:
    size = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(heard.sound, size // 2), size)[
        :: SAMPLE_RATE // LEVEL_RATE
    ]
    frames = frames[heard.speaking(np.arange(len(frames)) / LEVEL_RATE)][::2]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)))
    strong = 10 * np.log10(np.percentile(power, 95, axis=0) + 1e-20)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    above = (
        strong[(frequency >= TELEPHONE_BAND[0]) & (frequency < TELEPHONE_BAND[1])].mean()
        - strong.max()
    )
    if above > TELEPHONE:
        return Finding("bandwidth", "ok", "the sound holds the high frequencies that tell s from f")
    end = frequency[np.flatnonzero(strong > strong.max() + TELEPHONE).max()]
    return Finding(
        "bandwidth",
        "warning",
        f"the sound ends at {end / 1000:.1f} kHz, as on the telephone: s and f are "
        "hardly told apart",
        (),
        "Use the recording of the camera or of a microphone, not of a call",
    )


def _line_share(sound: np.ndarray, chosen: np.ndarray | None = None) -> float:
    """Share of a sound's power in narrow lines of its spectrum, 0..1; chosen: bool [T], what to
    look at.
    """
    size, width = 2048, 33
    hops = np.arange(0, max(1, len(sound) - size), size // 2)
    if chosen is not None:
        share = np.array([chosen[a : a + size].mean() for a in hops])
        hops = hops[share >= min(0.9, share.max())]
    hops = hops[:: -(-len(hops) // LINE_FRAMES)]
    frames = np.stack([np.pad(sound[a : a + size], (0, max(0, size - len(sound)))) for a in hops])
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)))
    around = np.median(
        np.lib.stride_tricks.sliding_window_view(
            np.pad(power, ((0, 0), (width // 2, width // 2)), "reflect"), width, axis=1
        ),
        axis=2,
    )
    return float((power * (power > LINE * around)).sum() / max(power.sum(), 1e-20))


def _joined(ranges: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, stop in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return tuple(joined)
