"""The distillation of the live speech encoder: repeatable, and its speech is of its seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip

from being.audio.encoders import load_encoder
from scripts.distil import train as module
from scripts.distil.corpus import ESPEAK_LANGUAGES, KOKORO_LANGUAGES, WORDS, random_text


def test_texts_are_of_their_seed_and_of_the_words_of_their_language() -> None:
    assert WORDS.keys() == ESPEAK_LANGUAGES.keys() and KOKORO_LANGUAGES.keys() < WORDS.keys()
    for language in WORDS:
        first, again, other = (
            random_text(language, np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        assert first == again != other
        words = set(WORDS[language].split())
        assert all(word.strip(",.?!") in words for word in first.split())


def test_the_same_seed_gives_the_same_weights_and_training_brings_them_nearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_or_skip(lambda: load_encoder("hama"))
    monkeypatch.setattr(module, "STRETCH", 60)
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "RATE", 5e-5)  # for so few steps
    rng = np.random.default_rng(0)
    lessons = []
    for number in range(3):
        level = np.repeat(rng.uniform(0, 0.3, 20), 1600)
        lessons += module.teach((level * rng.normal(size=32_000)).astype(np.float32), number)
    assert len(lessons) == 3 * module.VARIANTS
    assert all(lesson.mel.shape[1] == 2 * len(lesson.taught) + 1 for lesson in lessons)

    _, untrained = module.train(lessons, 0, 1)
    student, trained = module.train(lessons, 0, 40)
    again, _ = module.train(lessons, 0, 40)
    other, _ = module.train(lessons, 1, 40)
    assert trained["distance"] < untrained["distance"]
    same, different = (
        max(
            float((value - made.state_dict()[name]).abs().max())
            for name, value in student.state_dict().items()
        )
        for made in (again, other)
    )
    assert same == 0 and different > 1e-4
