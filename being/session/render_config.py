"""What the render process is told when it is started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class RenderConfig:
    """What the render process is told, as JSON on its command line."""

    avatars: dict[str, str]  # name -> folder of the bundle
    facts: str  # folder where the facts are written, NUMBER.npz: avatar by avatar, look by look
    listener: int  # descriptor of the listening socket
    parent: int  # descriptor of a pipe that closes when the parent ends
    device: str
    precision: str
    rasterizer: str
    limit: int  # sessions; 0: as many as the device renders
    limit_by_address: int
    fronts: int  # front processes
    # Whether this process computes speech features; None: on a GPU, where the avatar allows it.
    batched_features: bool | None = None
    watermark: bool = True  # of the pictures
    deform: str = "network"  # what moves the Gaussians, or "bases"
    looks: tuple[str, ...] = ()  # beside that of the clip, see `inference.live_look`
    drawn_limit: int = 0  # sessions whose clients draw; 0: as many as the fronts can serve

    def to_json(self) -> str:
        """The configuration for the command line."""
        return json.dumps(asdict(self))
