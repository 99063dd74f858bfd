"""Figures as rows for people: name, value, what it is; on the terminal and in the report."""

from __future__ import annotations

from typing import Any

from being.eval.cross_driven import KEYS
from being.eval.evaluator import KINDS
from being.eval.identity import SAME_PERSON

Row = tuple[str, str, str]
REGION_NAMES = {
    "whole": "Whole frame",
    "head": "Head box",
    "face": "Face box",
    "mouth": "Mouth box",
    "eyes": "Eyes box",
    "brows": "Brows box",
}
KIND_FORMS = {"psnr": "{:.2f} dB", "ssim": "{:.3f}", "lpips": "{:.4f}"}
SPEECH_NAMES = {
    "closed_on_closures": (
        "Closed on p, b, m",
        "{:.0%}",
        "share of these moments at which the lips come closer than a fifth of their range",
    ),
    "chance": ("The same at any moment of speech", "{:.0%}", "what closures would count by chance"),
    "open_on_vowels": (
        "Open on open vowels",
        "{:.0%}",
        "share of these moments at which they do not stay that close",
    ),
    "vowels_over_closures": (
        "Vowels over closures",
        "{:.1f}",
        "mean aperture on open vowels over that on p, b, m",
    ),
    "closed_in_silence": (
        "Closed in silence",
        "{:.0%}",
        "share of frames within silences over 200 ms",
    ),
    "motion": ("Motion", "{:.2f}", "deviation of the aperture over the range of the real footage"),
    "jumps": (
        "Jumps",
        "{:.0f}",
        "changes between frames above the 99.5th percentile of the real footage",
    ),
    "largest_step": ("Largest change", "{:.2f}", "over that percentile"),
    "closures": ("p, b, m heard", "{:.0f}", ""),
    "vowels": ("Open vowels heard", "{:.0f}", ""),
    "silences": ("Silences", "{:.0f}", ""),
}


def text(value: float | None, form: str = "{:.3f}") -> str:
    """A figure as people read it; a dash where there is none."""
    return "-" if value is None else form.format(value)


def region_rows(figures: dict[str, Any]) -> list[list[str]]:
    """A row for each region: name, PSNR, SSIM, LPIPS, what the box is."""
    return [
        [
            name,
            *(text(figures[key][kind], KIND_FORMS[kind]) for kind in KINDS),
            figures[key]["protocol"],
        ]
        for key, name in REGION_NAMES.items()
        if key in figures
    ]


def face_rows(figures: dict[str, Any]) -> list[Row]:
    """Lips, upper face, steadiness and identity."""
    lips = figures["lips"]
    if lips is None:
        return [("Lips", "none", figures["lips_reason"])]
    return [*_lip_rows(lips), *_upper_rows(figures["upper_face"]), *_other_rows(figures)]


def _lip_rows(lips: dict[str, Any]) -> list[Row]:
    late = "-" if lips["best_lag"] is None else f"{lips['best_lag']:+d} frames"
    rows = [
        ("Lip correlation", text(lips["correlation"]), lips["reason"] or lips["measure"]),
        (
            "Best lag",
            late,
            f"{lips['lag_sign']}; correlation there {text(lips['best_correlation'])}",
        ),
        (
            "Lip motion",
            text(lips["motion"], "{:.0%}"),
            "deviation of the rendered aperture over that of the true one; near 0 the mouth hardly moves",
        ),
        (
            "Lip width correlation",
            text(lips["width_correlation"]),
            "the same of the distance of the mouth's corners",
        ),
        (
            "LMD",
            text(lips["lmd"], "{:.2f} px"),
            "mean distance of 20 lip landmarks at 512 px after each picture's "
            "own mean is taken away",
        ),
    ]
    if "shuffled" in lips:
        rows.append(
            (
                "Sound shuffled",
                text(lips["shuffled_correlation"]),
                f"{lips['shuffled']} ({text(lips['shuffled_truth'])}); of a mouth that heeds no sound chance "
                "gives 0 with deviation "
                f"{text(lips['shuffled_chance'], '{:.2f}')}; misses {lips['shuffled_misses']}",
            )
        )
    rows.append(
        (
            "Misses",
            f"{lips['misses']} of {lips['frames']}",
            f"frames without a face found on the render; {lips['misses_rule']}. On the true frames "
            f"{lips['true_misses']}, which cannot be compared",
        )
    )
    return [*rows, *([("Note", "", lips["hint"])] if "hint" in lips else [])]


def _upper_rows(upper: dict[str, Any]) -> list[Row]:
    blinks = upper["blinks"]
    rows = [
        (
            "Action units",
            text(upper["action_unit_error"]),
            "mean absolute error of 15 units, 0 to 5, read from "
            f"both pictures alike; of the upper face {text(upper.get('upper_face_error'))}",
        )
    ]
    if blinks is None:
        return rows
    share = "no true blink" if not blinks["true"] else f"{blinks['reproduced']} of {blinks['true']}"
    return [
        *rows,
        (
            "Blinks",
            share,
            f"reproduced: {upper['blink_rule']}; {blinks['extra']} rendered ones have no true one",
        ),
    ]


def _other_rows(figures: dict[str, Any]) -> list[Row]:
    steady, same = figures["steadiness"], figures["identity"]
    rows = [
        (
            "Jitter",
            text(steady["ratio"], "{:.2f}"),
            f"second difference of 33 rigid landmarks over the true one's: {text(steady['rendered'], '{:.2f}')} px "
            f"against {text(steady['true'], '{:.2f}')} px at 512 px",
        ),
        (
            "Landmarks apart",
            text(steady["offset"], "{:.2f} px"),
            "mean distance of all landmarks at 512 px",
        ),
    ]
    if same is None:
        return [*rows, ("Identity", "none", figures["identity_reason"])]
    return [
        *rows,
        (
            "Identity",
            text(same["distance"], "{:.2f}"),
            f"distance by dlib's face-recognition network on {same['pictures']} frames, at most "
            f"{same['worst']:.2f}; one person under {SAME_PERSON}; true frames among themselves "
            f"{text(same['true_apart'], '{:.2f}')}; cosine {same['similarity']:.3f}",
        ),
    ]


def speech_rows(columns: list[dict[str, Any] | None]) -> list[list[str]]:
    """A row for each figure of `mouth_figures`: name, a value a column, what it is."""
    return [
        [name, *(text((column or {}).get(key), form) for column in columns), meaning]
        for key, (name, form, meaning) in SPEECH_NAMES.items()
    ]


def cross_rows(cross: dict[str, Any]) -> list[list[str]]:
    """A row for the real footage, each sound, all of them, and these over the footage."""
    forms = {key: SPEECH_NAMES[key][1] for key in KEYS}

    def row(name: str, figures: dict[str, Any]) -> list[str]:
        return [
            name,
            *(text(figures.get(key), forms[key]) for key in KEYS),
            text(figures.get("jumps"), "{:.0f}"),
            text(figures.get("largest_step"), "{:.2f}"),
            ""
            if "closures" not in figures
            else f"{figures['closures']} / {figures['vowels']} / {figures['silences']}",
        ]

    over = [
        "over the footage's",
        *(text(cross["against_footage"][key], "{:.0%}") for key in KEYS),
        "",
        "",
        "",
    ]
    return [
        row("real footage", cross["footage"]),
        *(row(name, figures) for name, figures in cross["sounds"].items()),
        row("all sounds", {**cross["all"], "jumps": cross["jumps"]}),
        over,
    ]


def lines(figures: dict[str, Any]) -> list[str]:
    """All of it for the terminal."""
    said = [
        f"  {name:12} {' '.join(f'{value:>9}' for value in values[:3])}"
        for name, *values in region_rows(figures)
    ]
    said += [f"  {name:22} {value}" for name, value, _ in face_rows(figures) if value]
    cross = figures.get("cross")
    if cross:
        said.append(f"  {'other sounds':22} {'all':>9} {'footage':>9} {'share':>9}")
        for key in KEYS:
            name, form, _ = SPEECH_NAMES[key]
            values = (
                text(cross["all"][key], form),
                text(cross["footage"].get(key), form),
                text(cross["against_footage"][key], "{:.0%}"),
            )
            said.append(f"  {name:22} {' '.join(f'{value:>9}' for value in values)}")
        said.append(f"  {'Jumps':22} {cross['jumps']:>9}")
    return said
