"""What a session needs to know of an avatar, without its network and its plates."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.conventions import FEATURE_WINDOW, SAMPLE_RATE
from being.data.expression_channels import ExpressionChannels
from being.inference.animation.moods import MOODS, expression_names
from being.inference.engine import Engine
from being.session.motion import AvatarMotion

SILENCE_S = 3.0  # of silence from whose middle the features of silence are taken


@dataclass(frozen=True)
class AvatarFacts:
    """The facts of one avatar. They pass between processes as a file."""

    name: str
    size: int  # px
    encoder: str
    silent_row: np.ndarray  # float32 [16, C]: speech features of silence
    motion: AvatarMotion
    consent: dict[str, Any] | None
    consent_note: str

    @property
    def width(self) -> int:
        """C, channels of a speech feature."""
        return self.silent_row.shape[1]

    @property
    def consent_given(self) -> bool | None:
        """Whether the person agreed; None where nothing is recorded."""
        return None if self.consent is None else bool(self.consent.get("confirmed"))

    @property
    def moods(self) -> list[str]:
        """Names of the moods that the avatar can show."""
        names = set(self.motion.channels.names)
        return [mood for mood, weights in MOODS.items() if not weights or names & set(weights)]

    @property
    def expressions(self) -> list[str]:
        """Names of the expressions that the avatar can show."""
        return expression_names(self.motion.channels)

    def save(self, path: Path) -> None:
        """Write the facts to an .npz file; it appears when it is complete."""
        facts = {
            "name": self.name,
            "size": self.size,
            "encoder": self.encoder,
            "channels": self.motion.channels.to_dict(),
            "poses": self.motion.poses,
            "consent": self.consent,
            "consent_note": self.consent_note,
        }
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            silent_row=self.silent_row,
            expression=self.motion.expression,
        )
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> AvatarFacts:
        """The facts that `save` wrote."""
        with np.load(path) as file:
            facts = json.loads(file["facts"].tobytes())
            silent_row, expression = file["silent_row"], file["expression"]
        channels = ExpressionChannels.from_dict(facts["channels"])
        return cls(
            facts["name"],
            facts["size"],
            facts["encoder"],
            silent_row,
            AvatarMotion(facts["poses"], channels, expression),
            facts["consent"],
            facts["consent_note"],
        )


def avatar_facts(engine: Engine, name: str) -> AvatarFacts:
    """The facts of an engine's avatar. Raises as `Engine.check_encoder`."""
    avatar = engine.avatar
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
    rows = np.concatenate([block.numpy() for block in engine.encode(silence)])
    silent_row = rows[len(rows) // 2].astype(np.float32)
    assert silent_row.shape[0] == FEATURE_WINDOW, silent_row.shape
    return AvatarFacts(
        name,
        avatar.size,
        avatar.manifest["encoder"],
        silent_row,
        AvatarMotion(avatar.pose_count, avatar.channels, engine.expression),
        avatar.manifest.get("consent"),
        avatar.consent_note,
    )
