"""Parsing of the built-in sample against its true masks, by the measures of scripts/measure."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from needs import load_or_skip

from being.face.landmarks import FaceLandmarker
from being.media import read_frames
from being.preprocess.segmentation.background import background_plate
from being.preprocess.segmentation.clip_parsing import parse_clip
from being.preprocess.segmentation.parser import SelfieSegmentation
from being.preprocess.segmentation.torso_plates import TorsoPlates
from being.sample import sample_clip, sample_truth
from scripts.measure.masks import against_truth, edge_change

EVERY = 3  # of the frames that have a true mask


@pytest.fixture(scope="module")
def parsed():
    """Frames of the sample that have true masks, their parts, and the masks of head and person."""
    landmarker, network = load_or_skip(FaceLandmarker), load_or_skip(SelfieSegmentation)
    truth = sample_truth()
    chosen = {int(i) for i in truth["mask_frames"][::EVERY]}
    frames = [frame for i, frame in enumerate(read_frames(sample_clip())) if i in chosen]
    points = landmarker.track(frames, lambda done: None).points
    parts = list(parse_clip(frames, points, [(i, i + 1) for i in range(len(frames))], network))
    return frames, parts, truth["head_mask"][::EVERY], truth["person_mask"][::EVERY]


def test_head_of_the_sample_agrees_with_the_truth(parsed):
    _, parts, heads, people = parsed
    found = against_truth([p.head_alpha for p in parts], heads, people)
    assert found["iou"] > 0.98, found
    assert found["mae"] < 0.012, found
    assert found["lost_truth"] < 0.004, found  # hair and brow
    assert found["kept_truth"] < 0.004, found  # background


def test_plates_of_the_sample_are_the_frames_outside_the_head(parsed):
    frames, parts, _, _ = parsed
    background = background_plate(frames, lambda i: parts[i].labels)
    torso = TorsoPlates.from_clip(frames, lambda i: parts[i].labels, face_height=180)
    seam, outside = [], []
    for frame, part in list(zip(frames, parts, strict=True))[::4]:
        plate = torso.plate(frame, part.labels)
        over = np.where(plate[..., 3:] > 0, plate[..., :3], background)
        error = ((over.astype(np.float32) - frame) ** 2).mean(-1)
        clear = part.head_alpha == 0
        near = cv2.distanceTransform((part.head_alpha <= 127).astype(np.uint8), cv2.DIST_L2, 5) < 8
        outside.append(error[clear].mean())
        seam.append(error[clear & near].mean())
    assert 10 * np.log10(255**2 / np.mean(outside)) > 42
    assert 10 * np.log10(255**2 / np.mean(seam)) > 34


def test_edge_change_measures_motion_relative_to_the_face():
    disc = cv2.circle(np.zeros((128, 128), np.uint8), (60, 60), 30, (255,), -1, cv2.LINE_AA)
    points = np.random.default_rng(1).uniform(30, 90, (478, 2)).astype(np.float32)
    moved = cv2.warpAffine(disc, np.array([[1, 0, 4], [0, 1, 2]], np.float32), (128, 128))
    area, length = edge_change(disc, moved, points, points + (4, 2))
    assert area / length < 0.05
    area, length = edge_change(disc, moved, points, points)
    assert area / length > 1
