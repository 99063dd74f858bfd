"""Expressions and moods by name, as weights of expression channels."""

from __future__ import annotations

from collections.abc import Mapping

from being.data.expression_channels import CHANNEL_OF_ACTION_UNIT, ExpressionChannels
from being.errors import UsageError

ChannelWeights = Mapping[str, float]  # by channel name

# Expressions besides the channels themselves (`being.data.expression_channels`) and the action
# units (AU12): the channel weights of the value 1.
EXPRESSIONS: dict[str, ChannelWeights] = {
    "brow_raise": {"brow_inner_up": 1.0, "brow_outer_up": 1.0},
    "eye_wide": {"lid_up": 1.0},
    "squint": {"lid_tight": 1.0},
    "look_right": {"gaze_right": 1.0},  # of the image
    "look_left": {"gaze_right": -1.0},
    "look_up": {"gaze_up": 1.0},
    "look_down": {"gaze_up": -1.0},
}
MOODS: dict[str, ChannelWeights] = {
    "neutral": {},
    "happy": {"smile": 0.7, "cheek_up": 0.5, "brow_inner_up": 0.1, "brow_outer_up": 0.15},
    "serious": {"brow_down": 0.5, "lid_tight": 0.3, "lip_press": 0.2},
    "surprised": {"brow_inner_up": 0.8, "brow_outer_up": 0.8, "lid_up": 0.7},
}


def expression_names(channels: ExpressionChannels) -> list[str]:
    """The names of all expressions that an avatar with these channels can show."""
    available = set(channels.names)
    composed = [name for name, weights in EXPRESSIONS.items() if set(weights) <= available]
    return [*channels.names, *composed]


def channel_weights(name: str, channels: ExpressionChannels) -> ChannelWeights:
    """The channel weights of an expression of value 1.

    name: an expression, a channel or an action unit. Raises UsageError for one that the avatar
    lacks.
    """
    weights = EXPRESSIONS.get(name) or {CHANNEL_OF_ACTION_UNIT.get(name.upper(), name): 1.0}
    if not set(weights) <= set(channels.names):
        raise UsageError(
            f"the avatar has no expression '{name}'",
            fix=f"It has {', '.join(expression_names(channels))}",
        )
    return weights


def mood_weights(name: str, channels: ExpressionChannels) -> ChannelWeights:
    """The channel weights of a mood, without the channels that the avatar lacks.

    Raises UsageError for an unknown mood, and for one of which the avatar has no channel.
    """
    if name not in MOODS:
        raise UsageError(f"unknown mood '{name}'", fix=f"Use one of {', '.join(MOODS)}")
    weights = {
        channel: value for channel, value in MOODS[name].items() if channel in channels.names
    }
    if MOODS[name] and not weights:
        raise UsageError(
            f"the avatar cannot look {name}",
            f"its only expression channels are {', '.join(channels.names)}",
            "Train it with -o data.expression=full",
        )
    return weights
