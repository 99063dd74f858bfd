"""What a video file, a folder of pictures and their audio say of themselves."""

from __future__ import annotations

from being.media.writing import FileMarks
from being.provenance.content_credentials import Seal, SigningKey
from being.provenance.mark import Mark, xmp_of


def file_marks(mark: Mark, key: SigningKey | None = None, note: str = "") -> FileMarks:
    """The marks for a writer of videos or pictures.

    key: signs the files; None: they are not signed. note: for people, before the one on consent.
    """
    facts = mark.facts()
    told = ". ".join(filter(None, (note, mark.consent_note)))
    seal = None if key is None else Seal(key, facts)
    return FileMarks(told, mark.text(), mark.made, xmp_of(facts), seal)
