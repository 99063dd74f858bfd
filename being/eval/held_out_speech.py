"""Speech on which lips are judged, and from which nothing that ships has learnt what mouths do.

Three voices of Kokoro say list 1 of the Harvard sentences (IEEE Recommended Practice for Speech
Quality Measurements, 1969), whose phonemes are as frequent as in ordinary English. The readout of
pauses (`scripts/distil/pauses.py`) leaves these voices out. The causal speech encoder was distilled
with all voices of Kokoro, but it learns speech features, not mouths.
"""

from __future__ import annotations

HELD_OUT = "held-out"  # the name of this speech in `being eval --cross`
HELD_OUT_VOICES = ("af_nicole", "bm_lewis", "ff_siwis")
HELD_OUT_SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It is easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
)


def held_out_sources() -> list[str]:
    """The name of each voice's speech, for `cross_driven`."""
    return [f"{HELD_OUT}:{voice}" for voice in HELD_OUT_VOICES]


def voice_and_text(source: str) -> tuple[str, str] | None:
    """The voice and the text of a name of `held_out_sources`; None for any other."""
    kind, _, voice = source.partition(":")
    if kind != HELD_OUT or voice not in HELD_OUT_VOICES:
        return None
    return f"kokoro:{voice}", " ".join(HELD_OUT_SENTENCES)
