"""Languages of texts: certain ones are named with a voice, uncertain ones are not."""

from __future__ import annotations

import pytest

from being.tts.kokoro_voice import VOICE_NAMES
from being.tts.languages import KOKORO_CODES, LANGUAGES, language_note, text_language

SENTENCES = {
    "en": "Good morning, I am an avatar and this is the first sentence that you hear of me.",
    "de": "Guten Morgen, ich bin ein Avatar und das ist mein erster Satz.",
    "fr": "Bonjour, je suis un avatar et voici ma première phrase dans cette langue.",
    "es": "Hola, soy un avatar y esta es mi primera frase en este idioma.",
    "it": "Ciao, sono un avatar e questa è la mia prima frase in questa lingua.",
    "pt": "Olá, eu sou um avatar e esta é a minha primeira frase no idioma.",
    "nl": "Hallo, ik ben een avatar en dit is mijn eerste zin in deze taal.",
    "pl": "Cześć, jestem awatarem i to jest moje pierwsze zdanie w tym języku.",
    "sv": "Hej, jag är en avatar och det här är min första mening på svenska.",
    "tr": "Merhaba, ben bir avatarım ve bu benim ilk cümlem. Bu çok güzel bir gün.",
    "ru": "Привет, мир",
    "uk": "Привіт, світе",
    "el": "Καλημέρα",
    "he": "שלום עולם",
    "ar": "مرحبا بالعالم",
    "fa": "سلام، چطوری؟",
    "hi": "नमस्ते दुनिया",
    "ko": "안녕하세요",
    "ja": "こんにちは、世界",
    "zh": "你好，世界",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_has_its_language(code: str) -> None:
    assert text_language(SENTENCES[code]) == code
    note = language_note(SENTENCES[code], "kokoro:ff_siwis" if code != "fr" else "hibari")
    assert LANGUAGES[code].title in note and LANGUAGES[code].voice in note


@pytest.mark.parametrize(
    "text",
    ["Das ist gut", "Good morning", "café in Paris", "Tokyo", "La dolce vita", "123", "", "x y z"],
)
def test_a_short_text_is_of_no_certain_language(text: str) -> None:
    assert text_language(text) == "" and language_note(text, "kokoro:zf_xiaobei") == ""


@pytest.mark.parametrize(
    ("code", "voice"),
    [
        ("en", "hibari"),
        ("en", "espeak"),
        ("en", "kokoro:bm_george"),
        ("de", "edge:de-AT-IngridNeural"),
        ("de", "edge:en-US-AvaMultilingualNeural"),
        ("ru", "espeak:bg"),
        ("zh", "edge:ja-JP-NanamiNeural"),
        ("zh", "espeak:cmn"),
        ("es", "espeak:ca"),
        ("sv", "edge:sv-SE-SofieNeural"),
    ],
)
def test_a_voice_of_the_language_or_of_a_neighbour_is_not_doubted(code: str, voice: str) -> None:
    assert language_note(SENTENCES[code], voice) == ""


def test_the_voices_that_are_named_exist() -> None:
    named = [language.voice.split()[0] for language in LANGUAGES.values()]
    for voice in named:
        engine, _, name = voice.partition(":")
        assert engine in ("hibari", "edge") or name in VOICE_NAMES
    assert set(KOKORO_CODES) == {name[0] for name in VOICE_NAMES}
