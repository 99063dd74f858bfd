"""The errors that a client of a live session sees, with a code that programs can tell apart."""

from __future__ import annotations

from being.errors import BeingError


class Refusal(BeingError):
    """A message, or a session, that is refused. Fatal ones end the session."""

    def __init__(self, name: str, what: str, why: str = "", fix: str = "", close: int = 0):
        """name: of the error in docs/protocol.md; close: close code of a fatal one, else 0."""
        super().__init__(what, why, fix)
        self.name, self.close = name, close
