"""Captions drawn into the frames of a video: white letters with a dark outline, at the bottom.

The font is OpenCV's own ("sans", from version 5 on): Latin, Greek, Cyrillic, Chinese, Japanese and
Korean letters, without any file of the system. It does not join letters and writes from left to
right, so Arabic and Hebrew are refused, and so are letters that it lacks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from being.errors import EnvironmentFault, InputRejected
from being.inference.caption_words import CaptionWord
from being.inference.captions import COLUMNS, Cue, caption_cues
from being.tts.speech import visible_characters

FONT, WEIGHT = "sans", 600
# Shares of the picture's height
LETTER = 0.055
LETTER_LEAST = 11  # px
LINE = 1.25  # height of a line, of the letters' size
BOTTOM = 0.045  # free space below
OUTLINE = 0.11  # width of the outline, of the letters' size
WIDTH = 0.92  # share of the picture's width that lines may take
COLUMN = 0.53  # mean width of a letter, of its size
SHADE = 0.85  # opacity of the outline


def drawn_columns(width: int, height: int) -> int:
    """Characters that fit into a line of a picture of that size."""
    return min(COLUMNS, max(8, int(WIDTH * width / (COLUMN * letter_size(height)))))


def letter_size(height: int) -> int:
    """Size of the letters, px."""
    return max(LETTER_LEAST, round(LETTER * height))


def check_drawing() -> Any:
    """The module cv2. Raises EnvironmentFault where it cannot draw letters of its own font."""
    try:
        import cv2
    except ImportError as error:
        raise EnvironmentFault(
            "captions cannot be drawn without OpenCV",
            str(error),
            "pip install 'opencv-python-headless>=5', or write them to a file: --captions vtt",
        ) from error
    if not hasattr(cv2, "FontFace"):
        raise EnvironmentFault(
            f"OpenCV {cv2.__version__} has no font for captions",
            "version 5 has one",
            "pip install 'opencv-python-headless>=5', or write them to a file: --captions vtt",
        )
    return cv2


def check_letters(text: str) -> str:
    """`text` without symbols that the font lacks.

    Raises InputRejected for letters and digits that it lacks or cannot join, and as
    `check_drawing`.
    """
    cv2 = check_drawing()
    font = cv2.FontFace(FONT)
    unknown = _picture(cv2, font, "\uffff")
    lacking, dropped = [], set()
    for character in dict.fromkeys(unicodedata.normalize("NFC", text)):
        if character.isspace() or character == "?":
            continue
        joined = unicodedata.bidirectional(character) in ("R", "AL", "AN")
        if joined or np.array_equal(_picture(cv2, font, character), unknown):
            if character.isalnum() or unicodedata.category(character)[0] == "M":
                lacking.append(character)
            else:
                dropped.add(character)
    if lacking:
        raise InputRejected(
            f"the captions' font cannot draw {visible_characters(''.join(lacking))}",
            "it lacks these letters, or cannot join them",
            "Write the captions to a file: --captions vtt",
        )
    return "".join(c for c in unicodedata.normalize("NFC", text) if c not in dropped)


class CaptionDrawer:
    """Draws cues into frames; call it with the time of a frame and the frame."""

    def __init__(self, words: Sequence[CaptionWord], seconds: float):
        """words: of the whole video, which lasts `seconds` s. Raises as `check_letters`."""
        self._cv2 = check_drawing()
        self._font = self._cv2.FontFace(FONT)
        texts = check_letters("\n".join(word.text for word in words)).split("\n")
        kept = [replace(word, text=text) for word, text in zip(words, texts, strict=True)]
        self._words = [word for word in kept if word.text]
        self._seconds = seconds
        self._size = (0, 0)  # of the frames: height, width
        self._cues: list[Cue] = []
        self._next = 0  # the first cue that is not over
        self._drawn: tuple[int, tuple[int, np.ndarray, np.ndarray]] | None = None

    def __call__(self, seconds: float, frame: np.ndarray) -> np.ndarray:
        """The frame uint8 [H, W, 3] at `seconds` with its caption; times must not go back."""
        if self._size != frame.shape[:2]:
            self._size = frame.shape[0], frame.shape[1]
            columns = drawn_columns(self._size[1], self._size[0])
            self._cues, self._next = caption_cues(self._words, self._seconds, columns), 0
            self._drawn = None
        while self._next < len(self._cues) and self._cues[self._next].end <= seconds:
            self._next += 1
        if self._next == len(self._cues) or seconds < self._cues[self._next].start:
            return frame
        if self._drawn is None or self._drawn[0] != self._next:
            self._drawn = self._next, self._overlay(self._cues[self._next].lines)
        top, letters, shade = self._drawn[1]
        out = frame.copy()
        part = out[top:].astype(np.float32) * (1 - shade)
        out[top:] = np.rint(part + (255 - part) * letters).astype(np.uint8)
        return out

    def _overlay(self, lines: Sequence[str]) -> tuple[int, np.ndarray, np.ndarray]:
        """First row of a caption, and from there on the opacity of letters and outline.

        Both are float32 [H - row, W, 1] in [0, 1].
        """
        cv2 = self._cv2
        picture_height, width = self._size
        size = self._fitting_size(lines)
        radius = max(1, round(OUTLINE * size))
        height = round(size * LINE * len(lines)) + 2 * radius
        mask = np.zeros((height, width, 3), np.uint8)
        for k, line in enumerate(lines):
            x = (width - self._line_width(line, size)) // 2
            at = (x, radius + round((k + 0.85) * size * LINE))
            mask = cv2.putText(mask, line, at, (255, 255, 255), self._font, size, WEIGHT)[1]
        letters = mask[..., 0]
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        shade = cv2.GaussianBlur(cv2.dilate(letters, kernel), (0, 0), max(0.5, radius / 3))
        top = max(0, picture_height - height - round(BOTTOM * picture_height))
        below = picture_height - top
        both = [np.zeros((below, width), np.float32) for _ in range(2)]
        for plane, drawn in zip(both, (letters, shade), strict=True):
            plane[: min(height, below)] = drawn[:below].astype(np.float32) / 255
        return top, both[0][..., None], SHADE * both[1][..., None]

    def _fitting_size(self, lines: Sequence[str]) -> int:
        """Size of the letters with which all lines fit into the picture, px."""
        size = letter_size(self._size[0])
        widest = max(self._line_width(line, size) for line in lines)
        return max(1, int(size * min(1.0, WIDTH * self._size[1] / max(widest, 1))))

    def _line_width(self, line: str, size: int) -> int:
        """Width of a line, px."""
        box = self._cv2.getTextSize((1 << 14, 1 << 10), line, (0, 512), self._font, size, WEIGHT)
        return int(box[2])


def _picture(cv2: Any, font: Any, character: str) -> np.ndarray:
    """A character as the font draws it; all that it lacks look the same."""
    empty = np.zeros((48, 64, 3), np.uint8)
    return cv2.putText(empty, character, (12, 32), (255, 255, 255), font, 24, WEIGHT)[1]
