"""The error types that users see, and the exit codes of every command."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of every `being` command."""

    DONE = 0
    FAILED = 1
    # wrong flags or configuration
    USAGE = 2
    # the machine lacks something: a package, a compiler, a device, a model file
    ENVIRONMENT = 3
    # the input cannot be used: not a video, no face, no audio, empty text
    REJECTED = 4
    # a quality gate was missed
    QUALITY = 5
    INTERRUPTED = 130


# Characters of each part of an error: a field of a foreign file may be of any length.
PART_MAX = 1000


class BeingError(Exception):
    """An error that a user sees: what is wrong, why, and what to do about it."""

    def __init__(self, what: str, why: str = "", fix: str = "", code: ExitCode = ExitCode.FAILED):
        self.what, self.why, self.fix = _shortened(what), _shortened(why), _shortened(fix)
        self.code = code
        # More facts for callers with `--json`, of JSON types.
        self.details: dict[str, Any] = {}
        super().__init__(self.message())

    def message(self) -> str:
        """One to three sentences: what, why, what to do."""
        text = ": ".join(part for part in (self.what, self.why) if part)
        if not self.fix:
            return text
        return f"{text.rstrip('.') if self.why else text}. {self.fix}"


def _shortened(text: str) -> str:
    """The text, without its middle when it is longer than PART_MAX."""
    if len(text) <= PART_MAX:
        return text
    return f"{text[: PART_MAX - 203]}...{text[-200:]}"


class UsageError(BeingError):
    """Wrong flags or configuration (exit code 2)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.USAGE)


class EnvironmentFault(BeingError):
    """The machine lacks something (exit code 3)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.ENVIRONMENT)


class InputRejected(BeingError):
    """An input file or text that cannot be used (exit code 4)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.REJECTED)
