"""What a session needs to know of an avatar, without its network and its plates."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from being.audio.encoder_names import CAUSAL
from being.audio.feature_stream import FeatureStream
from being.conventions import ATTENTION_OFFSETS, CODE_OFFSETS
from being.data.expression_channels import ExpressionChannels
from being.inference.animation.moods import MOODS, expression_names
from being.inference.mouth_stream import MouthStream, live_stream
from being.model.coefficient_net import CoefficientNet
from being.model.voice_to_mouth import VoiceToMouth
from being.session.motion import AvatarMotion

# Of the tensors of the mapping, and of the coefficient net, in the file.
VOICE_PREFIX, NET_PREFIX = "voice.", "net."


@dataclass(frozen=True)
class AvatarFacts:
    """The facts of one avatar. They pass between processes as a file."""

    name: str
    size: int  # px
    encoder: str  # of live sessions
    silent_row: np.ndarray  # float32 [16, C]: the row of silence
    motion: AvatarMotion
    consent: dict[str, Any] | None
    consent_note: str
    # From the encoder's features to the mouth code; None: rows are speech features.
    voice: VoiceToMouth | None = None
    # Whether the render process computes the rows, for all sessions in one batch.
    batched: bool = False
    # What sessions say of themselves, see `being.provenance.mark`.
    mark: dict[str, Any] = field(default_factory=dict)
    # The look of its pictures, see `inference.live_look`; an avatar has facts for each look.
    look: str = "filmed"
    shown: tuple[int, int] | None = None  # px, width and height; None: size x size
    matte: bool = False  # a matte is stacked under the colours
    # What a client needs that draws by itself, computed by the front; None: the avatar has no
    # bases, or this look cannot be drawn so.
    net: CoefficientNet | None = None

    @property
    def key(self) -> str:
        """Names the avatar and its look."""
        return f"{self.name}\n{self.look}"

    @property
    def picture(self) -> tuple[int, int]:
        """Width and height of a picture, px, without its matte."""
        return self.shown or (self.size, self.size)

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height of what is encoded, px: with the matte."""
        width, height = self.picture
        return width, 2 * height if self.matte else height

    @property
    def picture_bytes(self) -> int:
        """Bytes of what is encoded, as I420."""
        width, height = self.coded
        return width * height * 3 // 2

    @property
    def can_be_batched(self) -> bool:
        """Whether `inference.mouth_batch` and `mouth_streams` can compute the rows."""
        return self.encoder == CAUSAL and self.voice is not None

    @property
    def width(self) -> int:
        """C, channels of a row: of a speech feature, or of the mouth code."""
        return self.silent_row.shape[1]

    @property
    def offsets(self) -> tuple[int, ...]:
        """The eight rows that a picture reads, relative to its own."""
        return ATTENTION_OFFSETS if self.voice is None else CODE_OFFSETS

    def stream(self) -> FeatureStream | MouthStream:
        """The rows of one utterance: audio in, rows float32 [k, 16, C] out.

        Raises as `live_stream`.
        """
        return live_stream(self.encoder, self.voice, self.width)

    @property
    def consent_given(self) -> bool | None:
        """Whether the person agreed; None where nothing is recorded."""
        return None if self.consent is None else bool(self.consent.get("confirmed"))

    @property
    def identity(self) -> str:
        """Identity of the avatar, hexadecimal; "" where it is not known."""
        return str(self.mark.get("avatar", {}).get("id", ""))

    @property
    def watermark(self) -> bool:
        """Whether the pixels of sessions carry the watermark."""
        return self.mark.get("watermark") is not None

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
            "voice": None if self.voice is None else self.voice.facts(),
            "batched": self.batched,
            "mark": self.mark,
            "look": self.look,
            "shown": self.shown,
            "matte": self.matte,
        }
        tensors: dict[str, Any] = {}
        for prefix, owner in ((VOICE_PREFIX, self.voice), (NET_PREFIX, self.net)):
            if owner is not None:
                tensors |= {prefix + name: value for name, value in owner.tensors().items()}
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            silent_row=self.silent_row,
            expression=self.motion.expression,
            **tensors,
        )
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> AvatarFacts:
        """The facts that `save` wrote."""
        with np.load(path) as file:
            facts = json.loads(file["facts"].tobytes())
            silent_row, expression = file["silent_row"], file["expression"]
            mapping, net = (
                {
                    name.removeprefix(prefix): file[name]
                    for name in file.files
                    if name.startswith(prefix)
                }
                for prefix in (VOICE_PREFIX, NET_PREFIX)
            )
        voice = VoiceToMouth.from_parts(mapping, facts["voice"]) if facts["voice"] else None
        channels = ExpressionChannels.from_dict(facts["channels"])
        return cls(
            facts["name"],
            facts["size"],
            facts["encoder"],
            silent_row,
            AvatarMotion(facts["poses"], channels, expression),
            facts["consent"],
            facts["consent_note"],
            voice,
            facts["batched"],
            facts["mark"],
            facts["look"],
            tuple(facts["shown"]) if facts["shown"] else None,
            facts["matte"],
            CoefficientNet.from_tensors(net) if net else None,
        )
