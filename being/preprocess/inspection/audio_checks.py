"""Checks of a clip's audio: speech, level, clipping, noise and bandwidth; each gives a finding.

`python scripts/measure/speech.py VIDEO` prints the findings of audio and speech of a clip.
"""

from __future__ import annotations

import numpy as np

from being.audio.phonemes import LEVEL_RATE, SpeechAnalysis
from being.conventions import SAMPLE_RATE
from being.preprocess.inspection.findings import Finding, TimeRanges

SILENT_PEAK = 1e-3  # of full scale, -60 dB: as quiet as an unplugged microphone
SPEECH_MIN = 1.0  # s; less is no speech to learn from
QUIET = -45.0  # dB of full scale; speech of the measured clips and voices has between -8 and -26
# dB of full scale that too quiet audio is brought to (as in broadcasting, EBU R 128).
SPEECH_LEVEL = -23.0
DC_MAX = 0.01  # mean of the samples; the measured clips and voices have 0.0017 at most
# Percentiles of |sample| during speech: 99.99th over 99.5th and 99.9th over 99th, the lower of the
# two. It is 1.26 to 1.89 in nine recordings and voices (1.08 in a tenth, which is clipped), and
# 1.01 to 1.15 when these are amplified 2 to 20 times over full scale, at any later sampling rate
# and volume. Clipping at 1.5 times full scale, 0.1 % of the samples, is not detected.
CLIPPED = 1.17
CLIPPED_SHARE = 0.9  # of the limit; samples above it are clipped
CLIPPED_MAX = 0.01  # share of a second's samples above it, from which the second is reported
NOISY, VERY_NOISY = 15.0, 8.0  # dB of speech over noise
QUIET_PART = 20  # percentile of the levels under which the noise is classified
TELEPHONE_BAND = (4000.0, 5500.0)  # Hz
# dB under the strongest part of the spectrum: -27 to -53 in recordings, -94 to -98 from 8 kHz.
TELEPHONE = -70.0
# Share of a pause's power in narrow spectral lines, from which it is hum or music and not noise.
TONAL = 0.5
LINE_FRAMES = 200  # pieces of 0.13 s that are analysed, spread over the audio
LINE = 10.0  # a line: a bin this many times stronger than the median of its neighbours
LONG_PAUSE = 3.0  # s


def check_audio(analysis: SpeechAnalysis) -> tuple[Finding, ...]:
    """The findings "audio", "audio level", "clipping", "noise", "bandwidth" and "voice".

    Audio that is damaged, silent or without speech gives a rejection and fewer findings.
    """
    if analysis.invalid_samples:
        return (
            Finding(
                "audio",
                "rejection",
                f"{analysis.invalid_samples} samples of the audio are not numbers",
                (),
                "Export the clip again, for instance with: ffmpeg -i IN -c:v copy -c:a aac OUT.mp4",
            ),
        )
    if np.abs(analysis.samples).max(initial=0.0) < SILENT_PEAK:
        return (
            Finding(
                "audio",
                "rejection",
                "the audio is silent: it is never louder than -60 dB of full scale",
                ((0.0, analysis.seconds),),
                "Give a clip in which the person can be heard",
            ),
        )
    length = Finding("audio", "ok", f"{analysis.seconds:.1f} s of audio")
    voice = _check_voice(analysis)
    if voice.level == "rejection":
        return (length, voice)
    return (
        length,
        _check_level(analysis),
        _check_clipping(analysis),
        _check_noise(analysis),
        _check_bandwidth(analysis),
        voice,
    )


def repaired_audio(analysis: SpeechAnalysis) -> np.ndarray:
    """The samples without a constant offset, amplified where the speech is too quiet.

    float32 [T] in [-1, 1].
    """
    samples = analysis.samples - np.float32(_dc_offset(analysis))
    if analysis.speech and analysis.speech_level < QUIET:
        gain = 10 ** ((SPEECH_LEVEL - analysis.speech_level) / 20)
        samples = samples * np.float32(min(gain, 0.99 / float(np.abs(samples).max())))
    return samples


def _check_voice(analysis: SpeechAnalysis) -> Finding:
    """The finding "voice": how much speech there is, and the long pauses."""
    if analysis.speech_seconds < SPEECH_MIN:
        tonal = _line_share(analysis.samples) > TONAL
        other = "music or a tone" if tonal else "noise or something else"
        return Finding(
            "voice",
            "rejection",
            f"no speech was found in {analysis.seconds:.1f} s of audio, but {other}",
            ((0.0, analysis.seconds),),
            "Give a clip in which the person speaks, near the microphone and without music",
        )
    edges = [0.0, *(t for stretch in analysis.speech for t in stretch), analysis.seconds]
    pauses = tuple(
        (a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > LONG_PAUSE
    )
    what = f"speech in {analysis.speech_seconds:.1f} s of {analysis.seconds:.1f} s"
    if analysis.speech_seconds < 0.5 * analysis.seconds:
        return Finding(
            "voice",
            "warning",
            f"{what}: the lips learn little from the rest",
            pauses,
            "Cut the pauses out, or record somebody who keeps talking",
        )
    if pauses:
        what += f", {len(pauses)} pauses of more than {LONG_PAUSE:.0f} s"
    return Finding("voice", "ok", what, pauses)


def _dc_offset(analysis: SpeechAnalysis) -> float:
    """The mean of the samples, or 0 where it is small."""
    mean = float(analysis.samples.mean(dtype=np.float64))
    return mean if abs(mean) > DC_MAX else 0.0


def _check_level(analysis: SpeechAnalysis) -> Finding:
    """The finding "audio level": the loudness of the speech, and a constant offset."""
    level, offset = analysis.speech_level, _dc_offset(analysis)
    what = f"speech has {level:.0f} dB of full scale"
    if level < QUIET:
        return Finding(
            "audio level",
            "warning",
            f"{what}: it is nearly silent",
            (),
            "It is made louder, and its noise with it. "
            "Better record again, nearer to the microphone",
        )
    if offset:
        return Finding(
            "audio level",
            "warning",
            f"{what}; the samples' mean is {offset:+.3f} instead of 0",
            (),
            "The mean is subtracted. Check for a faulty microphone or sound card",
        )
    return Finding("audio level", "ok", what)


def _check_clipping(analysis: SpeechAnalysis) -> Finding:
    """The finding "clipping", with the seconds in which samples are clipped."""
    # Clipped audio has many samples at its largest value: its upper percentiles lie together.
    times = np.arange(len(analysis.samples)) / SAMPLE_RATE
    loud = np.abs(analysis.samples - analysis.samples.mean())
    spoken = loud[analysis.speaking(times)]
    low, limit, high, highest = np.percentile(spoken, (99, 99.5, 99.9, 99.99))
    if high > CLIPPED * low and highest > CLIPPED * limit:
        return Finding("clipping", "ok", "the loudest parts are not cut off")

    clipped = np.pad(loud > CLIPPED_SHARE * limit, (0, -len(loud) % SAMPLE_RATE))
    share = clipped.reshape(-1, SAMPLE_RATE).mean(1)
    seconds = np.flatnonzero(share > CLIPPED_MAX)
    at = tuple((float(k), min(float(k + 1), analysis.seconds)) for k in seconds)
    return Finding(
        "clipping",
        "warning",
        f"loud parts are cut off, in {len(seconds)} of {len(share)} seconds: "
        "distorted speech moves the lips wrongly",
        _joined(at),
        "Record again with the level turned down",
    )


def _check_noise(analysis: SpeechAnalysis) -> Finding:
    """The finding "noise": speech over what is in the pauses, in dB."""
    ratio = analysis.speech_level - analysis.noise_level
    what = f"speech is {ratio:.0f} dB louder than what is between the words"
    if ratio >= NOISY:
        return Finding("noise", "ok", what)

    # Only the quietest part tells what the noise is.
    quiet = analysis.levels <= np.percentile(analysis.levels, QUIET_PART)
    chosen = np.repeat(quiet, SAMPLE_RATE // LEVEL_RATE)[: len(analysis.samples)]
    tonal = _line_share(analysis.samples, chosen) > TONAL
    noise = "music, hum or another tone" if tonal else "noise"
    worse = ": phonemes are missed" if ratio < VERY_NOISY else ""
    return Finding(
        "noise",
        "warning",
        f"{what}, which is {noise}{worse}",
        (),
        "Record in a quiet room without music, near the microphone; "
        "or remove the noise from the audio with a program for it",
    )


def _check_bandwidth(analysis: SpeechAnalysis) -> Finding:
    """The finding "bandwidth": whether the audio has the frequencies above a telephone's."""
    # Power spectra of every second frame of 32 ms during speech.
    size = 512
    padded = np.pad(analysis.samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: SAMPLE_RATE // LEVEL_RATE]
    frames = frames[analysis.speaking(np.arange(len(frames)) / LEVEL_RATE)][::2]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)))

    # The loud frames hold the high frequencies, of s and f: the 95th percentile of each bin, dB.
    strong = 10 * np.log10(np.percentile(power, 95, axis=0) + 1e-20)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    band = (frequency >= TELEPHONE_BAND[0]) & (frequency < TELEPHONE_BAND[1])
    if strong[band].mean() - strong.max() > TELEPHONE:
        what = "the audio has the high frequencies that distinguish s from f"
        return Finding("bandwidth", "ok", what)
    end = frequency[np.flatnonzero(strong > strong.max() + TELEPHONE).max()]
    return Finding(
        "bandwidth",
        "warning",
        f"the audio ends at {end / 1000:.1f} kHz, as on the telephone: s and f hardly differ in it",
        (),
        "Use the recording of the camera or of a microphone, not of a call",
    )


def _line_share(samples: np.ndarray, chosen: np.ndarray | None = None) -> float:
    """Share 0..1 of the power of `samples` [T] in narrow lines of its spectrum.

    chosen: bool [T], the samples to analyse.
    """
    # Pieces of 0.13 s that lie in the chosen part, thinned out to LINE_FRAMES.
    size, width = 2048, 33
    hops = np.arange(0, max(1, len(samples) - size), size // 2)
    if chosen is not None:
        share = np.array([chosen[a : a + size].mean() for a in hops])
        hops = hops[share >= min(0.9, share.max())]
    hops = hops[:: -(-len(hops) // LINE_FRAMES)]
    missing = max(0, size - len(samples))
    frames = np.stack([np.pad(samples[a : a + size], (0, missing)) for a in hops])

    # A line stands out from the median of the bins around it.
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)))
    padded = np.pad(power, ((0, 0), (width // 2, width // 2)), "reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=1), axis=2)
    return float((power * (power > LINE * around)).sum() / max(power.sum(), 1e-20))


def _joined(ranges: TimeRanges) -> TimeRanges:
    """Time ranges in which ranges that touch are one."""
    joined: list[tuple[float, float]] = []
    for start, stop in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return tuple(joined)
