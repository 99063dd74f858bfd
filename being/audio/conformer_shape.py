"""Sizes that the phoneme conformer and its causal form have in common."""

from __future__ import annotations

# Samples at 16 kHz between mel frames.
MEL_HOP = 160
# Samples under one mel frame.
MEL_WINDOW = 400
# Power below which the logarithm is clamped.
MEL_FLOOR = 1e-10
# Mel frames a step: 50 steps/s.
SUBSAMPLING = 2
HEADS = 4
