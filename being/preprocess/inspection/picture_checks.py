"""What a clip is like, one finding a check: file, length, frame rate, cuts, faces, framing, camera,
light, blur.
"""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.media import MediaInfo
from being.preprocess.inspection.crop import crown_cut, face_boxes
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.scan import Scan, View
from being.preprocess.inspection.spans import Span, Spans
from being.preprocess.inspection.steadiness import Backdrop, backdrop_light, moved, shift_between
from being.preprocess.inspection.timing import Timing

SECONDS_MIN = 2.0
LONG_SECONDS = 600.0  # from here on a clip brings little more and takes long
WORK_PER_FRAME = 0.1  # s of two cores that a frame takes to preprocess
ENDS_EARLY = 0.95  # decoded length over the header's
ERROR_MAX = 0.0205  # s, timing error from which it is a warning: more than half a frame
SLOW_RATE = 20.0  # frames/s under which lips move in steps
FACE_SIDE_MIN = (
    64  # px, brow to chin, in pictures of PICTURE_SIDE (less where smaller ones are asked for)
)
FACE_SIDE_GOOD = 128
PICTURE_SIDE = 512  # px, largest side of a dataset's pictures unless asked otherwise
OUTSIDE = 0.05  # of the face's size: a face further over the picture's edge is cut off
OFTEN, SELDOM = 0.5, 0.05  # shares of the views
# of the width: shift of the background that is a moving camera (0.8 px of 256, 1.5 px of 512)
MOVING = 0.003
LIGHT_RANGE, COLOUR_RANGE = (
    0.12,
    0.12,
)  # range of the light, and of the face's red over blue (turns: up to 0.07)
FLICKER = (
    0.7  # levels, deviation of the light from frame to frame: 0.06 to 0.09 in the shared clips
)
BLURRED = 0.5  # sharpness of a face blurred by 2.3 px at 512; sharp ones have 0.9 to 2
BLURRED_MOMENT = 0.55  # of the clip's own sharpness

At = tuple[tuple[float, float], ...]


def check_file(info: MediaInfo) -> Finding:
    """Container, codec, size, rotation, pixel shape, transparency, colour range."""
    what = (
        f"{info.codec} in {info.container.split(',')[0]}, {info.width}x{info.height}, {info.pixels}"
        + (f", stored turned by {info.rotation} degrees" if info.rotation % 360 else "")
    )
    fixes = ["it is turned upright"] if info.rotation % 360 else []
    if abs(info.aspect - 1) > 0.01:
        what, fixes = (
            f"{what}, pixels {info.aspect:.2f} times as wide as high",
            [*fixes, "pixels are made square"],
        )
    if info.alpha:
        what, fixes = (
            f"{what}, with transparency",
            [
                *fixes,
                "transparency is ignored"
                if info.codec in ("vp8", "vp9")
                else "what is transparent is laid on grey",
            ],
        )
    if info.hdr:
        return Finding(
            "file",
            "warning",
            f"{what}, in high dynamic range: colours will look flat",
            (),
            "Record or export in standard range (SDR, BT.709)",
        )
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


def check_rate(timing: Timing, worst: float) -> Finding:
    """True frame rate and how the pictures were brought to 25 frames/s. worst: timing error, s."""
    missed = f"worst timing error {1e3 * worst:.0f} ms"
    if timing.counted:
        return Finding(
            "frame rate",
            "warning",
            "the timestamps of the pictures are of no use",
            (),
            f"pictures are counted at {timing.rate:.3g} frames/s; check that lips and sound agree",
        )
    what = f"{timing.rate:.4g} frames/s"
    fix = (
        ""
        if abs(timing.rate - FPS) < 0.01
        else f"the pictures nearest to 25 frames/s are taken, {missed}"
    )
    if timing.variable:
        what, fix = (
            f"variable frame rate, {what} on average",
            f"resampled to 25 frames/s by timestamps, {missed}",
        )
    if timing.pattern:
        copies = int(timing.copies.sum())
        what = f"{what} in a container of {timing.container_rate:.4g}: {copies} pictures are copies of the one before"
        fix = f"copies are dropped; {fix}" if fix else f"copies are dropped, {missed}"
    if timing.rate < SLOW_RATE:
        return Finding(
            "frame rate",
            "warning",
            f"{what}: lips will move in steps",
            (),
            f"{fix}. Record at 25 frames/s or more, with more light",
        )
    return Finding("frame rate", "warning" if worst > ERROR_MAX else "ok", what, (), fix)


def check_picture(spans: Spans, scan: Scan, times: np.ndarray) -> Finding:
    """Black frames, a picture that stops, gaps in time, a change of size."""
    stopped = sum(stop - start for start, stop in spans.still)
    if stopped > 0.9 * len(times):
        return Finding(
            "picture",
            "rejection",
            f"the picture of {scan.info.path} does not move",
            (),
            "Give a video of a person who speaks, not a still picture",
        )
    faults = [
        (f"{len(spans.black)} black stretches", spans.black),
        ("the picture stops", spans.still),
        ("the picture lacks frames", [(at - 1, at + 1) for at in spans.gaps]),
        ("the size changes", [(at, at + 1) for at in scan.resized]),
    ]
    seen = [(name, where) for name, where in faults if where]
    if not seen:
        return Finding("picture", "ok", "no black, frozen or missing frames")
    where = sorted(span for _, part in seen for span in part)
    return Finding(
        "picture",
        "warning",
        ", ".join(name for name, _ in seen),
        seconds(where, times),
        "these parts are cut away",
    )


def check_faces(
    info: MediaInfo, views: list[View], spans: Spans, times: np.ndarray, kept: float
) -> list[Finding]:
    """One face throughout: "face" and "people". kept: usable seconds."""
    shown = [not np.isnan(view.points[0, 0]) for view in views if view.faces >= 0]
    second = [view.second is not None for view in views if view.faces >= 0]
    if not any(shown):
        return [
            Finding(
                "face",
                "rejection",
                f"no face was found in {info.path}",
                (),
                "Record one person who looks at the camera, with the whole head in the picture",
            )
        ]
    share = f"{sum(shown)} of {len(shown)} frames looked at show a face"
    where, lost = seconds(spans.faceless, times), _lasting(spans.faceless, times)
    face = Finding("face", "ok", share)
    if where:
        face = Finding(
            "face",
            "warning",
            f"{share}; {lost:.1f} s without one",
            where,
            "these parts are cut away",
        )
    if kept < SECONDS_MIN and sum(shown) < 0.9 * len(shown):
        face = Finding(
            "face",
            "rejection",
            f"{info.path} shows a face only part of the time: {share}",
            where,
            "Record one person who looks at the camera, with the whole head in the picture",
        )
    people = Finding("people", "ok", "one person")
    where, lost = seconds(spans.second, times), _lasting(spans.second, times)
    if sum(second) > OFTEN * len(second) or (where and kept < SECONDS_MIN):
        people = Finding(
            "people",
            "rejection",
            f"{info.path} shows several faces: in {sum(second)} of {len(second)} frames looked at",
            where,
            "Crop the video to one person",
        )
    elif where:
        people = Finding(
            "people",
            "warning",
            f"a second person for {lost:.1f} s",
            where,
            "these parts are cut away",
        )
    return [face, people]


def check_face_size(
    info: MediaInfo, points: np.ndarray, crop: tuple[int, int, int], size: int, asked: int
) -> list[Finding]:
    """Size of the face in the dataset's pictures and its place in the picture, for points [n, 478,
    3] of kept views.
    """
    boxes = face_boxes(points)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    final = face * size / crop[2]
    what = f"a face of {final:.0f} px in pictures of {size}x{size}"
    small = Finding("face size", "ok", what, (), _said_crop(info, crop))
    if final < FACE_SIDE_MIN * min(1.0, asked / PICTURE_SIDE):
        small = Finding(
            "face size",
            "rejection",
            f"the face in {info.path} is too small: about {face:.0f} px in a "
            f"picture of {info.width}x{info.height}, at least {FACE_SIDE_MIN} px are needed",
            (),
            "Record closer, or at a higher resolution",
        )
    elif final < FACE_SIDE_GOOD * min(1.0, asked / PICTURE_SIDE):
        small = Finding(
            "face size", "warning", f"{what}: lips and eyes will be coarse", (), "Record closer"
        )
    outside = (
        np.maximum(-boxes[:, :2], boxes[:, 2:] - [info.width, info.height]).max(1) > OUTSIDE * face
    )
    crowns = crown_cut(boxes, crop[1])
    place = Finding("head in the picture", "ok", "the whole head is in the picture")
    if outside.mean() > OFTEN:
        place = Finding(
            "head in the picture",
            "rejection",
            f"the face in {info.path} is cut off by the edge of the picture",
            (),
            "Record with the whole head in the picture",
        )
    elif outside.mean() > SELDOM:
        place = Finding(
            "head in the picture",
            "warning",
            f"the face leaves the picture in {outside.mean():.0%} of the frames looked at",
            (),
            "Record with more room round the head",
        )
    elif crowns.mean() > OFTEN:
        place = Finding(
            "head in the picture",
            "warning",
            "the top of the head is cut off",
            (),
            "The avatar's hair will end at the picture's edge: record with more room over the head",
        )
    return [small, place]


def check_cuts(scan: Scan, spans: Spans, kept: list[Span], times: np.ndarray) -> list[Finding]:
    """Cuts, and stretches dropped because they are framed otherwise."""
    cuts = Finding("cuts", "ok", "no cut")
    if scan.cuts:
        listed = ", ".join(f"{times[at]:.2f} s (frame {at})" for at in scan.cuts)
        cuts = Finding(
            "cuts",
            "ok",
            f"{len(scan.cuts)} cuts: {listed}",
            tuple((times[at],) * 2 for at in scan.cuts),
            "the dataset has breaks there, which no window and no head motion crosses",
        )
    dropped = [span for span in spans.usable if span not in kept]
    if not dropped:
        return [cuts, Finding("framing", "ok", "one framing")]
    return [
        cuts,
        Finding(
            "framing",
            "warning",
            f"{_lasting(dropped, times):.1f} s are framed otherwise",
            seconds(dropped, times),
            f"only the {_lasting(kept, times):.1f} s of the longest framing are used; "
            "the others can become datasets of their own",
        ),
    ]


def check_camera(views: list[View], still: Backdrop, scale: float, times: np.ndarray) -> Finding:
    """Whether the background stands still over the kept views (samples with a face)."""
    reference = views[len(views) // 2]
    shifts = np.array([shift_between(reference, view, scale) for view in views])
    changed = np.array([moved(view, still, scale) for view in views])
    told = np.isfinite(shifts)
    far = float(np.percentile(shifts[told], 90)) if told.mean() > OFTEN else 0.0
    if far > MOVING and changed.mean() > SELDOM:
        return Finding(
            "camera",
            "warning",
            f"the camera moves, by up to {far:.1%} of the picture's width",
            (),
            "Put the camera on a tripod: a moving background is smeared behind the avatar",
        )
    if changed.mean() > SELDOM:
        where = tuple(
            (float(times[view.frame]),) * 2 for view, now in zip(views, changed, strict=True) if now
        )
        return Finding(
            "camera",
            "warning",
            f"the background changes in {changed.mean():.0%} of the frames looked at",
            where,
            "Record before a still background: what moves there is smeared behind the avatar",
        )
    return Finding("camera", "ok", "the background stands still")


def check_light(
    views: list[View], still: Backdrop, scale: float, drift: np.ndarray, times: np.ndarray
) -> Finding:
    """Drift of light and colour over the kept views, and flicker. drift: float32 [n] of the kept
    frames, levels.
    """
    light = backdrop_light(views, still, scale)
    skin = np.stack([view.skin for view in views])
    warmth = skin[:, 0] / np.maximum(skin[:, 2], 1.0)
    if np.isfinite(light).mean() < OFTEN:
        light = skin.mean(1) / skin.mean()
    span, colours = _range(light[np.isfinite(light)]), _range(warmth / np.median(warmth))
    flicker = float(np.nanstd(drift)) if np.isfinite(drift).any() else 0.0
    if flicker > FLICKER:
        return Finding(
            "light",
            "warning",
            f"the light flickers, by {flicker:.1f} levels from frame to frame",
            (),
            "Use daylight or lamps that do not flicker, or a shutter of 1/50 or 1/60 s",
        )
    if span > LIGHT_RANGE or colours > COLOUR_RANGE:
        name = (
            f"the light changes by {span:.0%}"
            if span > LIGHT_RANGE
            else f"the colours change by {colours:.0%}"
        )
        darkest, lightest = (
            float(times[views[int(i)].frame]) for i in (np.nanargmin(light), np.nanargmax(light))
        )
        return Finding(
            "light",
            "warning",
            name,
            ((darkest, darkest), (lightest, lightest)),
            "Lock exposure and white balance, and keep out moving light",
        )
    return Finding(
        "light",
        "ok",
        f"light within {span:.0%}, colours within {colours:.0%}, flicker {flicker:.2f} levels",
    )


def check_sharpness(views: list[View], times: np.ndarray) -> Finding:
    """Blur of the face: out of focus throughout, or at moments."""
    sharpness = np.array([view.sharpness for view in views])
    usual = float(np.nanmedian(sharpness)) if np.isfinite(sharpness).any() else 0.0
    if usual < BLURRED:
        return Finding(
            "sharpness",
            "warning",
            f"the face is blurred (sharpness {usual:.2f}, sharp ones have 0.9 or more)",
            (),
            "Focus on the face, use more light and a higher bit rate",
        )
    soft = [view for view in views if view.sharpness < BLURRED_MOMENT * usual]
    if len(soft) > SELDOM * len(views):
        return Finding(
            "sharpness",
            "warning",
            f"the face is blurred in {len(soft) / len(views):.0%} of the frames looked at",
            tuple((float(times[view.frame]),) * 2 for view in soft),
            "More light and a shorter shutter keep motion sharp",
        )
    return Finding("sharpness", "ok", f"sharpness of the face {usual:.2f}")


def seconds(spans: list[Span], times: np.ndarray) -> At:
    """Time ranges of stretches of frames, s from the first picture."""
    ends = np.append(times, 2 * times[-1] - times[-2] if len(times) > 1 else times[-1])
    return tuple(
        (round(float(times[start]), 3), round(float(ends[min(stop, len(times))]), 3))
        for start, stop in spans
    )


def _lasting(spans: list[Span], times: np.ndarray) -> float:
    return sum(stop - start for start, stop in seconds(spans, times))


def _range(values: np.ndarray) -> float:
    return float(np.subtract(*np.percentile(values, [97, 3]))) if len(values) else 0.0


def _said_crop(info: MediaInfo, crop: tuple[int, int, int]) -> str:
    left, top, side = crop
    return (
        ""
        if (side, side) == (info.width, info.height)
        else f"cut to a square of {side} px at {left}, {top}"
    )
