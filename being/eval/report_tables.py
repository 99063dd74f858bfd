"""Rows of figures for the terminal and the report page: name, value, explanation."""

from __future__ import annotations

from typing import Any

from being.eval.cross_driven import CROSS_FIGURES
from being.eval.image_fidelity import IMAGE_METRICS
from being.face.identity import SAME_PERSON

Row = tuple[str, str, str]
REGION_NAMES = {
    "whole": "Whole frame",
    "head": "Head box",
    "face": "Face box",
    "mouth": "Mouth box",
    "eyes": "Eyes box",
    "brows": "Brows box",
}
METRIC_FORMATS = {"psnr": "{:.2f} dB", "ssim": "{:.3f}", "lpips": "{:.4f}"}
# Key of `mouth_figures` -> its name, its format, its explanation.
MOUTH_FIGURE_NAMES = {
    "closed_on_closures": (
        "Closed on p, b, m",
        "{:.0%}",
        "share of these phonemes on which the lips come closer than a fifth of their range",
    ),
    "chance": (
        "Closed at any moment of speech",
        "{:.0%}",
        "what the line above would be by chance",
    ),
    "open_on_vowels": (
        "Open on open vowels",
        "{:.0%}",
        "share of these phonemes on which the lips open further than that",
    ),
    "vowels_over_closures": (
        "Vowels over closures",
        "{:.1f}",
        "mean aperture on open vowels divided by that on p, b, m",
    ),
    "closed_in_silence": (
        "Closed in silence",
        "{:.0%}",
        "share of frames within silences over 200 ms",
    ),
    "closed_in_speech": (
        "Closed in speech",
        "{:.0%}",
        "share of the frames of speech in which the lips are closer than that",
    ),
    "vowel_opening": (
        "Opening at open vowels",
        "{:.0%}",
        "mean aperture there, from the closed mouth on, as a share of the footage's range",
    ),
    "motion": (
        "Motion",
        "{:.2f}",
        "deviation of the aperture divided by the range of the real footage",
    ),
    "jumps": (
        "Jumps",
        "{:.0f}",
        "changes between frames above the 99.5th percentile of the real footage",
    ),
    "largest_step": ("Largest change", "{:.2f}", "divided by that percentile"),
    "closures": ("Number of p, b, m", "{:.0f}", ""),
    "vowels": ("Number of open vowels", "{:.0f}", ""),
    "silences": ("Number of silences", "{:.0f}", ""),
}


def format_figure(value: float | None, form: str = "{:.3f}") -> str:
    """The figure in the given format; a dash for None."""
    return "-" if value is None else form.format(value)


def region_rows(figures: dict[str, Any]) -> list[list[str]]:
    """A row for each region: name, PSNR, SSIM, LPIPS, description of the box."""
    rows = []
    for key, name in REGION_NAMES.items():
        if key not in figures:
            continue
        values = [
            format_figure(figures[key][metric], METRIC_FORMATS[metric]) for metric in IMAGE_METRICS
        ]
        rows.append([name, *values, figures[key]["protocol"]])
    return rows


def face_rows(figures: dict[str, Any]) -> list[Row]:
    """Rows of lips, upper face, steadiness and identity."""
    lips = figures["lips"]
    if lips is None:
        return [("Lips", "none", figures["lips_reason"])]
    return [
        *_lip_rows(lips),
        *_upper_face_rows(figures["upper_face"]),
        _jitter_row(figures["steadiness"]),
        _offset_row(figures["steadiness"]),
        _identity_row(figures["identity"], figures["identity_reason"]),
        *_sync_rows(figures.get("syncnet")),
    ]


def _lip_rows(lips: dict[str, Any]) -> list[Row]:
    lag = "-" if lips["best_lag"] is None else f"{lips['best_lag']:+d} frames"
    rows = [
        ("Lip correlation", format_figure(lips["correlation"]), lips["reason"] or lips["measure"]),
        (
            "Best lag",
            lag,
            f"{lips['lag_sign']}; correlation there {format_figure(lips['best_correlation'])}",
        ),
        (
            "Lip motion",
            format_figure(lips["motion"], "{:.0%}"),
            "deviation of the rendered aperture divided by that of the true one; near 0 the mouth "
            "hardly moves",
        ),
        (
            "Lip width correlation",
            format_figure(lips["width_correlation"]),
            "the same correlation, of the distance of the mouth corners",
        ),
        (
            "LMD",
            format_figure(lips["lmd"], "{:.2f} px"),
            "mean distance of 20 lip landmarks at 512 px, after the mean of each frame's landmarks "
            "is subtracted",
        ),
    ]
    if "shuffled" in lips:
        meaning = (
            f"{lips['shuffled']} ({format_figure(lips['shuffled_truth'])}); a mouth that ignores "
            "the audio has 0 by chance, with deviation "
            f"{format_figure(lips['shuffled_chance'], '{:.2f}')}; misses {lips['shuffled_misses']}"
        )
        rows.append(("Audio shuffled", format_figure(lips["shuffled_correlation"]), meaning))
    rows.append(
        (
            "Misses",
            f"{lips['misses']} of {lips['frames']}",
            f"frames on which no face was found on the rendered frame; {lips['misses_rule']}. On "
            f"the true frames {lips['true_misses']}, which cannot be compared",
        )
    )
    if "hint" in lips:
        rows.append(("Note", "", lips["hint"]))
    return rows


def _upper_face_rows(upper: dict[str, Any]) -> list[Row]:
    units = (
        "Action units",
        format_figure(upper["action_unit_error"]),
        "mean absolute error of 15 units, 0 to 5, read from true and rendered frames in the same "
        f"way; of the upper face {format_figure(upper.get('upper_face_error'))}",
    )
    blinks = upper["blinks"]
    if blinks is None:
        return [units]
    share = "no true blink" if not blinks["true"] else f"{blinks['reproduced']} of {blinks['true']}"
    meaning = (
        f"reproduced: {upper['blink_rule']}; {blinks['extra']} rendered blinks have no true one"
    )
    return [units, ("Blinks", share, meaning), *_gaze_rows(upper["gaze"])]


def _gaze_rows(gaze: dict[str, Any]) -> list[Row]:
    """A row for each direction in which the true eyes move."""
    titles = {"gaze_right": "Gaze sideways", "gaze_up": "Gaze up and down"}
    return [
        (
            titles[name],
            format_figure(figures["correlation"]),
            "correlation with the true gaze, from blendshapes where the lids are open; motion "
            f"{format_figure(figures['motion'], '{:.0%}')} of the true one",
        )
        for name, figures in gaze.items()
        if figures["motion"] is not None
    ]


def _jitter_row(steadiness: dict[str, Any]) -> Row:
    return (
        "Jitter",
        format_figure(steadiness["ratio"], "{:.2f}"),
        "second difference of 33 rigid landmarks divided by the true one: "
        f"{format_figure(steadiness['rendered'], '{:.2f}')} px, true "
        f"{format_figure(steadiness['true'], '{:.2f}')} px, at 512 px",
    )


def _offset_row(steadiness: dict[str, Any]) -> Row:
    return (
        "Landmark offset",
        format_figure(steadiness["offset"], "{:.2f} px"),
        "mean distance of all landmarks at 512 px",
    )


def _identity_row(identity: dict[str, Any] | None, reason: str) -> Row:
    if identity is None:
        return ("Identity", "none", reason)
    return (
        "Identity",
        format_figure(identity["distance"], "{:.2f}"),
        f"distance by dlib's face-recognition network on {identity['pictures']} frames, at most "
        f"{identity['worst']:.2f}; below {SAME_PERSON} it is the same person; between true frames "
        f"{format_figure(identity['true_apart'], '{:.2f}')}; cosine {identity['similarity']:.3f}",
    )


def _sync_rows(sync: dict[str, Any] | None) -> list[Row]:
    """Sync-C and Sync-D, where SyncNet was given."""
    if sync is None:
        return []
    rows = []
    for name, key, side in (
        ("Sync-C", "confidence", "higher is better"),
        ("Sync-D", "distance", "lower is better"),
    ):
        values = {who: (sync[who] or {}).get(key) for who in ("rendered", "true")}
        meaning = f"{side}; of the true video {format_figure(values['true'])}; {sync['protocol']}"
        if sync["rendered"] is None:
            meaning = sync["rendered_reason"]
        rows.append((name, format_figure(values["rendered"]), meaning))
    return rows


def mouth_rows(columns: list[dict[str, Any] | None]) -> list[list[str]]:
    """A row for each figure of `mouth_figures`: name, a value a column, explanation."""
    rows = []
    for key, (name, form, meaning) in MOUTH_FIGURE_NAMES.items():
        values = [format_figure((column or {}).get(key), form) for column in columns]
        rows.append([name, *values, meaning])
    return rows


def cross_rows(cross: dict[str, Any]) -> list[list[str]]:
    """A row for the real footage, for each audio, for all of them, and for all over the footage."""

    def row(name: str, figures: dict[str, Any]) -> list[str]:
        counts = ""
        if "closures" in figures:
            counts = f"{figures['closures']} / {figures['vowels']} / {figures['silences']}"
        return [
            name,
            *(format_figure(figures.get(key), MOUTH_FIGURE_NAMES[key][1]) for key in CROSS_FIGURES),
            format_figure(figures.get("jumps"), "{:.0f}"),
            format_figure(figures.get("largest_step"), "{:.2f}"),
            counts,
        ]

    ratios = [format_figure(cross["against_footage"][key], "{:.0%}") for key in CROSS_FIGURES]
    return [
        row("real footage", cross["footage"]),
        *(row(name, figures) for name, figures in cross["sounds"].items()),
        row("all audio", {**cross["all"], "jumps": cross["jumps"]}),
        ["divided by the footage's", *ratios, "", "", ""],
    ]


def terminal_lines(figures: dict[str, Any]) -> list[str]:
    """All figures as lines for the terminal."""
    lines = [_columns(name, 12, values[:3]) for name, *values in region_rows(figures)]
    lines += [f"  {name:22} {value}" for name, value, _ in face_rows(figures) if value]
    cross = figures.get("cross")
    if not cross:
        return lines
    lines.append(_columns("other audio", 22, ["all", "footage", "share"]))
    for key in CROSS_FIGURES:
        name, form, _ = MOUTH_FIGURE_NAMES[key]
        values = [
            format_figure(cross["all"][key], form),
            format_figure(cross["footage"].get(key), form),
            format_figure(cross["against_footage"][key], "{:.0%}"),
        ]
        lines.append(_columns(name, 22, values))
    lines.append(_columns("Jumps", 22, [str(cross["jumps"])]))
    return lines


def _columns(name: str, width: int, values: list[str]) -> str:
    return f"  {name:{width}} {' '.join(f'{value:>9}' for value in values)}"
