"""The one error type users see, and the exit codes of every command."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of every `being` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # wrong flags or configuration
    ENVIRONMENT = 3  # something this machine lacks: a package, a compiler, a device, a model file
    REJECTED = 4  # the input will not do: not a video, no face, no sound, empty text
    QUALITY = 5  # a quality gate was missed
    INTERRUPTED = 130


class BeingError(Exception):
    """An error meant for a person: what is wrong, why, and what to do about it."""

    def __init__(self, what: str, why: str = "", fix: str = "", code: ExitCode = ExitCode.FAILED):
        self.what, self.why, self.fix, self.code = what, why, fix, code
        self.details: dict[str, Any] = {}  # what a caller of `--json` gets besides, of JSON types
        super().__init__(self.message())

    def message(self) -> str:
        """One to three sentences: what, why, what to do."""
        said = ": ".join(part for part in (self.what, self.why) if part)
        return f"{said.rstrip('.') if self.why else said}. {self.fix}" if self.fix else said


class UsageError(BeingError):
    """Flags or configuration that make no sense (exit code 2)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.USAGE)


class EnvironmentFault(BeingError):
    """Something this machine lacks (exit code 3)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.ENVIRONMENT)


class InputRejected(BeingError):
    """An input file or text that will not do (exit code 4)."""

    def __init__(self, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix, ExitCode.REJECTED)
