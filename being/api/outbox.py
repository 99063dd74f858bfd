"""What waits to be sent to one client: in order, bounded, and emptied of old epochs at once."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Letter:
    """A message to the client. Media have an epoch; control messages have None."""

    content: bytes | str
    epoch: int | None
    picture: bool
    time: float  # s, when it was put here


class Outbox:
    """A queue of messages for one writer."""

    def __init__(self, filled: Callable[[], None] = lambda: None) -> None:
        """filled: called when a message comes and none waited."""
        self._letters: deque[Letter] = deque()
        self._filled = filled
        self.bytes = 0
        self.pictures = 0

    def put_json(self, message: dict[str, Any], now: float) -> None:
        """Append a control message."""
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        self._put(Letter(text, None, False, now))

    def put_media(self, content: bytes, epoch: int, picture: bool, now: float) -> None:
        """Append a media packet."""
        self._put(Letter(content, epoch, picture, now))

    def drop_media(self, below: int) -> None:
        """Throw the media of epochs under `below` away."""
        kept = [letter for letter in self._letters if letter.epoch is None or letter.epoch >= below]
        self._letters = deque(kept)
        self.bytes = sum(len(letter.content) for letter in kept)
        self.pictures = sum(letter.picture for letter in kept)

    def oldest(self) -> float | None:
        """When the first message that waits was put here, s."""
        return self._letters[0].time if self._letters else None

    def take_all(self) -> list[bytes | str]:
        """All messages that wait, in order; none waits any more."""
        found = [letter.content for letter in self._letters]
        self._letters.clear()
        self.bytes = self.pictures = 0
        return found

    def _put(self, letter: Letter) -> None:
        first = not self._letters
        self._letters.append(letter)
        self.bytes += len(letter.content)
        self.pictures += letter.picture
        if first:
            self._filled()
