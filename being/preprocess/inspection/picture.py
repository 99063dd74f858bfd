"""A look at a clip's picture before any long work: what will not do is said, what can be mended is
mended and said.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being import media
from being.conventions import FPS, SAMPLE_RATE
from being.errors import InputRejected
from being.face.landmarks import BLENDSHAPES, POINTS, FaceLandmarker
from being.preprocess.inspection import picture_checks as checks
from being.preprocess.inspection.crop import face_boxes, square_round_head
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.picture_checks import PICTURE_SIDE
from being.preprocess.inspection.scan import Advance, Scan, View, scan
from being.preprocess.inspection.spans import Span, find_spans, same_framing
from being.preprocess.inspection.steadiness import backdrop, same_frame
from being.preprocess.inspection.timing import Timing, choose_frames, find_timing

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
SILENCE_PEAK = 1e-3
SOUND_SHORT = 0.2  # s the picture may go on without sound
OFFSET_SAID = 0.01  # s between the starts of picture and sound that is worth a word
STRETCH_FRAMES = 25  # shortest stretch of a dataset, frames

LipOffset = Callable[[Look, np.ndarray], float | None]


@dataclass(frozen=True)
class Preflight:
    """What was found, and how the clip becomes a dataset."""

    info: media.MediaInfo
    crop: tuple[int, int, int]  # left, top, side, px of the upright source picture
    size: int  # px, side of the dataset's square pictures
    sources: (
        np.ndarray
    )  # int64 [frames], the source frame shown in each frame of the dataset, rising in each segment
    segments: tuple[
        Span, ...
    ]  # [start, stop) in frames of the dataset, one after the other; breaks lie between them
    sound: (
        np.ndarray
    )  # float32 [640 * frames] at 16 kHz: samples 640 n.. belong to frame n, across breaks too
    findings: tuple[Finding, ...]
    look: Look
    starts: tuple[float, ...]  # where each segment begins in the clip, s from its first picture

    @property
    def frames(self) -> int:
        """Frames of the dataset."""
        return len(self.sources)

    @property
    def seconds(self) -> float:
        """Length of the dataset."""
        return self.frames / FPS

    def pictures(self) -> Generator[np.ndarray, None, None]:
        """The dataset's pictures uint8 [size, size, 3] RGB in order, decoded anew."""
        return dataset_pictures(self.info, self.crop, self.size, self.sources)


def dataset_pictures(
    info: media.MediaInfo, crop: tuple[int, int, int], size: int, sources: np.ndarray
) -> Generator[np.ndarray, None, None]:
    """The pictures uint8 [size, size, 3] RGB of the frames `sources` (int64 [F], rising in each
    segment) of a clip, cut to `crop`."""
    left, top, side = crop
    scale = size / side
    width, height = round(info.width * scale), round(info.height * scale)
    x, y = min(round(left * scale), width - size), min(round(top * scale), height - size)
    following = 0
    for number, (_, frame) in enumerate(media.read_timed(info.path)):
        if following == len(sources):
            return
        if sources[following] == number:
            whole = media.picture(frame, width, height)
            shown = np.ascontiguousarray(whole[y : y + size, x : x + size])
            while following < len(sources) and sources[following] == number:
                yield shown
                following += 1


def picture_and_sound(video: Path) -> tuple[media.MediaInfo, media.Sound]:
    """Facts of a clip and its sound at 16 kHz: what can be refused without looking for a face.

    Raises InputRejected with the reason: not a video, too short, no sound, silent or damaged sound.
    """
    info = media.probe(video)
    if 0 < info.duration < checks.SECONDS_MIN:
        raise _refusal(checks.check_length(info, info.duration, info.duration))
    return info, _sound(video)


def inspect(
    video: Path,
    landmarker: FaceLandmarker,
    size: int = PICTURE_SIDE,
    lip_offset: LipOffset | None = None,
    advance: Advance | None = None,
) -> Preflight:
    """All findings about a clip, rejections among them; with a rejection there may be no frames.

    size: largest side of the dataset's pictures, px. lip_offset(look, sound): by how many seconds
    the sound is later than the lips, or None where that cannot be told, for sound float32 [T] at 16
    kHz from the first picture on; the sound is shifted by it. advance(n): n more frames of the clip
    have been seen. Raises InputRejected only when the file holds no picture at all.
    """
    video = Path(video)
    info = media.probe(video)
    try:
        sound, silent = _sound(video), None
    except InputRejected as refusal:
        sound, silent = media.Sound(((0.0, np.zeros(1, np.float32)),), SAMPLE_RATE), refusal
    seen = scan(info, landmarker, advance)
    if not len(seen.stamps):  # only now and then decodable
        raise InputRejected(
            f"{video} holds no decodable picture", fix="Export the video again as H.264 mp4"
        )
    timing = find_timing(seen.stamps, seen.change, info.fps, sorted({*seen.cuts, *seen.resized}))
    return _Inspection(seen, timing, sound, silent, size, lip_offset).result()


class _Inspection:
    """From what was seen to a dataset's frames and the findings."""

    def __init__(
        self,
        seen: Scan,
        timing: Timing,
        sound: media.Sound,
        silent: InputRejected | None,
        size: int,
        lip_offset: LipOffset | None,
    ):
        self.seen, self.timing, self.sound, self.silent, self.size = (
            seen,
            timing,
            sound,
            silent,
            size,
        )
        self.info, self.times, self.begin = seen.info, timing.times, float(seen.stamps[0])
        views = [view for view in seen.views if not timing.copies[view.frame]]
        self.look = _look(views, self.times)
        self.scale = (
            next((view.small.shape[1] for view in views if view.small is not None), 1)
            / self.info.width
        )
        self.spans = find_spans(seen, self.times)
        self.kept = self._kept()
        self.views = [
            view for view in views if _inside(view, self.kept) and not np.isnan(view.points[0, 0])
        ]
        self.late = (
            lip_offset(self.look, self._sound_from(0.0, round(self.length * SAMPLE_RATE)))
            if (lip_offset and not silent)
            else None
        )

    @property
    def length(self) -> float:
        """Length of the picture, s."""
        return float(self.times[-1]) + 1 / self.timing.rate

    def result(self) -> Preflight:
        sources, starts, segments, worst = self._frames()
        kept, found = len(sources) / FPS, list[Finding]()
        found += [
            checks.check_file(self.info),
            checks.check_length(self.info, self.length, kept),
            self._sound_finding(),
            checks.check_rate(self.timing, worst),
            *checks.check_faces(self.info, self.seen.views, self.spans, self.times, kept),
            checks.check_picture(self.spans, self.seen, self.times),
            *checks.check_cuts(self.seen, self.spans, self.kept, self.times),
        ]
        crop, side = (0, 0, min(self.info.width, self.info.height)), 0
        if self.views:
            points = np.stack([view.points for view in self.views])
            crop = square_round_head(self.info.width, self.info.height, face_boxes(points))
            side = min(crop[2], self.size) // 2 * 2
            crop = (*crop[:2], side) if crop[2] <= self.size else crop
            found += checks.check_face_size(self.info, points, crop, side, self.size)
            found += self._steadiness()
        if kept < checks.SECONDS_MIN and not any(finding.level == "rejection" for finding in found):
            found.append(
                Finding(
                    "length",
                    "rejection",
                    f"only {kept:.1f} s of {self.info.path} can be used, at least "
                    f"{checks.SECONDS_MIN:.0f} s are needed",
                    (),
                    "Record one person in one shot",
                )
            )
        pieces = [
            self._sound_from(start + (self.late or 0.0), (stop - first) * SAMPLES_PER_FRAME)
            for start, (first, stop) in zip(starts, segments, strict=True)
        ]
        heard = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return Preflight(
            self.info,
            crop,
            side,
            sources,
            tuple(segments),
            heard,
            tuple(found),
            self.look,
            tuple(starts),
        )

    def _kept(self) -> list[Span]:
        """The usable stretches with the framing that lasts longest, cut where the sound is."""
        low, high = self.sound.pieces[0][0] - self.begin, self.sound.stop - self.begin
        inside = np.flatnonzero(
            (self.times >= low - SOUND_SHORT) & (self.times <= high + SOUND_SHORT)
        )
        bounds = (
            (0, len(self.times))
            if self.silent or not len(inside)
            else (int(inside[0]), int(inside[-1]) + 1)
        )
        usable = [(max(a, bounds[0]), min(b, bounds[1])) for a, b in self.spans.usable]
        usable = [(a, b) for a, b in usable if b - a > 1]
        samples = [
            [
                view
                for view in self.seen.views
                if a <= view.frame < b
                and view.small is not None
                and not np.isnan(view.points[0, 0])
            ]
            for a, b in usable
        ]
        told = [i for i, views in enumerate(samples) if views]
        behind = {i: backdrop(samples[i], self.scale) for i in told}
        group = same_framing(
            [usable[i] for i in told], lambda i, j: same_frame(behind[told[i]], behind[told[j]])
        )
        return [usable[told[i]] for i in group]

    def _frames(self) -> tuple[np.ndarray, list[float], list[Span], float]:
        """Source frames, start of each segment in s, segments in frames of the dataset, worst
        timing error in s.
        """
        sources, starts, segments, worst, count = (
            list[np.ndarray](),
            list[float](),
            list[Span](),
            0.0,
            0,
        )
        for start, stop in self.kept:
            true = np.flatnonzero(~self.timing.copies[start:stop]) + start
            if not len(true):
                continue
            chosen, error = choose_frames(self.times[true])
            if len(chosen) >= STRETCH_FRAMES:
                sources.append(true[chosen])
                starts.append(float(self.times[true[0]]))
                segments.append((count, count + len(chosen)))
                count, worst = count + len(chosen), max(worst, error)
        return (
            np.concatenate(sources) if sources else np.zeros(0, np.int64),
            starts,
            segments,
            worst,
        )

    def _steadiness(self) -> list[Finding]:
        samples = [view for view in self.views if view.small is not None]
        if not samples:
            return []
        still = backdrop(samples, self.scale)
        frames = np.concatenate([np.arange(a, b) for a, b in self.kept])
        drift = self.seen.drift[frames[~self.timing.copies[frames]]]
        return [
            checks.check_camera(samples, still, self.scale, self.times),
            checks.check_light(samples, still, self.scale, drift, self.times),
            checks.check_sharpness(self.views, self.times),
        ]

    def _sound_from(self, start: float, count: int) -> np.ndarray:
        return self.sound.between(self.begin + start, count)

    def _sound_finding(self) -> Finding:
        if self.silent:
            why = f": {self.silent.why}" if self.silent.why else ""
            return Finding(
                "sound track", "rejection", f"{self.silent.what}{why}", (), self.silent.fix
            )
        lead, fixes = self.begin - self.sound.pieces[0][0], []
        what = "; ".join(
            (f"{self.info.audio_codec}, {self.info.audio_rate} Hz", *self.sound.mended)
        )
        if abs(lead) > OFFSET_SAID:
            what += f"; the picture starts {abs(1e3 * lead):.0f} ms {'after' if lead > 0 else 'before'} the sound"
            fixes.append(
                "the sound is cut to the picture's start"
                if lead > 0
                else "silence is put before the sound"
            )
        if self.late:
            what += (
                f"; {abs(1e3 * self.late):.0f} ms {'after' if self.late > 0 else 'before'} the lips"
            )
            fixes.append("it is shifted to the lips")
        short = self.length - (self.sound.stop - self.begin)
        if short > SOUND_SHORT:
            return Finding(
                "sound track",
                "warning",
                f"{what}; it ends {short:.1f} s before the picture",
                ((round(self.length - short, 3), round(self.length, 3)),),
                "the rest is cut away",
            )
        return Finding("sound track", "ok", what, (), "; ".join(fixes))


def _sound(video: Path) -> media.Sound:
    """The clip's sound. Raises InputRejected when there is none, or nothing can be heard in it."""
    sound = media.read_sound(video)
    if not all(np.isfinite(samples).all() for _, samples in sound.pieces):
        raise InputRejected(
            f"the sound of {video} holds samples that are not numbers", fix="Export the clip again"
        )
    if max(np.abs(samples).max(initial=0.0) for _, samples in sound.pieces) < SILENCE_PEAK:
        raise InputRejected(
            f"the sound of {video} is silent",
            "speech is what moves the lips",
            "Give a clip in which the person is heard",
        )
    return sound


def _look(views: list[View], times: np.ndarray) -> Look:
    points = (
        np.stack([view.points for view in views]) if views else np.zeros((0, POINTS, 3), np.float32)
    )
    shapes = (
        np.stack([view.blendshapes for view in views])
        if views
        else np.zeros((0, BLENDSHAPES), np.float32)
    )
    return Look(
        times[[view.frame for view in views]],
        points,
        shapes,
        np.array([view.faces for view in views], int),
    )


def _inside(view: View, spans: list[Span]) -> bool:
    return any(start <= view.frame < stop for start, stop in spans)


def _refusal(finding: Finding) -> InputRejected:
    return InputRejected(finding.what, fix=finding.fix)
