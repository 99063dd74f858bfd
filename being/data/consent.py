"""The consent record of the person in a dataset, and its text in the metadata of videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def consent_note(consent: dict[str, Any] | None) -> str:
    """The sentence about consent in the metadata of every video of a person.

    consent: a record of `Consent.record`, or None.
    """
    if not consent or not consent.get("statement"):
        return "Consent of the person: unconfirmed"
    return f"Consent: {consent['statement']}"


@dataclass(frozen=True)
class Consent:
    """Who the person is and how they agreed; without a statement the consent is unconfirmed."""

    statement: str | None = None

    def record(self) -> dict[str, Any]:
        """The record in `dataset.json` and in every avatar."""
        statement = (self.statement or "").strip()
        return {"confirmed": True, "statement": statement} if statement else {"confirmed": False}
