"""Whose face a dataset shows, and how this person agreed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def consent_note(consent: dict[str, Any] | None) -> str:
    """What the metadata of every video of a person say of their consent record."""
    if not consent or not consent.get("statement"):
        return "Consent of the person: unconfirmed"
    return f"Consent: {consent['statement']}"


@dataclass(frozen=True)
class Consent:
    """Whose face it is and how they agreed; without a statement the consent is unconfirmed."""

    statement: str | None = None

    def record(self) -> dict[str, Any]:
        """As `dataset.json` and every avatar carry it."""
        statement = (self.statement or "").strip()
        return {"confirmed": True, "statement": statement} if statement else {"confirmed": False}
