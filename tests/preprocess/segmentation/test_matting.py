"""Masks of a drawn person whose true parts are known; the palette; the labels on disk."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from drawn_clip import draw_clip

from being.conventions import PARSING_HEAD
from being.data.parsing import decode_parsing, encode_parsing
from being.preprocess.segmentation.matting import (
    BACKGROUND,
    HEAD,
    NECK,
    TORSO,
    Matting,
    _parse_piece,
    parse_clip,
)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


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
        assert error < 0.9 * edge  # under a pixel along the contour; the network is wrong by three


def test_a_frame_without_a_face_takes_its_neighbours_landmarks():
    clip = draw_clip()
    clip.points[4] = np.nan
    parsed = list(parse_clip(clip.frames, clip.points, parser=clip.network()))
    assert overlap(parsed[4].labels == HEAD, clip.labels[4] == HEAD) > 0.93


def test_nothing_is_averaged_across_a_break():
    clip = draw_clip(12)
    whole = draw_clip(20)
    both = [*clip.frames, *whole.frames]
    points = np.concatenate([clip.points, whole.points])
    one, two = clip.network(), whole.network()

    def person(frame: np.ndarray) -> np.ndarray:
        return one(frame) if any(frame is f for f in clip.frames) else two(frame)

    parsed = list(parse_clip(both, points, [(0, 12), (12, 32)], person))
    changed = [both[0]] * 12 + whole.frames
    points = np.concatenate([np.repeat(clip.points[:1], 12, 0), whole.points])
    matting = Matting.learn(both, np.concatenate([clip.points, whole.points])[:, :, :2], person)
    shot = range(12, 32)
    again = _parse_piece(matting, person, changed, points[:, :, :2], shot, shot)
    assert all(
        np.array_equal(a.head_alpha, b.head_alpha) for a, b in zip(parsed[12:], again, strict=True)
    )


def test_a_frame_that_flickers_takes_its_neighbours_edge():
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


def test_the_order_of_work_does_not_change_the_masks():
    clip = draw_clip(40)
    one = list(parse_clip(clip.frames, clip.points, parser=clip.network(), workers=1))
    two = list(parse_clip(clip.frames, clip.points, parser=clip.network(), workers=3))
    assert all(
        np.array_equal(a.labels, b.labels) and np.array_equal(a.head_alpha, b.head_alpha)
        for a, b in zip(one, two, strict=True)
    )


def test_palette_round_trip_and_other_members_colours():
    labels = np.arange(4, dtype=np.uint8).repeat(6).reshape(4, 6)
    assert np.array_equal(decode_parsing(encode_parsing(labels)), labels)
    assert tuple(encode_parsing(labels)[1, 0]) == PARSING_HEAD
    other = np.array([[(0, 0, 0), (100, 100, 100), (255, 255, 255)]], np.uint8)
    assert decode_parsing(other).tolist() == [[HEAD, HEAD, BACKGROUND]]
