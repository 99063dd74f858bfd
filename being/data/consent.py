"""The consent record of the person in a dataset, and its text in the metadata of videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from being.console import printable
from being.errors import UsageError

STATEMENT_MAX = 2000  # characters: every video carries the statement


def consent_note(consent: dict[str, Any] | None) -> str:
    """The sentence about consent in the metadata of every video of a person.

    consent: a record of `Consent.record`, or None.
    """
    if not consent or not consent.get("statement"):
        return "Consent of the person: unconfirmed"
    return f"Consent: {printable(str(consent['statement'])[:STATEMENT_MAX])}"


def consent_fault(consent: Any) -> str:
    """What is wrong with a consent record of a file, empty if nothing is."""
    if consent is None:
        return ""
    if not isinstance(consent, dict):
        return "its consent is not an object"
    statement = consent.get("statement", "")
    if not isinstance(statement, str):
        return "its consent statement is not a text"
    if len(statement) > STATEMENT_MAX:
        return f"its consent statement has {len(statement)} characters, not {STATEMENT_MAX} at most"
    return ""


@dataclass(frozen=True)
class Consent:
    """Who the person is and how they agreed; without a statement the consent is unconfirmed.

    Raises UsageError for a statement of more than STATEMENT_MAX characters.
    """

    statement: str | None = None

    def __post_init__(self) -> None:
        length = len(self.statement or "")
        if length > STATEMENT_MAX:
            raise UsageError(
                f"the consent statement has {length} characters",
                f"every video carries it, so it may have {STATEMENT_MAX}",
                "Shorten it: --consent TEXT",
            )

    def record(self) -> dict[str, Any]:
        """The record in `dataset.json` and in every avatar."""
        statement = (self.statement or "").strip()
        return {"confirmed": True, "statement": statement} if statement else {"confirmed": False}
