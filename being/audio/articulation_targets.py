"""Articulation of phones with known times: an articulation table and a coarticulation model.

The table gives each phone targets between 0 and 1 for eight articulators, and a strength: how much
the phone insists on its target. The coarticulation model (Cohen & Massaro 1993, "Modeling
coarticulation in synthetic visual speech") turns phones with times into trajectories. Each phone
has a dominance function for each articulator, which falls as a negative exponential of the time
before and after the phone. A trajectory is the mean of the targets, weighted by dominance.

Sources of the table:
- Vowels: height, backness and rounding of the vowel chart of the IPA. The jaw and the lips open
  with lower vowels, and rounding weakens with them (Ladefoged & Johnson, "A Course in Phonetics",
  chapters 1 and 9).
- Consonants: the rules and classes of Edwards et al. 2016 ("JALI"): p b m close the lips, f v bring
  the lower lip to the upper teeth, s z ʃ ʒ tʃ dʒ narrow the jaw so that the teeth nearly meet, and
  tongue-only phones (l n t d k ɡ ŋ) leave the lips to their neighbours. Rounding of ʃ and ɹ:
  Ladefoged & Johnson, chapter 3.
The sources give classes and orders, and no numbers on this scale. The numbers are ours.

Timing:
- Lips anticipate. JALI starts a phone's shape 120 ms before its apex, and 150 ms with protruded
  lips (after Bailly 1997). Rounding for u starts before the consonants that precede it, the earlier
  the more there are (Noiray et al. 2011, "Test of the movement expansion model"). Here, with phones
  of 80 ms, the rounding of u is a tenth 110 to 210 ms before the u starts. It is half 10 ms before
  it next to i, 30 ms next to a, and 70, 90 and 110 ms with one, two and three consonants after a.
- The lips touch for the whole hold of p b m, and meet up to 20 ms before it (JALI: "bilabials must
  close the lips"; Löfqvist & Gracco 1997: lips still move when they meet).
- A pause of 80 ms or more is neutral: lips together and at rest, all articulators at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from being.audio.ipa import ROUNDED_SIGNS, split_phone
from being.conventions import FEATURE_RATE

# The articulators, in the order of the channels. Aperture is the distance of the lips at the
# middle; closure is 1 where the lips are pressed together (at rest they touch lightly: 0).
ARTICULATORS = (
    "jaw",
    "aperture",
    "rounding",
    "spreading",
    "closure",
    "labiodental",
    "teeth",
    "tongue_tip",
)
JAW, APERTURE, ROUNDING, SPREADING, CLOSURE, LABIODENTAL, TEETH, TONGUE_TIP = range(8)

# How fast dominance falls: the time in which it falls to 1/e, s, before a phone and after it.
REACH_BEFORE = np.array([0.035, 0.025, 0.060, 0.045, 0.004, 0.010, 0.025, 0.015])
REACH_AFTER = np.array([0.030, 0.025, 0.040, 0.035, 0.004, 0.010, 0.020, 0.015])
# The same for phones that hold the lips (p b m f v): short, so that a vowel between two of them
# opens the lips.
FIRM_REACH = np.array([0.035, 0.008, 0.060, 0.045, 0.004, 0.008, 0.025, 0.015])
PAUSE_REACH = np.array([0.025, 0.020, 0.020, 0.020, 0.004, 0.008, 0.015, 0.015])
# Full dominance begins this far inside a phone and ends this far before its end, s. In a phone of
# up to twice this length dominance is full at its centre alone, as in the paper.
MARGIN = np.array([0.030, 0.020, 0.030, 0.030, 0.000, 0.000, 0.020, 0.010])
# The same for pauses, at their start and before speech: the mouth opens ahead of the sound.
PAUSE_START = np.array([0.060, 0.060, 0.020, 0.020, 0.000, 0.000, 0.020, 0.020])
PAUSE_LEAD = np.array([0.120, 0.120, 0.030, 0.050, 0.000, 0.000, 0.060, 0.040])
# Dominance is not followed further than this, s.
CUTOFF = 0.5
# A stretch without phones of this length is a pause, s. A shorter one belongs to the phone before.
PAUSE = 0.08


@dataclass(frozen=True)
class Articulation:
    """Targets of one phone, float64 [8] in 0..1 in the order of ARTICULATORS, and their strength.

    strength: float64 [8] in 0..1 (exclusive). 0.5 counts as much as another phone of 0.5; towards 1
    a phone does not yield (p b m: closure). firm: lips hold their place for the whole phone.
    """

    targets: np.ndarray
    strength: np.ndarray
    firm: bool = False


def articulation_targets(phones: Sequence[tuple[str, float, float]], steps: int) -> np.ndarray:
    """Trajectories float32 [steps, 8] in 0..1 of the ARTICULATORS; step k is at (k + 1/2) / 50 s.

    phones: (IPA phone, start s, end s) in order of time, as in `tts.Speech.phones`. The time of a
    phone of several letters (diphthongs, affricates) is divided equally among them. Stretches of
    PAUSE and more without a phone are neutral. Asserts that all phones are known (`known_phone`).
    """
    times = (np.arange(steps) + 0.5) / FEATURE_RATE
    weighted = np.zeros((steps, len(ARTICULATORS)))
    total = np.zeros((steps, len(ARTICULATORS)))
    for articulation, start, end in _timed(phones, steps / FEATURE_RATE):
        # Only the steps that the phone reaches.
        first = max(0, int((start - CUTOFF) * FEATURE_RATE))
        stop = max(first, min(steps, int((end + CUTOFF) * FEATURE_RATE) + 1))
        dominance = _dominance(articulation, start, end, times[first:stop])
        weighted[first:stop] += dominance * articulation.targets
        total[first:stop] += dominance
    return (weighted / np.maximum(total, 1e-12)).astype(np.float32)


def known_phone(phone: str) -> bool:
    """True if the table has all letters of `phone`, and at least one."""
    letters = split_phone(phone)
    return bool(letters) and all(letter in _table() for letter, _ in letters)


def phone_articulations(phone: str) -> list[Articulation]:
    """The articulations of a phone, one for each of its letters, in order of time."""
    assert known_phone(phone), f"no articulation is known for {phone!r}"
    found = []
    for letter, signs in split_phone(phone):
        articulation = _table()[letter]
        if any(sign in ROUNDED_SIGNS for sign in signs):
            articulation = _rounded(articulation)
        found.append(articulation)
    return found


def _timed(
    phones: Sequence[tuple[str, float, float]], seconds: float
) -> list[tuple[Articulation, float, float]]:
    """The articulations with their start and end, s, and pauses where no phone is."""
    timed: list[tuple[Articulation, float, float]] = []
    reached = 0.0
    for index, (phone, start, end) in enumerate(phones):
        assert end >= start >= reached - 1e-3, (phone, start, end, reached)
        if start - reached >= PAUSE or (index == 0 and start > 0):
            timed.append((SILENCE, reached, start))
        following = phones[index + 1][1] if index + 1 < len(phones) else end
        reached = end
        if following - end < PAUSE:
            end = max(end, following)
        letters = phone_articulations(phone)
        for k, articulation in enumerate(letters):
            begin = start + k * (end - start) / len(letters)
            timed.append((articulation, begin, begin + (end - start) / len(letters)))

    # Silence follows the last phone, also past the end.
    timed.append((SILENCE, reached, max(seconds, reached) + CUTOFF))
    if not phones:
        return [(SILENCE, 0.0, seconds)]
    return timed


def _dominance(
    articulation: Articulation, start: float, end: float, times: np.ndarray
) -> np.ndarray:
    """Dominance float64 [S, 8] of a phone at `times` [S], s: alpha * exp(-distance / reach).

    The distance is the time outside of the stretch of full dominance.
    """
    if articulation is SILENCE:
        margins, reaches = (PAUSE_START, PAUSE_LEAD), (PAUSE_REACH, PAUSE_REACH)
    elif articulation.firm:
        margins, reaches = (np.zeros_like(MARGIN),) * 2, (FIRM_REACH, FIRM_REACH)
    else:
        margins, reaches = (MARGIN, MARGIN), (REACH_BEFORE, REACH_AFTER)

    # A short phone has full dominance at one moment alone.
    shrink = np.minimum(1, (end - start) / np.maximum(margins[0] + margins[1], 1e-9))
    before = np.maximum(start + shrink * margins[0] - times[:, None], 0)
    after = np.maximum(times[:, None] - (end - shrink * margins[1]), 0)

    # Strength counts as odds, so that a phone that does not yield outweighs any neighbours.
    alpha = articulation.strength / (1 - articulation.strength)
    return alpha * np.exp(-before / reaches[0] - after / reaches[1])


def _articulation(**articulators: tuple[float, float]) -> Articulation:
    """An articulation of `name=(target, strength)`. Of closure, labiodental, teeth and tongue tip
    all phones have a target: 0 at strength 0.5 where none is given. Other articulators that are not
    given have no strength to speak of.
    """
    values = dict.fromkeys(("closure", "labiodental", "teeth", "tongue_tip"), (0.0, 0.5))
    values |= articulators
    targets, strength = np.zeros(len(ARTICULATORS)), np.full(len(ARTICULATORS), 0.02)
    for name, (target, weight) in values.items():
        targets[ARTICULATORS.index(name)] = target
        strength[ARTICULATORS.index(name)] = weight
    return Articulation(targets, strength)


def _firm(**articulators: tuple[float, float]) -> Articulation:
    """The same, of a phone that holds the lips."""
    return replace(_articulation(**articulators), firm=True)


def _rounded(articulation: Articulation) -> Articulation:
    """The articulation with rounded lips (the signs ʷ and ᵝ)."""
    targets, strength = articulation.targets.copy(), articulation.strength.copy()
    targets[ROUNDING], strength[ROUNDING] = max(0.7, targets[ROUNDING]), 0.7
    targets[SPREADING] = 0.0
    return Articulation(targets, strength, articulation.firm)


# Lips together at rest.
SILENCE = _articulation(**{name: (0.0, 0.6) for name in ARTICULATORS})

# Vowels of the IPA chart: openness 0 (close) to 6 (open), then the letters front unrounded, front
# rounded, central unrounded, central rounded, back unrounded, back rounded.
_VOWELS = {
    0: ("i", "y", "ɨ", "ʉ", "ɯ", "u"),
    1: ("ɪ", "ʏ", "", "", "", "ʊ"),
    2: ("e", "ø", "ɘ", "ɵ", "ɤ", "o"),
    3: ("", "", "ə", "", "", ""),
    4: ("ɛ", "œ", "ɜɝɚ", "ɞ", "ʌ", "ɔ"),
    5: ("æ", "", "ɐ", "", "", ""),
    6: ("a", "ɶ", "", "", "ɑ", "ɒ"),
}


def _vowel(openness: float, place: int, rounded: bool) -> Articulation:
    """A vowel: openness 0 (close) to 1 (open); place 0 front, 1 central, 2 back."""
    front = 1 - place / 2
    if rounded:
        # Rounding is full in close vowels and weak in open ones.
        return _articulation(
            jaw=(0.15 + 0.75 * openness, 0.55),
            aperture=(0.15 + 0.55 * openness, 0.6),
            rounding=(1 - 0.65 * openness, 0.8),
            spreading=(0.0, 0.7),
        )
    return _articulation(
        jaw=(0.15 + 0.85 * openness, 0.55),
        aperture=(0.25 + 0.75 * openness, 0.5),
        rounding=(0.0, 0.55 + 0.2 * front * (1 - openness)),
        spreading=(front * (1 - 0.75 * openness), 0.3 + 0.4 * front * (1 - openness)),
        teeth=(0.4 * front * (1 - 0.7 * openness), 0.4),
    )


def _consonants() -> dict[str, Articulation]:
    """Consonants, by letters of the same articulation."""
    free = {"jaw": (0.2, 0.25), "aperture": (0.3, 0.2), "rounding": (0.0, 0.1)}
    groups = {
        # The lips.
        "pbmɓʙ": _firm(
            jaw=(0.1, 0.4),
            aperture=(0.0, 0.97),
            rounding=(0.0, 0.1),
            closure=(1.0, 0.97),
        ),
        "ɸβ": _articulation(
            jaw=(0.15, 0.4), aperture=(0.1, 0.8), rounding=(0.3, 0.4), closure=(0.2, 0.6)
        ),
        "fvɱ": _firm(
            jaw=(0.12, 0.5),
            aperture=(0.12, 0.9),
            rounding=(0.0, 0.2),
            labiodental=(1.0, 0.95),
            teeth=(0.4, 0.6),
        ),
        "ʋ": _articulation(
            jaw=(0.15, 0.4), aperture=(0.18, 0.7), labiodental=(0.7, 0.8), teeth=(0.2, 0.5)
        ),
        "wʍ": _articulation(
            jaw=(0.12, 0.45), aperture=(0.1, 0.8), rounding=(1.0, 0.85), spreading=(0.0, 0.7)
        ),
        "ɥ": _articulation(
            jaw=(0.12, 0.45), aperture=(0.12, 0.75), rounding=(0.9, 0.82), spreading=(0.0, 0.7)
        ),
        # The teeth nearly meet.
        "szʐ": _articulation(
            jaw=(0.05, 0.85),
            aperture=(0.3, 0.5),
            rounding=(0.0, 0.2),
            spreading=(0.35, 0.3),
            teeth=(1.0, 0.85),
        ),
        "ʃʒ": _articulation(
            jaw=(0.05, 0.85),
            aperture=(0.35, 0.55),
            rounding=(0.65, 0.65),
            spreading=(0.0, 0.4),
            teeth=(0.85, 0.8),
        ),
        "ʂ": _articulation(
            jaw=(0.05, 0.85), aperture=(0.32, 0.5), rounding=(0.35, 0.45), teeth=(0.85, 0.8)
        ),
        "ɕʑ": _articulation(
            jaw=(0.05, 0.85),
            aperture=(0.3, 0.5),
            rounding=(0.1, 0.3),
            spreading=(0.4, 0.4),
            teeth=(0.9, 0.8),
        ),
        # The tip of the tongue.
        "θð": _articulation(
            jaw=(0.2, 0.5),
            aperture=(0.3, 0.5),
            rounding=(0.0, 0.15),
            teeth=(0.5, 0.6),
            tongue_tip=(1.0, 0.9),
        ),
        "lɫɬɮɭ": _articulation(**free | {"jaw": (0.3, 0.35), "tongue_tip": (0.7, 0.75)}),
        "tdnɾrɗ": _articulation(
            **free | {"jaw": (0.15, 0.45), "teeth": (0.5, 0.5), "tongue_tip": (0.4, 0.6)}
        ),
        "ʈɖɳɽɺ": _articulation(**free | {"teeth": (0.4, 0.45), "tongue_tip": (0.15, 0.5)}),
        "ɹɻ": _articulation(
            jaw=(0.2, 0.4), aperture=(0.25, 0.45), rounding=(0.5, 0.55), spreading=(0.0, 0.4)
        ),
        # The tongue alone: the lips belong to the neighbours.
        "kɡxɣŋqɢɴχʁʀɠʛɰ": _articulation(**free),
        "cɟɲʎç": _articulation(**free | {"spreading": (0.4, 0.3), "teeth": (0.3, 0.4)}),
        "jʝ": _articulation(
            jaw=(0.15, 0.4),
            aperture=(0.25, 0.4),
            rounding=(0.0, 0.3),
            spreading=(0.8, 0.6),
            teeth=(0.4, 0.4),
        ),
        # The mouth has the shape of its neighbours.
        "hɦħʕʔʜʢ": _articulation(),
    }
    return {letter: articulation for letters, articulation in groups.items() for letter in letters}


@lru_cache(maxsize=1)
def _table() -> dict[str, Articulation]:
    """The articulation of each base letter."""
    table = _consonants()
    for openness, row in _VOWELS.items():
        for column, letters in enumerate(row):
            for letter in letters:
                table[letter] = _vowel(openness / 6, column // 2, column % 2 == 1)
    # Vowels with the colour of r have its rounding, by half.
    for letter in "ɝɚ":
        vowel = table[letter]
        targets, strength = vowel.targets.copy(), vowel.strength.copy()
        targets[ROUNDING], strength[ROUNDING] = 0.35, 0.5
        table[letter] = Articulation(targets, strength)
    return table
