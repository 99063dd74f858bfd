"""Face parsing of a drawn person whose true parts are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_clip import draw_clip, overlap

from being.data.parsing import (
    BACKGROUND,
    HEAD,
    NECK,
    TORSO,
)
from being.preprocess.segmentation import clip_parsing
from being.preprocess.segmentation.clip_parsing import (
    ClipSegmenter,
    _parse_chunk,
    parse_clip,
)


@pytest.mark.parametrize("long_hair", [False, True])
def test_parts_of_a_drawn_person_are_found(long_hair):
    clip = draw_clip(long_hair=long_hair)
    parsed = list(parse_clip(clip.frames, clip.points, parser=clip.network()))
    assert len(parsed) == len(clip.frames)
    for parsing, truth in zip(parsed, clip.labels, strict=True):
        assert overlap(parsing.labels != BACKGROUND, truth != BACKGROUND) > 0.96
        assert overlap(parsing.labels == HEAD, truth == HEAD) > (0.9 if long_hair else 0.95)
        assert overlap(parsing.labels == TORSO, truth == TORSO) > 0.9
        assert overlap(parsing.labels == NECK, truth == NECK) > (0.6 if long_hair else 0.75)


def test_hair_that_hangs_over_the_cloth_belongs_to_the_head():
    """It covers half of what is below the chin, so its colour counted as that of the cloth."""
    clip = draw_clip(long_hair=True, hair_ends=170)
    for parsing, truth in zip(
        parse_clip(clip.frames, clip.points, parser=clip.network()), clip.labels, strict=True
    ):
        assert overlap(parsing.labels == HEAD, truth == HEAD) > 0.9
        # No line along the cut of the jaw: inside the head the alpha is whole.
        inside = cv2.erode((truth == HEAD).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert (parsing.head_alpha[inside] > 250).mean() > 0.98


def test_alpha_sharpens_the_network_and_agrees_with_the_labels():
    clip = draw_clip()
    for parsing, truth in zip(
        parse_clip(clip.frames, clip.points, parser=clip.network()), clip.labels, strict=True
    ):
        assert parsing.head_alpha.dtype == np.uint8
        assert overlap(parsing.head_alpha > 127, parsing.labels == HEAD) > 0.98
        error = np.abs(parsing.head_alpha / 255.0 - (truth == HEAD)).sum()
        edge = cv2.morphologyEx(
            (truth == HEAD).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
        ).sum()
        # Less than a pixel along the contour; the network's error is three.
        assert error < 0.9 * edge


def test_a_frame_without_a_face_takes_its_neighbours_landmarks():
    clip = draw_clip()
    clip.points[4] = np.nan
    parsed = list(parse_clip(clip.frames, clip.points, parser=clip.network()))
    assert overlap(parsed[4].labels == HEAD, clip.labels[4] == HEAD) > 0.93


def test_nothing_is_averaged_across_a_cut():
    clip = draw_clip(6)
    second = draw_clip(8)
    both = [*clip.frames, *second.frames]
    points = np.concatenate([clip.points, second.points])
    one, two = clip.network(), second.network()

    def person(frame: np.ndarray) -> np.ndarray:
        return one(frame) if any(frame is f for f in clip.frames) else two(frame)

    parsed = list(parse_clip(both, points, [(0, 6), (6, 14)], person))

    # The second segment again, with other frames before it.
    segmenter = ClipSegmenter.from_clip(both, points[:, :, :2], person)
    changed = [both[0]] * 6 + second.frames
    points = np.concatenate([np.repeat(clip.points[:1], 6, 0), second.points])
    segment = range(6, 14)
    again = _parse_chunk(segmenter, person, changed, points[:, :, :2], segment, segment)
    assert all(
        np.array_equal(a.head_alpha, b.head_alpha) for a, b in zip(parsed[6:], again, strict=True)
    )


def test_a_frame_that_flickers_takes_the_edge_of_its_neighbours():
    clip = draw_clip(12)
    good, count = clip.network(), [0]

    def person(frame: np.ndarray) -> np.ndarray:
        mask = good(frame)
        if frame is clip.frames[5]:
            count[0] += 1
            mask[:, :40, 40:80] = 0  # the network loses the top of the head in one frame
        return mask

    lost = list(parse_clip(clip.frames, clip.points, parser=person))[5]
    assert count[0] and overlap(lost.labels == HEAD, clip.labels[5] == HEAD) > 0.9


def test_the_number_of_workers_does_not_change_the_masks(monkeypatch):
    monkeypatch.setattr(clip_parsing, "CHUNK_FRAMES", 4)
    clip = draw_clip(12)
    one = list(parse_clip(clip.frames, clip.points, parser=clip.network(), workers=1))
    two = list(parse_clip(clip.frames, clip.points, parser=clip.network(), workers=3))
    assert all(
        np.array_equal(a.labels, b.labels) and np.array_equal(a.head_alpha, b.head_alpha)
        for a, b in zip(one, two, strict=True)
    )
