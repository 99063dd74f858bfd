"""Offset and drift of a separate recording of the voice against the camera's audio.

First the loudness of both in several bands gives the place, to 10 ms, anywhere in the recording.
Then the waveforms are compared in short windows over the whole clip. A window has its own lag, and
the lags of one take lie on one line: its start is the offset, its slope the drift of the clocks.
Only one take has windows that agree to half a millisecond: another take of the same text, by the
same person, agrees by chance only. This chance is computed, and decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, special

from being.conventions import SAMPLE_RATE

# Loudness in bands.
HOP = 160  # samples, 10 ms
SPECTRUM = 512  # samples
BANDS = (150, 300, 450, 650, 900, 1200, 1600, 2100, 2800, 3800, 5200)  # Hz, edges
LEVEL_RANGE = 6.0  # nepers of power under the loud parts, from which all counts as silence
SLOW = 50  # steps to either side of the moving mean that is subtracted
PIECES = 9  # of the camera's audio, of which each is searched in the whole recording
PIECE_SECONDS = 20.0
CANDIDATES = 4  # places of each piece that are considered
PIECE_TOLERANCE = 0.03  # s by which two pieces of one place may differ
DRIFT_MAX = 0.0015  # sound for film is at times slowed by 0.001; no two clocks differ by more
PLACES = 3  # places that are compared by their waveforms
OVERLAP_MIN = 0.3  # share of a piece that must lie in the recording

# Waveforms in windows.
WINDOW_SECONDS = (0.5, 1.0)  # shortest and longest window; 16 windows in a short clip
WINDOWS = 300  # most windows
QUIET = 0.05  # of the loud windows' deviation; quieter windows are silence
SEARCH = 0.05  # s to either side in which a window's lag is searched
AGREE = 0.0005  # s from the line within which a window agrees with it
WHITEN = 0.8  # power of the spectrum's size that is divided out; 1 is the phase transform
# Searches one after the other, each around the line of the one before: reach in s, highest
# frequency in Hz, distance in s within which windows agree. Drift blurs high frequencies at first.
PASSES = ((0.06, 1500, 0.004), (0.01, 4000, 0.001), (0.004, 6000, 0.0005), (0.003, 6000, 0.0003))
LOWEST = 120.0  # Hz, above hum and the rumble of a table
CHANCE_MAX = 1e-4  # probability up to which windows of two takes agree by chance
# Samples to either side of which a sample between two is made; samples made at once.
TAPS, BLOCK = 24, 1 << 15
PARTS = 4  # of the clip, in each of which windows must agree
PART_CHANCE = 0.02  # probability of a part's agreement by chance, above which it does not belong
PART_WINDOWS = 5  # windows with sound that make a part


@dataclass(frozen=True)
class ClockFit:
    """Where the camera's audio is in a recording: at `offset + (1 + drift) * time`, in s."""

    # time of the recording at the start of the camera's audio, s
    offset: float
    # s that the recording's clock gains in each second of the camera's
    drift: float
    # windows of the camera's audio with sound, and how many of them agree to half a millisecond
    windows: int
    agreeing: int
    # bound of the probability that so many agree by chance, at most 1
    chance: float
    # [start, stop) in s of the camera's audio where windows do not agree while others do
    foreign: tuple[tuple[float, float], ...] = ()

    @property
    def one_take(self) -> bool:
        """Whether both are recordings of one take."""
        return self.chance <= CHANCE_MAX

    def recorded_at(self, time: float) -> float:
        """Time in the recording, s, of a time in the camera's audio, s."""
        return self.offset + (1 + self.drift) * time


def fit_clock(camera: np.ndarray, recording: np.ndarray) -> ClockFit:
    """The place of the camera's audio in a recording of another device.

    camera, recording: float32 [T] and [R] at 16 kHz; at least 1 s each. Their levels, polarity,
    noise and rooms may differ. The offset may have any size. Accurate to about 0.1 ms where the
    microphone nearer to the mouth is heard in both.
    """
    assert camera.ndim == 1 and recording.ndim == 1, (camera.shape, recording.shape)
    best = ClockFit(0.0, 0.0, 0, 0, 1.0)
    for offset, drift in _find_places(camera, recording):
        fit = _fit_near(camera, recording, offset, drift)
        if fit.chance <= best.chance:
            best = fit
        if best.one_take:
            break
    return best


def on_camera_clock(
    recording: np.ndarray, offset: float, drift: float, start: int, stop: int
) -> np.ndarray:
    """Samples float32 [stop - start] of a recording at the samples of the camera's clock.

    recording: float32 [R] at 16 kHz. offset, drift: as of `ClockFit`. start, stop: samples on the
    camera's clock; outside the recording they are 0. Interpolated by a windowed sinc.
    """
    found = np.zeros(stop - start, np.float32)
    taps = np.arange(1 - TAPS, TAPS + 1)
    padded = np.pad(recording, TAPS)
    for begin in range(start, stop, BLOCK):
        time = np.arange(begin, min(begin + BLOCK, stop), dtype=np.float64)
        place = offset * SAMPLE_RATE + (1 + drift) * time
        inside = (place >= 0) & (place <= len(recording) - 1)
        whole = np.floor(place[inside]).astype(np.int64)
        distance = (place[inside] - whole)[:, None] - taps
        weights = np.sinc(distance) * np.cos(0.5 * np.pi * distance / (TAPS + 1)) ** 2
        values = (padded[whole[:, None] + taps + TAPS] * weights).sum(1)
        found[begin - start : begin - start + len(time)][inside] = values
    return found


def _band_levels(samples: np.ndarray) -> np.ndarray:
    """Loudness in bands less its moving mean, float32 [bands, steps], 100 steps a second."""
    padded = np.pad(samples, (SPECTRUM // 2, SPECTRUM))
    steps = len(samples) // HOP
    frequencies = np.fft.rfftfreq(SPECTRUM, 1 / SAMPLE_RATE)
    edges = np.searchsorted(frequencies, BANDS)
    window = np.hanning(SPECTRUM).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SPECTRUM)[::HOP][:steps]

    # In blocks: the spectra of an hour would fill the memory.
    levels = np.empty((len(BANDS) - 1, steps), np.float32)
    for start in range(0, steps, 4096):
        spectra = np.abs(fft.rfft(frames[start : start + 4096] * window, axis=1)) ** 2
        bands = np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1)
        levels[:, start : start + 4096] = np.log(bands.T + 1e-12)

    # Silence, and slow changes of the level, are no marks of a place.
    levels = np.maximum(levels, np.percentile(levels, 95, axis=1, keepdims=True) - LEVEL_RANGE)
    half = min(SLOW, steps - 1)
    sums = np.pad(levels, ((0, 0), (half, half)), "reflect").cumsum(1, dtype=np.float64)
    sums = np.pad(sums, ((0, 0), (1, 0)))
    mean = (sums[:, 2 * half + 1 :] - sums[:, : -2 * half - 1]) / (2 * half + 1)
    return (levels - mean).astype(np.float32)


def _find_places(camera: np.ndarray, recording: np.ndarray) -> list[tuple[float, float]]:
    """Places of the camera's audio in the recording: offset in s and drift, the likeliest first."""
    sought, levels = _band_levels(camera), _band_levels(recording)
    steps, rate = sought.shape[1], SAMPLE_RATE / HOP
    length = min(steps, round(PIECE_SECONDS * rate))
    count = 1 if length == steps else min(PIECES, 1 + 2 * (steps // length))
    starts = np.unique(np.linspace(0, steps - length, count).round().astype(int))

    # Candidates: time of the piece's start, lag of the recording in s, correlation.
    found: list[tuple[float, float, float]] = []
    for start in starts:
        correlation = _correlation_of_piece(sought[:, start : start + length], levels)
        for _ in range(CANDIDATES):
            best = int(correlation.argmax())
            lag = (best - (length - 1) - start) / rate
            found.append((start / rate, lag, float(correlation[best])))
            correlation[max(0, best - 20) : best + 21] = -1

    # Groups of candidates, one of a piece, that one offset and a drift explain.
    groups = []
    for time, lag, _ in found:
        near: dict[float, tuple[float, float, float]] = {}
        for other in found:
            allowed = PIECE_TOLERANCE + DRIFT_MAX * abs(other[0] - time)
            if abs(other[1] - lag) <= allowed and other[2] > near.get(other[0], other)[2] - 1e-9:
                near[other[0]] = other
        groups.append(sorted(near.values()))
    groups.sort(key=lambda group: -sum(max(0.0, other[2]) for other in group))

    places: list[tuple[float, float]] = []
    for group in groups:
        times, lags, weights = np.array(group).T
        drift = 0.0
        if np.ptp(times) > PIECE_SECONDS:
            drift = float(np.clip(np.polyfit(times, lags, 1, w=weights)[0], -DRIFT_MAX, DRIFT_MAX))
        offset = float(np.median(lags - drift * times))
        if all(abs(offset - other) > PIECE_TOLERANCE for other, _ in places):
            places.append((offset, drift))
    return places[:PLACES]


def _correlation_of_piece(piece: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Correlation float [R + L - 1] of a piece [bands, L] with levels [bands, R] at every lag.

    Entry k: the piece starts at step k - (L - 1) of the levels.
    """
    length, total = piece.shape[1], levels.shape[1]
    size = fft.next_fast_len(total + length - 1, real=True)
    product = np.zeros(size // 2 + 1, np.complex128)
    for row, other in zip(piece, levels, strict=True):
        scale = 1 / max(float(row.std()) * float(other.std()), 1e-9)
        product += np.conj(fft.rfft(row, size)) * fft.rfft(other, size) * scale
    lags = np.roll(fft.irfft(product, size), length - 1)[: total + length - 1]

    # Divided by the steps in common; places with few of them are left out.
    lag = np.arange(total + length - 1) - (length - 1)
    common = np.minimum(lag + length, total) - np.maximum(lag, 0)
    least = OVERLAP_MIN * min(length, total)
    return np.where(common >= least, lags / np.sqrt(np.maximum(common, 1) * length), -1.0)


def _fit_near(camera: np.ndarray, recording: np.ndarray, offset: float, drift: float) -> ClockFit:
    """The fit of the waveforms near an offset in s and a drift."""
    windows = _Windows(camera, recording)
    for reach, highest, agree in PASSES:
        starts, lags = windows.lags(offset, drift, reach, highest)
        if len(lags) < 2:
            return ClockFit(offset, drift, len(lags), 0, 1.0)
        shift, slope = _robust_line(starts, lags, agree)
        offset, drift = offset + shift, float(np.clip(drift + slope, -DRIFT_MAX, DRIFT_MAX))

    # How many windows agree with the line, of a search that is wide against the agreement.
    starts, lags = windows.lags(offset, drift, SEARCH, PASSES[-1][1])
    agrees = np.abs(lags) <= AGREE
    by_chance = AGREE / SEARCH
    lines = _lines_searched(len(camera) / SAMPLE_RATE)
    chance = min(1.0, lines * _tail(int(agrees.sum()), len(agrees), by_chance))

    # Parts of the clip in which no more windows agree than by chance.
    foreign: list[tuple[float, float]] = []
    if chance <= CHANCE_MAX:
        edges = np.linspace(0, len(camera) / SAMPLE_RATE, PARTS + 1)
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            inside = (starts >= start) & (starts < stop)
            count = int(inside.sum())
            tail = _tail(int(agrees[inside].sum()), count, by_chance)
            if count >= PART_WINDOWS and tail > PART_CHANCE:
                joins = foreign and foreign[-1][1] == start
                begin = foreign.pop()[0] if joins else float(start)
                foreign.append((begin, float(stop)))
    return ClockFit(offset, drift, len(agrees), int(agrees.sum()), chance, tuple(foreign))


def _lines_searched(seconds: float) -> float:
    """Number of lines, each 0.5 ms from the next, that the search chooses from in so many s."""
    offsets = 2 * PASSES[0][0] / AGREE
    slopes = 1 + 2 * DRIFT_MAX * seconds / AGREE
    return PLACES * offsets * slopes


def _tail(successes: int, trials: int, probability: float) -> float:
    """Probability of at least so many successes in independent trials."""
    if successes == 0:
        return 1.0
    return float(special.betainc(successes, trials - successes + 1, probability))


class _Windows:
    """Windows of the camera's audio with sound, spread over it."""

    def __init__(self, camera: np.ndarray, recording: np.ndarray):
        self.camera, self.recording = camera, recording
        seconds = np.clip(len(camera) / SAMPLE_RATE / 16, *WINDOW_SECONDS)
        self.length = round(float(seconds) * SAMPLE_RATE)
        count = max(1, min(WINDOWS, len(camera) // self.length))
        starts = np.linspace(0, max(0, len(camera) - self.length), count).round().astype(int)
        deviation = np.array([camera[a : a + self.length].std() for a in starts])
        self.starts = starts[deviation > QUIET * np.percentile(deviation, 90)]

    def lags(
        self, offset: float, drift: float, reach: float, highest: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the windows, and by how much each is later than the line, float64 [n] s.

        Windows outside the recording are left out. reach: s. highest: Hz.
        """
        margin = round(reach * SAMPLE_RATE)
        middles, lags = [], []
        for start in self.starts:
            # The recording around the window on the camera's clock; a spline is enough for a lag.
            time = np.arange(start - margin, start + self.length + margin + 1)
            place = offset * SAMPLE_RATE + (1 + drift) * time
            first, last = int(np.floor(place[0])), int(np.ceil(place[-1]))
            if first < 0 or last >= len(self.recording):
                continue
            part = self.recording[first : last + 1]
            if not part.any():
                continue
            around = ndimage.map_coordinates(part, [place - first], order=3, mode="nearest")
            lag = _lag(self.camera[start : start + self.length], around, highest) - margin
            middles.append((start + self.length / 2) / SAMPLE_RATE)
            lags.append(lag / SAMPLE_RATE)
        return np.array(middles), np.array(lags)


def _lag(window: np.ndarray, around: np.ndarray, highest: float) -> float:
    """Place of a window [n] in the samples [m] around it, m > n: samples, and parts of them.

    Both spectra are whitened, up to `highest` Hz, so that the direct sound has one narrow peak
    between echoes. A microphone of inverted polarity has a negative one.
    """
    size = fft.next_fast_len(len(window) + len(around), real=True)
    taper = np.hanning(len(window)).astype(np.float32)
    product = np.conj(fft.rfft(window * taper, size)) * fft.rfft(around, size)
    frequencies = fft.rfftfreq(size, 1 / SAMPLE_RATE)

    # Soft edges of the band: sharp ones ring.
    low = np.clip((frequencies - LOWEST) / LOWEST, 0, 1)
    high = np.clip((highest - frequencies) / (0.3 * highest), 0, 1)
    power = np.abs(product)
    product *= low * high / (power + 1e-3 * power.mean() + 1e-20) ** WHITEN
    correlation = fft.irfft(product, size)[: len(around) - len(window) + 1]

    size_of = np.abs(correlation)
    best = int(size_of.argmax())
    if not 0 < best < len(size_of) - 1:
        return float(best)
    before, top, after = size_of[best - 1 : best + 2]
    return best + float((before - after) / (2 * (before - 2 * top + after) - 1e-20))


def _robust_line(times: np.ndarray, lags: np.ndarray, agree: float) -> tuple[float, float]:
    """Start and slope of the line through most points [n], those beyond `agree` s left out."""
    # The slope and start with most points near it, of lines through pairs of points far apart.
    order = np.argsort(times)
    times, lags = times[order], lags[order]
    far = len(times) // 3
    first, second = np.triu_indices(len(times), max(1, far))
    if len(first) > 4000:
        chosen = np.linspace(0, len(first) - 1, 4000).astype(int)
        first, second = first[chosen], second[chosen]
    slopes = (lags[second] - lags[first]) / (times[second] - times[first])
    allowed = np.abs(slopes) <= 2 * DRIFT_MAX
    if not allowed.any():
        return float(np.median(lags)), 0.0
    slopes, starts = slopes[allowed], (lags[first] - slopes * times[first])[allowed]
    near = np.stack(
        [
            (np.abs(lags - start - slope * times) <= agree).sum()
            for start, slope in zip(starts, slopes, strict=True)
        ]
    )
    slope, start = slopes[near.argmax()], starts[near.argmax()]

    # Least squares through these, repeated as they change.
    for _ in range(5):
        inside = np.abs(lags - start - slope * times) <= agree
        if inside.sum() < 2:
            break
        slope, start = np.polyfit(times[inside], lags[inside], 1)
    return float(start), float(slope)
