"""What people call expressions, the channels they mean, and the moods."""

from __future__ import annotations

from collections.abc import Mapping

from being.data.expression_channels import UNITS, Channels
from being.errors import UsageError

Shares = Mapping[str, float]  # of channels, by name

# Names beside the channels' own (`data.expression`) and the action units' (AU12): what 1 of them
# is.
NAMES: dict[str, Shares] = {
    "brow_raise": {"brow_inner_up": 1.0, "brow_outer_up": 1.0},
    "eye_wide": {"lid_up": 1.0},
    "squint": {"lid_tight": 1.0},
    "look_right": {"gaze_right": 1.0},  # of the picture
    "look_left": {"gaze_right": -1.0},
    "look_up": {"gaze_up": 1.0},
    "look_down": {"gaze_up": -1.0},
}
MOODS: dict[str, Shares] = {
    "neutral": {},
    "happy": {"smile": 0.7, "cheek_up": 0.5, "brow_inner_up": 0.1, "brow_outer_up": 0.15},
    "serious": {"brow_down": 0.5, "lid_tight": 0.3, "lip_press": 0.2},
    "surprised": {"brow_inner_up": 0.8, "brow_outer_up": 0.8, "lid_up": 0.7},
}


def known(channels: Channels) -> list[str]:
    """Names of expressions that an avatar of these channels can be asked for."""
    return [
        *channels.names,
        *(name for name, shares in NAMES.items() if set(shares) <= set(channels.names)),
    ]


def shares_of(name: str, channels: Channels) -> Shares:
    """What 1 of an expression is, by channel. Raises UsageError for one that the avatar does not
    have.
    """
    shares = NAMES.get(name) or {UNITS.get(name.upper(), name): 1.0}
    if not set(shares) <= set(channels.names):
        raise UsageError(
            f"the avatar has no expression '{name}'", fix=f"It has {', '.join(known(channels))}"
        )
    return shares


def mood(name: str, channels: Channels) -> Shares:
    """A mood's values by channel; channels that the avatar lacks are left out.

    Raises UsageError for an unknown mood, and for one of which the avatar has no channel.
    """
    if name not in MOODS:
        raise UsageError(f"unknown mood '{name}'", fix=f"One of {', '.join(MOODS)}")
    shares = {channel: value for channel, value in MOODS[name].items() if channel in channels.names}
    if MOODS[name] and not shares:
        raise UsageError(
            f"the avatar cannot look {name}",
            f"of expression it has only {', '.join(channels.names)}",
            "Train it with -o data.expression=full",
        )
    return shares
