"""Checks of a clip's file, length, frame rate, picture, faces, framing and cuts."""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.media import MediaInfo
from being.preprocess.inspection.crop import face_boxes, hair_cut_off
from being.preprocess.inspection.findings import OFTEN, SELDOM, Finding, TimeRanges
from being.preprocess.inspection.measurements import ClipMeasurements, SampledFrame
from being.preprocess.inspection.spans import Span, Spans
from being.preprocess.inspection.timing import Timing

SECONDS_MIN = 2.0
LONG_SECONDS = 600.0  # a longer clip hardly helps and takes long
WORK_PER_FRAME = 0.1  # s of two cores that a frame takes to preprocess
ENDS_EARLY = 0.95  # decoded length over the header's
ERROR_MAX = 0.0205  # s, timing error from which it is a warning: more than half a frame
SLOW_RATE = 20.0  # frames/s under which lips move in steps
PICTURE_SIDE = 512  # px, largest side of a dataset's pictures unless another is chosen
# px, brow to chin, in pictures of PICTURE_SIDE; less where smaller pictures are chosen.
FACE_SIDE_MIN = 64
FACE_SIDE_GOOD = 128
OUTSIDE = 0.05  # of the face's size: a face further over the picture's edge is cut off
STILL_SHARE = 0.9  # of the frames without motion, from which the clip is a still picture
FACE_SHARE = 0.9  # of the inspected frames that show a face, where too little can be used


def check_file(info: MediaInfo) -> Finding:
    """Container, codec, size, rotation, pixel shape, transparency, colour range."""
    container = info.container.split(",")[0]
    facts = [f"{info.codec} in {container}", f"{info.width}x{info.height}", info.pixels]
    fixes = []
    if info.rotation % 360:
        facts.append(f"stored turned by {info.rotation} degrees")
        fixes.append("it is turned upright")
    if abs(info.aspect - 1) > 0.01:
        facts.append(f"pixels {info.aspect:.2f} times as wide as high")
        fixes.append("pixels are made square")
    if info.alpha:
        facts.append("with transparency")
        ignored = info.codec in ("vp8", "vp9")
        fixes.append("transparency is ignored" if ignored else "transparent parts are laid on grey")
    if info.hdr:
        facts.append(f"in high dynamic range ({info.hdr})")
        fixes.append("it is brought to standard range (SDR, BT.709)")
    what = ", ".join(facts)
    if info.interlaced:
        return Finding(
            "file",
            "warning",
            f"{what}, interlaced: moving edges are combed",
            (),
            "Deinterlace it first, for instance with: ffmpeg -i IN -vf bwdif OUT.mp4",
        )
    return Finding("file", "ok", what, (), "; ".join(fixes))


def check_length(info: MediaInfo, seconds: float, kept: float) -> Finding:
    """Length of the clip and of what is kept of it, s."""
    what = f"{seconds:.1f} s, {kept:.1f} s of it usable"
    if seconds < SECONDS_MIN:
        return Finding(
            "length",
            "rejection",
            f"{info.path} is too short: {seconds:.1f} s, at least {SECONDS_MIN:.0f} s are needed",
            (),
            "Record half a minute or more of speech",
        )
    if seconds < ENDS_EARLY * info.duration:
        return Finding(
            "length",
            "warning",
            f"the file ends early: {seconds:.1f} s of {info.duration:.1f} s can be read",
            ((seconds, info.duration),),
            "Copy or export the clip again if there was more of it",
        )
    if kept > LONG_SECONDS:
        minutes = kept * FPS * WORK_PER_FRAME / 60
        return Finding(
            "length",
            "warning",
            f"{what}: preprocessing will take about {minutes:.0f} min on two cores",
            (),
            "Two to five minutes of varied speech are enough: cut the clip to its best part",
        )
    return Finding("length", "ok", what)


def check_rate(timing: Timing, timing_error: float, repeats: int) -> Finding:
    """True frame rate, and how the frames were brought to 25 frames/s.

    timing_error: worst difference of a frame's time to its place in the dataset, s. repeats: frames
    of the dataset that show the frame before again, because the clip has too few.
    """
    error = f"worst timing error {1e3 * timing_error:.0f} ms"
    if timing.counted:
        return Finding(
            "frame rate",
            "warning",
            "the timestamps of the frames are useless",
            (),
            f"frames are counted at {timing.rate:.3g} frames/s; "
            "check that lips and audio are in sync",
        )

    # A constant rate, or a variable one.
    what, fixes = f"{timing.rate:.4g} frames/s", []
    if timing.variable:
        what = f"variable frame rate, {what} on average"
        fixes = ["resampled to 25 frames/s by timestamps"]
    elif abs(timing.rate - FPS) >= 0.01:
        fixes = ["the frames nearest to 25 frames/s are taken"]

    # Copies that a change of rate left, or lost frames.
    copies = int(timing.copies.sum())
    if copies:
        average = "" if timing.pattern or timing.variable else " on average"
        what += f"{average} in a container of {timing.container_rate:.4g}: "
        what += f"{copies} frames are copies of the frame before"
        what += "" if timing.pattern else ", at no regular cadence"
        fixes.insert(0, "copies are dropped")
    fix = f"{'; '.join(fixes)}, {error}" if fixes else ""

    if timing.rate < SLOW_RATE:
        return Finding(
            "frame rate",
            "warning",
            f"{what}: lips will move in steps",
            (),
            f"{fix}. Record at 25 frames/s or more, with more light",
        )
    if copies and not timing.pattern and timing_error > ERROR_MAX:
        return Finding(
            "frame rate",
            "warning",
            f"{what}: motion will judder",
            (),
            f"{fix}; {repeats} frames of the dataset show the one before again. "
            "Use the original recording: its frame rate was changed, or frames were lost",
        )
    return Finding("frame rate", "warning" if timing_error > ERROR_MAX else "ok", what, (), fix)


def check_picture(spans: Spans, measured: ClipMeasurements, times: np.ndarray) -> Finding:
    """Black frames, a picture that stops, gaps in time, a change of size."""
    stopped = sum(stop - start for start, stop in spans.still)
    if stopped > STILL_SHARE * len(times):
        return Finding(
            "picture",
            "rejection",
            f"the picture of {measured.info.path} does not move",
            (),
            "Give a video of a person who speaks, not a still picture",
        )
    faults = [
        (f"{len(spans.black)} black stretches", spans.black),
        ("the picture stops", spans.still),
        ("frames are missing", [(at - 1, at + 1) for at in spans.gaps]),
        ("the size changes", [(at, at + 1) for at in measured.resized]),
    ]
    present = [(name, where) for name, where in faults if where]
    if not present:
        return Finding("picture", "ok", "no black, frozen or missing frames")
    where = sorted(span for _, spans_of_fault in present for span in spans_of_fault)
    return Finding(
        "picture",
        "warning",
        ", ".join(name for name, _ in present),
        time_ranges(where, times),
        "these parts are cut away",
    )


def check_faces(
    info: MediaInfo, samples: list[SampledFrame], spans: Spans, times: np.ndarray, kept: float
) -> list[Finding]:
    """Whether one face is there throughout: "face" and "people". kept: usable seconds."""
    counted = [sample for sample in samples if sample.face_count >= 0]
    shown = sum(not np.isnan(sample.points[0, 0]) for sample in counted)
    if not shown:
        return [
            Finding(
                "face",
                "rejection",
                f"no face was found in {info.path}",
                (),
                "Record one person who looks at the camera, with the whole head in the picture",
            )
        ]
    second = sum(sample.second_face is not None for sample in counted)
    return [
        _check_one_face(info, shown, len(counted), spans, times, kept),
        _check_people(info, second, len(counted), spans, times, kept),
    ]


def _check_one_face(
    info: MediaInfo, shown: int, count: int, spans: Spans, times: np.ndarray, kept: float
) -> Finding:
    """The finding "face", for `shown` of `count` inspected frames that show one."""
    share = f"{shown} of {count} inspected frames show a face"
    where, lost = time_ranges(spans.faceless, times), _total_seconds(spans.faceless, times)
    if kept < SECONDS_MIN and shown < FACE_SHARE * count:
        return Finding(
            "face",
            "rejection",
            f"{info.path} shows a face only part of the time: {share}",
            where,
            "Record one person who looks at the camera, with the whole head in the picture",
        )
    if where:
        what = f"{share}; {lost:.1f} s without one"
        return Finding("face", "warning", what, where, "these parts are cut away")
    return Finding("face", "ok", share)


def _check_people(
    info: MediaInfo, second: int, count: int, spans: Spans, times: np.ndarray, kept: float
) -> Finding:
    """The finding "people", for `second` of `count` inspected frames that show a second face."""
    where = time_ranges(spans.second_person, times)
    if second > OFTEN * count or (where and kept < SECONDS_MIN):
        return Finding(
            "people",
            "rejection",
            f"{info.path} shows several faces: in {second} of {count} inspected frames",
            where,
            "Crop the video to one person",
        )
    if where:
        what = f"a second person for {_total_seconds(spans.second_person, times):.1f} s"
        return Finding("people", "warning", what, where, "these parts are cut away")
    return Finding("people", "ok", "one person")


def check_face_size(
    info: MediaInfo, points: np.ndarray, crop: tuple[int, int, int], size: int, size_limit: int
) -> list[Finding]:
    """Size of the face in the dataset's pictures, and its place in the picture.

    points: [n, 478, 3] px of the kept samples. crop: left, top, side, px. size: side of the
    dataset's pictures, px; size_limit: the largest side that was allowed.
    """
    boxes = face_boxes(points)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    return [
        _check_size(info, face, crop, size, size_limit),
        _check_position(info, boxes, face, crop),
    ]


def _check_size(
    info: MediaInfo, face: float, crop: tuple[int, int, int], size: int, size_limit: int
) -> Finding:
    """The finding "face size", for a face of `face` px in the source."""
    final = face * size / crop[2]
    share = min(1.0, size_limit / PICTURE_SIDE)
    what = f"a face of {final:.0f} px in pictures of {size}x{size}"
    if final < FACE_SIDE_MIN * share:
        return Finding(
            "face size",
            "rejection",
            f"the face in {info.path} is too small: about {face:.0f} px in a "
            f"picture of {info.width}x{info.height}, at least {FACE_SIDE_MIN} px are needed",
            (),
            "Record closer, or at a higher resolution",
        )
    if final < FACE_SIDE_GOOD * share:
        what = f"{what}: lips and eyes will be coarse"
        return Finding("face size", "warning", what, (), "Record closer")
    left, top, side = crop
    whole = (side, side) == (info.width, info.height)
    fix = "" if whole else f"cropped to a square of {side} px at {left}, {top}"
    return Finding("face size", "ok", what, (), fix)


def _check_position(
    info: MediaInfo, boxes: np.ndarray, face: float, crop: tuple[int, int, int]
) -> Finding:
    """The finding "head in the picture", for face boxes [n, 4] px."""
    beyond = np.maximum(-boxes[:, :2], boxes[:, 2:] - [info.width, info.height])
    outside = float((beyond.max(1) > OUTSIDE * face).mean())
    if outside > OFTEN:
        return Finding(
            "head in the picture",
            "rejection",
            f"the face in {info.path} is cut off by the edge of the picture",
            (),
            "Record with the whole head in the picture",
        )
    if outside > SELDOM:
        return Finding(
            "head in the picture",
            "warning",
            f"the face leaves the picture in {outside:.0%} of the inspected frames",
            (),
            "Record with more space around the head",
        )
    if hair_cut_off(boxes, crop[1]).mean() > OFTEN:
        return Finding(
            "head in the picture",
            "warning",
            "the top of the head is cut off",
            (),
            "The avatar's hair will end at the picture's edge: "
            "record with more space above the head",
        )
    return Finding("head in the picture", "ok", "the whole head is in the picture")


def check_cuts(
    measured: ClipMeasurements, usable: list[Span], kept: list[Span], times: np.ndarray
) -> list[Finding]:
    """The findings "cuts" and "framing": the cuts, and stretches dropped for another framing.

    usable: the stretches that could be used but for their framing; kept: those of them that are.
    """
    cuts = Finding("cuts", "ok", "no cut")
    if measured.cuts:
        listed = ", ".join(f"{times[at]:.2f} s (frame {at})" for at in measured.cuts)
        cuts = Finding(
            "cuts",
            "ok",
            f"{len(measured.cuts)} cuts: {listed}",
            tuple((times[at], times[at]) for at in measured.cuts),
            "the dataset has breaks there, which no audio window and no head motion crosses",
        )
    dropped = [span for span in usable if span not in kept]
    if not dropped:
        return [cuts, Finding("framing", "ok", "one framing")]
    framing = Finding(
        "framing",
        "warning",
        f"{_total_seconds(dropped, times):.1f} s have another framing",
        time_ranges(dropped, times),
        f"only the {_total_seconds(kept, times):.1f} s of the longest framing are used; "
        "the others can become datasets of their own",
    )
    return [cuts, framing]


def time_ranges(spans: list[Span], times: np.ndarray) -> TimeRanges:
    """Time ranges of stretches of frames, s from the first picture; times: float64 [n] s."""
    end = 2 * times[-1] - times[-2] if len(times) > 1 else times[-1]
    ends = np.append(times, end)
    return tuple(
        (round(float(times[start]), 3), round(float(ends[min(stop, len(times))]), 3))
        for start, stop in spans
    )


def _total_seconds(spans: list[Span], times: np.ndarray) -> float:
    return sum(stop - start for start, stop in time_ranges(spans, times))
