"""Inspection of a clip's video track: the frames to use, their crop, and all findings."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being import media
from being.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from being.data.source_video import dataset_frames
from being.errors import InputRejected
from being.face.landmarks import BLENDSHAPES, POINTS, FaceLandmarker
from being.media.resampling import resample
from being.preprocess.inspection import picture_checks as checks
from being.preprocess.inspection.clip_parts import ClipPart, check_parts, cut_at_joins
from being.preprocess.inspection.covered import check_covered, find_covered
from being.preprocess.inspection.crop import face_boxes, head_square
from being.preprocess.inspection.face_region import (
    Region,
    face_change,
    measured_at_face,
    samples_in_region,
    small_region,
)
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.measurements import (
    Advance,
    ClipMeasurements,
    SampledFrame,
    measure_clip,
)
from being.preprocess.inspection.microphone import (
    Recording,
    check_recording,
    read_clip_audio,
)
from being.preprocess.inspection.picture_checks import PICTURE_SIDE
from being.preprocess.inspection.spans import Span, find_spans, largest_framing_group
from being.preprocess.inspection.steadiness import (
    check_camera,
    check_light,
    check_sharpness,
    mean_background,
    same_framing,
)
from being.preprocess.inspection.timing import (
    Timing,
    find_timing,
    nearest_frames,
    repeated_frames,
)

AUDIO_SHORT = 0.2  # s that the picture may go on without audio
OFFSET_SHOWN = 0.01  # s between the starts of picture and audio from which it is reported
RATE_UNIT = 1_000_000  # of the ratio of two sample rates
STRETCH_FRAMES = 25  # shortest stretch of a dataset, frames


@dataclass(frozen=True)
class Lateness:
    """By how much the audio is later than the lips."""

    # s, at the first picture
    seconds: float
    # s more for each second of the clip
    rate: float = 0.0

    def at(self, time: float) -> float:
        """Lateness in s at a time in s from the first picture."""
        return self.seconds + self.rate * time


# (face samples, audio, number of segments) -> lateness, or None where it cannot be measured.
LipOffset = Callable[[FaceSamples, np.ndarray, int], Lateness | None]


@dataclass(frozen=True)
class ClipInspection:
    """The findings about a clip, and how the clip becomes a dataset."""

    info: media.MediaInfo
    # left, top, side, px of the upright source picture
    crop: tuple[int, int, int]
    # px, side of the dataset's square pictures
    size: int
    # int64 [frames], the source frame shown in each frame of the dataset, ascending in a segment
    source_frames: np.ndarray
    # [start, stop) in frames of the dataset, one after the other; breaks lie between them
    segments: tuple[Span, ...]
    # float32 [640 * frames] at 16 kHz: samples from 640 n belong to frame n, across breaks too
    audio: np.ndarray
    findings: tuple[Finding, ...]
    face_samples: FaceSamples
    # where each segment begins in the clip, s from its first picture
    segment_starts: tuple[float, ...]
    # frames of the dataset that show the picture of a neighbour, which it fits better, ascending
    repeated: tuple[int, ...] = ()
    # the separate recording that the audio comes from
    recording: Recording | None = None

    @property
    def frames(self) -> int:
        """Number of frames of the dataset."""
        return len(self.source_frames)

    @property
    def seconds(self) -> float:
        """Length of the dataset, s."""
        return self.frames / FPS

    def decode_frames(self) -> Generator[np.ndarray, None, None]:
        """The dataset's frames uint8 [size, size, 3] RGB in order, decoded again."""
        return dataset_frames(self.info, self.crop, self.size, self.source_frames)


def probe_clip(video: Path, audio: Path | None = None) -> tuple[media.MediaInfo, media.AudioTrack]:
    """Facts of a clip and its audio at 16 kHz: the checks that need no face landmarks.

    audio: a separate recording of the voice. Raises InputRejected: not a video, too short, no
    audio, silent or damaged audio, a recording of another take.
    """
    info = media.probe(video)
    if 0 < info.duration < checks.SECONDS_MIN:
        finding = checks.check_length(info, info.duration, info.duration)
        raise InputRejected(finding.what, fix=finding.fix)
    return info, read_clip_audio(info, audio)[0]


def inspect_picture(
    video: Path,
    landmarker: FaceLandmarker,
    size: int = PICTURE_SIDE,
    lip_offset: LipOffset | None = None,
    advance: Advance | None = None,
    tight: bool = False,
    audio: Path | None = None,
    parts: Sequence[ClipPart] = (),
) -> ClipInspection:
    """The inspection of a clip's picture; after a rejection it may have no frames.

    size: largest side of the dataset's pictures, px. lip_offset(face_samples, audio,
    segments): by how much the audio is later than the lips, or None where that cannot be measured,
    for audio float32 [T] at 16 kHz from the first picture on; the audio is moved by it. advance(n):
    n more frames of the clip have been decoded. tight: crop tightly round the head. audio: a
    separate recording of the voice, used instead of the clip's audio. parts: the clips that the
    video was joined of; each join becomes a cut. Raises InputRejected only when the file has no
    picture.
    """
    video = Path(video)
    info = media.probe(video)
    track = media.AudioTrack(((0.0, np.zeros(1, np.float32)),), SAMPLE_RATE)
    recording, audio_error = None, None
    try:
        track, recording = read_clip_audio(info, audio)
    except InputRejected as error:
        audio_error = error
    measured = measure_clip(info, landmarker, advance)
    if not len(measured.timestamps):  # a damaged file can be probed but not decoded
        raise InputRejected(
            f"{video} holds no decodable picture", fix="Export the video again as H.264 mp4"
        )
    region = small_region(measured)
    if region is not None:
        measured = measured_at_face(measured)
    measured = cut_at_joins(measured, parts)
    breaks = sorted({*measured.cuts, *measured.resized})
    timing = find_timing(measured.timestamps, measured.change, info.fps, breaks)
    return _PictureInspection(
        measured, region, timing, track, recording, audio_error, size, lip_offset, tight, parts
    ).result()


class _PictureInspection:
    """Derives the frames of the dataset and the findings from the measurements."""

    def __init__(
        self,
        measured: ClipMeasurements,
        region: Region | None,
        timing: Timing,
        audio: media.AudioTrack,
        recording: Recording | None,
        audio_error: InputRejected | None,
        size: int,
        lip_offset: LipOffset | None,
        tight: bool,
        parts: Sequence[ClipPart],
    ):
        self.measured, self.timing, self.size, self.tight = measured, timing, size, tight
        self.region, self.parts = region, parts
        self.audio, self.recording, self.audio_error = audio, recording, audio_error
        self.info, self.times = measured.info, timing.times
        self.begin = float(measured.timestamps[0])

        # Samples of frames that are no copies; the scale of their thumbnails over the source.
        samples = [sample for sample in measured.samples if not timing.copies[sample.number]]
        self.face_samples = _face_samples(samples, self.times)
        widths = [sample.thumbnail.shape[1] for sample in samples if sample.thumbnail is not None]
        self.scale = (widths or [1])[0] / self.info.width

        self.covered = find_covered(samples)

        # The stretches to keep, and the samples in them that show a face.
        self.spans = find_spans(measured, self.times, face_change(measured), self.covered.to_cut)
        self.late = Lateness(0.0)
        self._choose_spans(samples)

        # By how much the audio is later than the lips. Moved audio begins and ends elsewhere.
        if lip_offset and not audio_error:
            whole = self._audio_from(0.0, round(self.length * SAMPLE_RATE))
            found = lip_offset(self.face_samples, whole, len(self.kept))
            if found:
                self.late = found
                self._choose_spans(samples)

    def _choose_spans(self, samples: list[SampledFrame]) -> None:
        """Choose the stretches to keep, for the audio where `late` puts it."""
        self.with_audio = self._spans_with_audio()
        self.kept = self._kept_spans()
        self.kept_samples = [
            sample for sample in samples if _inside(sample, self.kept) and _has_face(sample)
        ]

    def _audio_span(self) -> tuple[float, float]:
        """Begin and end of the audio that is moved to the lips, s from the first picture."""
        low, high = self.audio.pieces[0][0] - self.begin, self.audio.stop - self.begin
        return low - self.late.at(low), high - self.late.at(high)

    @property
    def length(self) -> float:
        """Length of the picture, s."""
        return float(self.times[-1]) + 1 / self.timing.rate

    def result(self) -> ClipInspection:
        """The inspection: the frames, their audio, and the findings."""
        source_frames, repeated, starts, segments, timing_error = self._choose_frames()
        crop, side = self._crop()
        kept = len(source_frames) / FPS
        findings = self._findings(crop, side, kept, timing_error, len(repeated))

        # The audio of each segment, moved to the lips.
        pieces = [
            self._audio_of_picture(start, (stop - first) * SAMPLES_PER_FRAME)
            for start, (first, stop) in zip(starts, segments, strict=True)
        ]
        audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return ClipInspection(
            self.info,
            crop,
            side,
            source_frames,
            tuple(segments),
            audio,
            tuple(findings),
            self.face_samples,
            tuple(starts),
            tuple(repeated),
            self.recording,
        )

    def _findings(
        self, crop: tuple[int, int, int], side: int, kept: float, timing_error: float, repeats: int
    ) -> list[Finding]:
        """All findings. crop, side: as `_crop` gives them. kept, timing_error: s.

        repeats: frames of the dataset that show the frame before again.
        """
        measured, spans, times = self.measured, self.spans, self.times
        findings = [
            *check_parts(self.parts, self.with_audio, self.kept, self.measured.samples),
            checks.check_file(self.info),
            checks.check_length(self.info, self.length, kept),
            self._check_audio_track(),
            *([check_recording(self.recording)] if self.recording else []),
            checks.check_rate(self.timing, timing_error, repeats),
            *checks.check_faces(self.info, measured.samples, spans, times, kept),
            check_covered(self.covered, checks.time_ranges(spans.covered, times)),
            checks.check_picture(spans, measured, times),
            *checks.check_cuts(measured, self.with_audio, self.kept, times),
        ]
        if self.kept_samples:
            points = np.stack([sample.points for sample in self.kept_samples])
            findings += checks.check_face_size(self.info, points, crop, side, self.size)
            findings += self._check_steadiness()

        # Too little is left, and no other check has rejected the clip.
        rejected = any(finding.level == "rejection" for finding in findings)
        if kept < checks.SECONDS_MIN and not rejected:
            findings.append(
                Finding(
                    "length",
                    "rejection",
                    f"only {kept:.1f} s of {self.info.path} can be used, at least "
                    f"{checks.SECONDS_MIN:.0f} s are needed",
                    (),
                    "Record one person in one shot",
                )
            )
        return findings

    def _crop(self) -> tuple[tuple[int, int, int], int]:
        """The crop (left, top, side, px of the source) and the side of the dataset's pictures, px.

        The side is even, never larger than the crop; 0 without a face.
        """
        width, height = self.info.width, self.info.height
        if not self.kept_samples:
            return (0, 0, min(width, height)), 0
        points = np.stack([sample.points for sample in self.kept_samples])
        left, top, crop_side = head_square(width, height, face_boxes(points), self.tight)
        side = min(crop_side, self.size) // 2 * 2
        if crop_side <= self.size:  # the picture is not scaled
            crop_side = side
        return (left, top, crop_side), side

    def _spans_with_audio(self) -> list[Span]:
        """The usable stretches, cut to where the audio is."""
        # Source frames with audio; all of them where there is none, which is rejected anyway.
        low, high = self._audio_span()
        has_audio = (self.times >= low - AUDIO_SHORT) & (self.times <= high + AUDIO_SHORT)
        inside = np.flatnonzero(has_audio)
        first, last = 0, len(self.times)
        if len(inside) and not self.audio_error:
            first, last = int(inside[0]), int(inside[-1]) + 1
        usable = [(max(a, first), min(b, last)) for a, b in self.spans.usable]
        return [(a, b) for a, b in usable if b - a > 1]

    def _kept_spans(self) -> list[Span]:
        """The stretches with audio that have the framing that lasts longest."""
        # Stretches whose background was seen, grouped by framing.
        spans, backgrounds = [], []
        for span in self.with_audio:
            samples = [
                sample
                for sample in self.measured.samples
                if _inside(sample, [span]) and sample.thumbnail is not None and _has_face(sample)
            ]
            if samples:
                spans.append(span)
                backgrounds.append(mean_background(self._seen(samples), self.scale))
        group = largest_framing_group(
            spans, lambda i, j: same_framing(backgrounds[i], backgrounds[j])
        )
        return [spans[i] for i in group]

    def _choose_frames(
        self,
    ) -> tuple[np.ndarray, list[int], list[float], list[Span], float]:
        """Source frames int64 [F], repeated frames, start of each segment in s, segments, worst
        timing error in s.

        The segments are [start, stop) in frames of the dataset.
        """
        frames: list[np.ndarray] = []
        repeated: list[int] = []
        starts: list[float] = []
        segments: list[Span] = []
        worst, count = 0.0, 0
        for start, stop in self.kept:
            true = np.flatnonzero(~self.timing.copies[start:stop]) + start
            if not len(true):
                continue
            chosen, error = nearest_frames(self.times[true])
            if len(chosen) < STRETCH_FRAMES:
                continue
            repeated += (count + repeated_frames(self.times[true], chosen)).tolist()
            frames.append(true[chosen])
            starts.append(float(self.times[true[0]]))
            segments.append((count, count + len(chosen)))
            count += len(chosen)
            worst = max(worst, error)
        joined = np.concatenate(frames) if frames else np.zeros(0, np.int64)
        return joined, repeated, starts, segments, worst

    def _check_steadiness(self) -> list[Finding]:
        """The findings "camera", "light" and "sharpness", where thumbnails were kept."""
        samples = self._seen([s for s in self.kept_samples if s.thumbnail is not None])
        if not samples:
            return []
        still = mean_background(samples, self.scale)
        frames = np.concatenate([np.arange(a, b) for a, b in self.kept])
        light_change = self.measured.light_change[frames[~self.timing.copies[frames]]]
        return [
            check_camera(samples, still, self.scale, self.times),
            check_light(samples, still, self.scale, light_change, self.times),
            check_sharpness(self.kept_samples, self.times),
        ]

    def _seen(self, samples: list[SampledFrame]) -> list[SampledFrame]:
        """The samples as background and light are judged: in the region, where there is one."""
        if self.region is None:
            return samples
        return samples_in_region(samples, self.region, self.scale)

    def _audio_from(self, start: float, count: int) -> np.ndarray:
        return self.audio.samples_from(self.begin + start, count)

    def _audio_of_picture(self, start: float, count: int) -> np.ndarray:
        """`count` samples of the audio that belongs to the picture from `start` on, in s."""
        late = self.late
        if not late.rate:
            return self._audio_from(start + late.at(start), count)

        # The audio of as much picture is longer or shorter.
        length = round(count * (1 + late.rate))
        samples = self._audio_from(start + late.at(start), length)
        rates = round(RATE_UNIT * (1 + late.rate)), RATE_UNIT
        stretched = resample(samples, *rates)[:count]
        return np.pad(stretched, (0, count - len(stretched)))

    def _check_audio_track(self) -> Finding:
        """The finding "audio track": codec, repairs, its place in time against the picture."""
        if self.audio_error:
            why = f": {self.audio_error.why}" if self.audio_error.why else ""
            return Finding(
                "audio track",
                "rejection",
                f"{self.audio_error.what}{why}",
                (),
                self.audio_error.fix,
            )
        facts = [f"{self.info.audio_codec}, {self.info.audio_rate} Hz", *self.audio.repairs]
        fixes, cut = [], []
        low, high = self._audio_span()

        # Picture and audio start at different times.
        lead = self.begin - self.audio.pieces[0][0]
        if lead > OFFSET_SHOWN:
            facts.append(f"the picture starts {1e3 * lead:.0f} ms after the audio")
            fixes.append("the audio is cut to the picture's start")
        elif lead < -OFFSET_SHOWN:
            facts.append(f"the picture starts {-1e3 * lead:.0f} ms before the audio")
        if low > AUDIO_SHORT:
            cut.append((0.0, round(low, 3)))
            fixes.append("the picture before the audio is cut away")
        elif lead < -OFFSET_SHOWN:
            fixes.append("silence is put before the audio")

        # The audio is moved to the lips.
        if self.late.rate:
            speed = "slow" if self.late.rate > 0 else "fast"
            facts.append(f"{abs(self.late.rate):.2%} {speed} against the lips")
            fixes.append("it is stretched to the lips")
        elif self.late.seconds:
            side = "after" if self.late.seconds > 0 else "before"
            facts.append(f"{abs(1e3 * self.late.seconds):.0f} ms {side} the lips")
            fixes.append("it is shifted to the lips")

        # The audio ends early.
        short = self.length - high
        if short > AUDIO_SHORT:
            facts.append(f"the audio ends {short:.1f} s before the picture")
            cut.append((round(self.length - short, 3), round(self.length, 3)))
            fixes.append("the picture after the audio is cut away")
        return Finding(
            "audio track",
            "warning" if cut else "ok",
            "; ".join(facts),
            tuple(cut),
            "; ".join(fixes),
        )


def _face_samples(samples: list[SampledFrame], times: np.ndarray) -> FaceSamples:
    points = np.zeros((len(samples), POINTS, 3), np.float32)
    blendshapes = np.zeros((len(samples), BLENDSHAPES), np.float32)
    for i, sample in enumerate(samples):
        points[i], blendshapes[i] = sample.points, sample.blendshapes
    numbers = [sample.number for sample in samples]
    face_counts = np.array([sample.face_count for sample in samples], int)
    return FaceSamples(times[numbers], points, blendshapes, face_counts)


def _has_face(sample: SampledFrame) -> bool:
    return not np.isnan(sample.points[0, 0])


def _inside(sample: SampledFrame, spans: list[Span]) -> bool:
    return any(start <= sample.number < stop for start, stop in spans)
