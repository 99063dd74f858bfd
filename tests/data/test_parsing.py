"""Parsing labels and their colours."""

from __future__ import annotations

import numpy as np

from being.conventions import PARSING_HEAD
from being.data.parsing import BACKGROUND, HEAD, decode_parsing, encode_parsing


def test_parsing_colours_round_trip_and_those_of_other_systems():
    labels = np.arange(4, dtype=np.uint8).repeat(6).reshape(4, 6)
    assert np.array_equal(decode_parsing(encode_parsing(labels)), labels)
    assert tuple(encode_parsing(labels)[1, 0]) == PARSING_HEAD
    other = np.array([[(0, 0, 0), (100, 100, 100), (255, 255, 255)]], np.uint8)
    assert decode_parsing(other).tolist() == [[HEAD, HEAD, BACKGROUND]]
