"""The articulation table and the coarticulation model: what lips do, and when."""

from __future__ import annotations

import numpy as np
import pytest

from being.audio import articulation_targets as model
from being.audio.articulation_targets import (
    APERTURE,
    CLOSURE,
    JAW,
    LABIODENTAL,
    ROUNDING,
    SPREADING,
    TEETH,
    TONGUE_TIP,
    articulation_targets,
    known_phone,
)
from being.audio.ipa import split_phone
from being.audio.phonemes import PHONEME_CLASSES

# Letters and signs of the Kokoro family's vocabulary that stand for sounds.
KOKORO = "ʣʥʦʨꭧAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔᵻ"
START = 0.5


def phones_of(text: str, seconds: float = 0.08) -> list[tuple[str, float, float]]:
    """The phones of `text`, divided by spaces, one after the other from START on."""
    return [
        (phone, START + k * seconds, START + (k + 1) * seconds)
        for k, phone in enumerate(text.split())
    ]


def trajectories(text: str, seconds: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    """Times [S] and trajectories [S, 8] of `phones_of(text)` and half a second after them."""
    phones = phones_of(text, seconds)
    steps = round((phones[-1][2] + 0.5) * 50)
    return (np.arange(steps) + 0.5) / 50, articulation_targets(phones, steps)


def held(text: str, phone: int, seconds: float = 0.08) -> np.ndarray:
    """The steps [s, 8] inside the phone of this number."""
    times, values = trajectories(text, seconds)
    _, start, end = phones_of(text, seconds)[phone]
    return values[(times >= start) & (times <= end)]


def half_time(times: np.ndarray, values: np.ndarray) -> float:
    """The first time at which `values` reaches half of its largest value."""
    return float(times[np.argmax(values >= values.max() / 2)])


def test_the_result_has_one_row_for_each_step_of_the_encoders():
    _, values = trajectories("m a m a")
    assert values.dtype == np.float32 and values.shape[1] == len(model.ARTICULATORS) == 8
    assert values.min() >= 0 and values.max() <= 1
    # Step k is at (k + 1/2) / 50 s, like a feature step: p from 0.5 to 0.6 s are the steps 25 to 29
    closed = articulation_targets([("p", 0.5, 0.6)], 60)[:, CLOSURE] > 0.9
    assert np.flatnonzero(closed).tolist() == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("phone", ["p", "b", "m", "pʰ", "mː"])
@pytest.mark.parametrize("before, after", [("a", "a"), ("i", "u"), ("s", "l")])
@pytest.mark.parametrize("seconds", [0.05, 0.08, 0.2])
def test_the_lips_are_closed_for_the_whole_hold_of_p_b_m(phone, before, after, seconds):
    hold = held(f"{before} {phone} {after}", 1, seconds)
    assert hold[:, CLOSURE].min() > 0.95
    assert hold[:, APERTURE].max() < 0.05


def test_the_lips_part_between_two_closures():
    times, values = trajectories("p a p")
    vowel = (times > START + 0.08) & (times < START + 0.16)
    assert values[vowel, APERTURE].max() > 0.4 and values[vowel, CLOSURE].min() < 0.1
    # The lips meet at most one step before the hold.
    assert values[times < START - 0.02, CLOSURE].max() < 0.05


def test_u_rounds_before_its_start_and_earlier_after_more_consonants():
    leads = []
    for consonants in ("", "t", "s t", "k s t"):
        text = f"a {consonants} u".split()
        times, values = trajectories(" ".join(text))
        start = START + 0.08 * (len(text) - 1)
        leads.append(start - half_time(times, values[:, ROUNDING]))
        onset = times[np.argmax(values[:, ROUNDING] > 0.1)]
        assert 0.1 <= start - onset <= 0.25
    assert leads[0] > 0.02 and leads == sorted(leads) and leads[-1] > leads[0] + 0.06, leads
    # After a pause too.
    times, values = trajectories("u")
    assert 0.0 < START - half_time(times, values[:, ROUNDING]) < 0.15


def test_spread_vowels_resist_rounding_more_than_open_ones():
    assert held("i u", 0)[:, ROUNDING].mean() < held("a u", 0)[:, ROUNDING].mean()


def test_silence_is_neutral():
    assert not articulation_targets([], 50).any()
    phones = [("u", 0.5, 0.6), ("a", 1.6, 1.7)]
    values = articulation_targets(phones, 120)
    times = (np.arange(120) + 0.5) / 50
    for start, end in ((0, 0.2), (0.95, 1.3), (2.1, 2.4)):
        assert values[(times > start) & (times < end)].max() < 0.03
    # The mouth is open when the voice begins, and starts to open at most 0.15 s before it.
    assert values[np.argmin(abs(times - 1.6)), APERTURE] > 0.5
    assert values[(times > 1) & (times < 1.43), APERTURE].max() < 0.1


def test_a_short_gap_is_no_pause():
    joined = articulation_targets([("a", 0.5, 0.6), ("a", 0.64, 0.74)], 60)
    paused = articulation_targets([("a", 0.5, 0.6), ("a", 0.8, 0.9)], 60)
    assert joined[30, APERTURE] > 0.9 and paused[36, APERTURE] < 0.3


def test_each_class_of_consonants_has_its_sign():
    for phone in "fv":
        hold = held(f"a {phone} a", 1)
        assert hold[:, LABIODENTAL].min() > 0.9 and hold[:, CLOSURE].max() < 0.1
    for phone in ("s", "z", "ʃ", "ʒ", "tʃ", "dʒ", "ts"):
        hold = held(f"a {phone} a", 1, 0.12)
        middle = hold[len(hold) // 2]
        assert middle[TEETH] > 0.6 and middle[JAW] < 0.3, phone
    assert held("a θ a", 1)[:, TONGUE_TIP].max() > 0.9
    assert 0.5 < held("a l a", 1)[:, TONGUE_TIP].max() < 0.9
    assert held("a w a", 1)[:, ROUNDING].max() > 0.8 and held("a w a", 1)[:, APERTURE].min() < 0.4


def test_the_tongue_alone_leaves_the_lips_to_the_vowels():
    for phone in "kɡŋh":
        assert held(f"u {phone} u", 1)[:, ROUNDING].min() > 0.7, phone
        assert held(f"i {phone} i", 1)[:, SPREADING].min() > 0.6, phone


def test_vowels_follow_the_chart():
    def middle(vowel: str) -> np.ndarray:
        row = held(vowel, 0, 0.2)
        return row[len(row) // 2]

    for series in ("ieɛæ", "yøœ", "uoɔɒ", "ɯɤʌɑ"):
        shapes = np.stack([middle(vowel) for vowel in series])
        assert (np.diff(shapes[:, JAW]) > 0).all() and (np.diff(shapes[:, APERTURE]) > 0).all()
    assert (np.diff([middle(vowel)[ROUNDING] for vowel in "uoɔɒ"]) < 0).all()
    assert (np.diff([middle(vowel)[SPREADING] for vowel in "ieɛæa"]) < 0).all()
    for rounded, spread in zip("yøœu", "ieɛɯ", strict=True):
        assert middle(rounded)[ROUNDING] > 0.4 > 0.1 > middle(spread)[ROUNDING]


def test_a_diphthong_moves_from_its_first_vowel_to_its_second():
    _, values = trajectories("aʊ", 0.3)
    hold = held("aʊ", 0, 0.3)
    assert hold[2, APERTURE] > 0.8 > 0.5 > hold[-2, APERTURE]
    assert hold[2, ROUNDING] < 0.25 < 0.6 < hold[-2, ROUNDING]


def test_all_symbols_of_the_voices_and_of_the_recognizer_are_known():
    assert [symbol for symbol in KOKORO if not known_phone(symbol)] == []
    names = [name for group in model_symbols() for name in group]
    assert len(names) > 100
    assert [name for name in names if not known_phone(name)] == []
    assert not known_phone("") and not known_phone(".") and not known_phone("?")


def model_symbols() -> list[list[str]]:
    """The symbols of the phoneme recognizer by class."""
    from being.audio import phonemes

    assert len(phonemes._SYMBOLS) == len(PHONEME_CLASSES)
    return [list(symbols.values()) for symbols in phonemes._SYMBOLS]


def test_phones_are_taken_apart():
    assert split_phone("tʃʰ") == [("t", ""), ("ʃ", "ʰ")]
    assert split_phone("ˈA") == [("e", ""), ("ɪ", "")]
    assert split_phone("ɔ̃ː") == [("ɔ", "\N{COMBINING TILDE}ː")]
    assert split_phone("ã") == [("a", "\N{COMBINING TILDE}")]
    assert split_phone("d͡ʒ") == [("d", ""), ("ʒ", "")]
    assert split_phone("ç") == [("ç", "")]
    rounded = model.phone_articulations("kʷ")[0]
    assert (
        rounded.targets[ROUNDING] > 0.5 > 0.1 >= model.phone_articulations("k")[0].targets[ROUNDING]
    )


def test_an_unknown_phone_is_named():
    with pytest.raises(AssertionError, match="'#'"):
        articulation_targets([("#", 0.0, 0.1)], 10)
