"""The result of one check, and how a door's status becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from being.errors import BeingError
from being.reading.content import reason

OK, WARNING, FAILURE = "ok", "warning", "failure"
PROGRAMS = ("pip", "apt", "being")  # names of programs that advice begins with


@dataclass(frozen=True)
class Check:
    """What was found: `level` is OK, WARNING or FAILURE; `fix` is the one thing to do."""

    name: str
    level: str
    what: str
    fix: str = ""

    def line(self) -> str:
        """The check on one line."""
        text = f"{self.level:<8} {self.name:<25} {self.what}"
        return " ".join(f"{text}. {self.fix}".split("\n")) if self.fix else text


def of_status(name: str, status: str, level: str) -> Check:
    """The check of a door's status: "OK", "OK (detail)", or "reason; what to do".

    level: the level of a status that is not OK.
    """
    if status.startswith("OK"):
        return Check(name, OK, status[2:].strip().removeprefix("(").removesuffix(")") or "works")
    what, _, fix = status.partition("; ")
    is_command = fix.split(" ")[0] in PROGRAMS
    return Check(name, level, what, fix if is_command else fix[:1].upper() + fix[1:])


def guarded(name: str, examine: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks that `examine` yields; what it raises is a failure too: a doctor never dies."""
    done: list[Check] = []
    try:
        for check in examine():
            done.append(check)
    except BeingError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        done.append(Check(name, FAILURE, why, error.fix))
    except ModuleNotFoundError as error:
        what = f"the package {error.name} is not installed"
        done.append(Check(name, FAILURE, what, "pip install 'being[all]'"))
    except Exception as error:
        fix = "Install the package again: pip install --force-reinstall being"
        done.append(Check(name, FAILURE, f"{type(error).__name__}: {reason(error)}", fix))
    return done
