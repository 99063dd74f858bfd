"""Reading audio: the audio track of a media file, and decoding of audio bytes in memory."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from being.conventions import SAMPLE_RATE
from being.errors import InputRejected
from being.media.containers import decoded_frames, find_video_stream, open_media
from being.media.resampling import mix_channels
from being.media.video_reading import CLOCK_BACK

# Missing or doubled audio, s, from which on the timestamps are followed.
AUDIO_GAP = 0.04
# Longer jumps of the timestamps, s, are not filled with silence.
AUDIO_GAP_MAX = 3600.0
# Sample rates, Hz, outside of which no audio is recorded.
RATES = (1000, 768_000)
# Hz of audio that a video keeps, at most.
ORIGINAL_RATE_MAX = 48_000
# Channels -> ffmpeg's name of their layout.
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
# Peak, of full scale, under which nothing was recorded in a track.
TRACK_SILENT = 1e-3


class DamagedAudio(Exception):
    """Bytes that are no audio, or that cannot be decoded."""


@dataclass(frozen=True)
class AudioTrack:
    """The audio track of a file, as pieces on the file's clock."""

    # start in s, samples float32 [T] mono in [-1, 1]; in order of time
    pieces: tuple[tuple[float, np.ndarray], ...]
    # Hz
    rate: int
    # what was chosen or repaired on the way to one channel, each a short sentence
    repairs: tuple[str, ...] = ()

    @property
    def stop(self) -> float:
        """Time in s at which the last piece ends."""
        start, samples = self.pieces[-1]
        return start + len(samples) / self.rate

    def samples_from(self, start: float, count: int) -> np.ndarray:
        """`count` samples float32 [count] from the time `start` in s on; zeros between pieces."""
        found = np.zeros(count, np.float32)
        for begin, samples in self.pieces:
            offset = round((begin - start) * self.rate)
            low, high = max(0, offset), min(count, offset + len(samples))
            if low < high:
                found[low:high] = samples[low - offset : high - offset]
        return found


def read_audio(path: Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Audio of a media file as float32 [T] mono in [-1, 1] at `rate` Hz.

    Where the file has a video, sample 0 is at the time of its first frame: earlier audio is cut,
    and zeros stand before later audio. Raises InputRejected when there is no audio track.
    """
    track = read_audio_track(path, rate)
    begin = _first_frame_time(path, track.pieces[0][0])

    # Pieces after a jump of the clock of more than an hour are dropped.
    while len(track.pieces) > 1 and track.stop - begin > AUDIO_GAP_MAX:
        track = AudioTrack(track.pieces[:-1], rate, track.repairs)
    return track.samples_from(begin, max(0, round((track.stop - begin) * rate)))


def read_original_audio(path: Path) -> tuple[np.ndarray, int]:
    """Audio of a media file as it was recorded: float32 [T, C] in [-1, 1], and its rate in Hz.

    On the clock of `read_audio`, of the same track. The rate is at most ORIGINAL_RATE_MAX; more
    than two channels are kept where they have a usual layout (LAYOUTS), else mixed to two. Raises
    InputRejected as `read_audio`.
    """
    number, pieces = _spoken_track(path, SAMPLE_RATE)
    begin = _first_frame_time(path, pieces[0][0])
    with open_media(path) as container:
        stream = container.streams.audio[number]
        rate, channels = min(stream.rate, ORIGINAL_RATE_MAX), stream.layout.nb_channels
    rate = rate if rate >= RATES[0] else SAMPLE_RATE
    pieces = _read_pieces(path, number, rate, LAYOUTS.get(channels, "stereo"))
    while len(pieces) > 1 and pieces[-1][0] - begin > AUDIO_GAP_MAX:
        pieces = pieces[:-1]
    if not pieces:
        raise _undecodable(path)

    start, last = pieces[-1]
    stop = start + last.shape[1] / rate
    found = np.zeros((max(0, round((stop - begin) * rate)), last.shape[0]), np.float32)
    for start, samples in pieces:
        offset = round((start - begin) * rate)
        low, high = max(0, offset), min(len(found), offset + samples.shape[1])
        if low < high:
            found[low:high] = samples[:, low - offset : high - offset].T
    return found, rate


def _first_frame_time(path: Path, default: float) -> float:
    """The time in s of a file's first frame; `default` where it has no video."""
    with open_media(path) as container:
        stream = find_video_stream(container)
        first = next(decoded_frames(container, stream), None) if stream is not None else None
        return default if first is None else float(first.time or 0.0)


def read_audio_track(path: Path, rate: int = SAMPLE_RATE) -> AudioTrack:
    """The audio of a media file, mono at `rate` Hz, on the file's clock: gaps in it stay gaps.

    Of several tracks, the first one that is not silent is taken. Raises InputRejected when there is
    no audio track or nothing of it can be decoded.
    """
    number, pieces = _spoken_track(path, rate)

    # All pieces are mixed together, so that one channel is judged over the whole track.
    wide = max(len(channels) for _, channels in pieces)
    ends = np.cumsum([channels.shape[1] for _, channels in pieces])[:-1]
    broadcast = [np.broadcast_to(channels, (wide, channels.shape[1])) for _, channels in pieces]
    samples, repair = mix_channels(np.concatenate(broadcast, axis=1))

    with open_media(path) as container:
        tracks = len(container.streams.audio)
    repairs = [f"of {tracks} audio tracks number {number + 1} is used"] if tracks > 1 else []
    repairs += [repair] if repair else []
    starts = [start for start, _ in pieces]
    return AudioTrack(
        tuple(zip(starts, np.split(samples, ends), strict=True)), rate, tuple(repairs)
    )


def _spoken_track(path: Path, rate: int) -> tuple[int, list[tuple[float, np.ndarray]]]:
    """Number and pieces (as of `_read_pieces`) of the first audio track that is not silent, else of
    the first. Raises InputRejected as `read_audio_track`.
    """
    with open_media(path) as container:
        tracks = len(container.streams.audio)
    if not tracks:
        raise InputRejected(
            f"{path} has no audio track",
            "the lips move with the speech",
            "Give a file with the person's voice",
        )

    # The first track that is not silent, else the first of all.
    for track in range(tracks):
        pieces = _read_pieces(path, track, rate)
        if any(np.abs(channels).max(initial=0.0) > TRACK_SILENT for _, channels in pieces):
            break
    else:
        track, pieces = 0, pieces if tracks == 1 else _read_pieces(path, 0, rate)
    if not pieces:
        raise _undecodable(path)
    return track, pieces


def _undecodable(path: Path) -> InputRejected:
    return InputRejected(
        f"the audio of {path} cannot be decoded",
        "nothing of it could be read",
        "Export the clip again with AAC audio",
    )


def _read_pieces(
    path: Path, track: int, rate: int, layout: str | None = None
) -> list[tuple[float, np.ndarray]]:
    """Pieces of one audio track: start in s, samples float32 [C, T] at `rate` Hz.

    layout: ffmpeg's name of the channels' layout; None: mono or stereo, as each piece.

    A new piece begins where the format changes, and where timestamps jump.
    """
    pieces: list[tuple[float, list[np.ndarray]]] = []
    resampler = av.AudioResampler("fltp", "mono", rate)
    following, form = 0.0, None

    def add(frame: av.AudioFrame | None) -> None:
        # A damaged frame that the filter refuses is left out.
        with contextlib.suppress(av.error.FFmpegError):
            pieces[-1][1].extend(part.to_ndarray() for part in resampler.resample(frame))

    with open_media(path) as container:
        for frame in decoded_frames(container, container.streams.audio[track]):
            if not RATES[0] <= frame.sample_rate <= RATES[1]:
                continue  # a damaged header; the filter of such a rate takes minutes to make
            start = following if frame.pts is None else float(frame.time)
            last_form, form = form, (frame.sample_rate, frame.layout.name, frame.format.name)
            gap = start - following > AUDIO_GAP
            overlap = AUDIO_GAP < following - start < CLOCK_BACK
            if not pieces or form != last_form or gap or overlap:
                if pieces:
                    add(None)
                own_layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
                resampler = av.AudioResampler("fltp", layout or own_layout, rate)
                # After a clock that was set back, the piece follows the one before.
                pieces.append((start if start > following - CLOCK_BACK else following, []))
                following = pieces[-1][0]
            following += frame.samples / frame.sample_rate
            frame.pts = None
            add(frame)
        if pieces:
            add(None)
    return [
        (start, np.concatenate(parts, axis=1).astype(np.float32))
        for start, parts in pieces
        if parts
    ]


def decode_audio(content: bytes, container_format: str) -> tuple[np.ndarray, int]:
    """Samples float32 [T] mono in [-1, 1] of encoded audio, and their rate in Hz.

    container_format: ffmpeg's name, for instance "mp3". Raises DamagedAudio.
    """
    parts = []
    try:
        with av.open(io.BytesIO(content), format=container_format) as container:
            rate = container.streams.audio[0].rate
            if not RATES[0] <= rate <= RATES[1]:
                raise DamagedAudio(f"it claims {rate} samples a second")
            to_mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
            for frame in container.decode(audio=0):
                parts += [part.to_ndarray().reshape(-1) for part in to_mono.resample(frame)]
    except (av.error.FFmpegError, IndexError) as error:
        raise DamagedAudio(str(error)) from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return np.clip(samples, -1, 1), rate
