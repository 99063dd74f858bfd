"""How sessions are spread: what `being serve --ray` is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from being.api.supervisor import ServeOptions
from being.errors import UsageError

TARGET_SHARE = 0.8  # of its sessions that a replica has on average, where replicas come and go
REPLICAS = re.compile(r"([0-9]{1,4})(?::([0-9]{1,4}))?")


@dataclass(frozen=True)
class Plan:
    """Replicas of the live server, and how clients reach them."""

    serve: ServeOptions  # of each replica; host and port are those that clients ask for a place
    key: str  # signs tickets, hexadecimal
    replicas: tuple[int, int] = (1, 1)  # fewest and most
    proxied: bool = False  # media pass through the one port; else they go to the replica's own
    cpus: float = 1.0  # of a replica, as Ray counts them
    gpus: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)  # of a replica: endpoints, keys
    drain_s: float = 3600.0  # that a replica which is no longer needed waits for its sessions
    upscale_delay_s: float = 5.0
    downscale_delay_s: float = 60.0

    @property
    def limit(self) -> int:
        """Sessions of a replica."""
        return self.serve.limit

    @property
    def secure(self) -> bool:
        """Whether clients connect by TLS."""
        return self.serve.certificate is not None


def parse_replicas(text: str) -> tuple[int, int]:
    """The fewest and the most replicas of "2" or "1:8". Raises UsageError."""
    match = REPLICAS.fullmatch(text)
    fewest = int(match[1]) if match else 0
    most = int(match[2] or match[1]) if match else 0
    if not 1 <= fewest <= most:
        raise UsageError(
            f"--replicas {text[:40]} cannot be used",
            "it is the number of replicas, or the fewest and the most, from 1 on",
            "Write for instance --replicas 2, or --replicas 1:8",
        )
    return fewest, most
