"""Synthetic speech for the distillation: the package's own voices say sentences of random words.

No recording of a person is in it. Three kinds of voices: hibari (one voice, English), espeak-ng
(six languages, several variants of its voice) and Kokoro (54 voices; each says sentences of a
language by chance, also of one that is not its own). A corpus is a pure function of its seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from being.conventions import SAMPLE_RATE
from being.media.resampling import resample
from being.tts import speak
from being.tts.kokoro_text import kokoro_passages
from being.tts.kokoro_voice import RATE, VOICE_NAMES, load_kokoro, load_style, trimmed

# fmt: off
WORDS = {
    "en": "the of and a to in is you that it he was for on are with as his they at be this have "
    "from or one had by word but what all were when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number way could people my than first water been "
    "call who its now find long down day did get come made may part over new sound take only "
    "little work know place year live me back give most very after thing our just name good "
    "sentence man think say great where help through much before line right too mean old any "
    "same tell boy follow came want show also around form three small set put end does another "
    "well large must big even such because turn here why ask went men read need land different "
    "home us move try kind hand picture again change off play spell air away animal house point "
    "page letter mother answer found study still learn should America world high every near add "
    "food between own below country plant last school father keep tree never start city earth "
    "eye light thought head under story saw left few while along might close something seem next "
    "hard open example begin life always those both paper together got group often run important "
    "until children side feet car mile night walk white sea began grow took river four carry "
    "state once book hear stop without second later miss idea enough eat face watch far really "
    "almost let above girl sometimes mountain cut young talk soon list song being leave family "
    "beautiful problem remember improve probably bubble maybe pump public family member number "
    "Wednesday possible impossible vapour measure treasure usual vision judge age church choose",
    "fr": "le la les un une des et est pour que dans ce il qui ne sur se pas plus par je avec tout "
    "faire son mettre autre on mais nous comme ou si leur y dire elle devoir avant deux même "
    "prendre aussi celui donner bien où fois vous encore nouveau aller cela entre premier vouloir "
    "déjà grand mon me moins aucun lui temps très savoir falloir voir quelque sans raison notre "
    "dont non an monde jour monsieur demander alors après trouver personne rendre part dernier "
    "venir pendant passer peu lequel suite bon comprendre depuis point ainsi heure rester seul "
    "année toujours tenir porter parler fort montrer certain fin continuer pays trois penser lieu "
    "partie quand jamais suivre compter pourquoi problème homme petit beau bonheur peuple public "
    "emploi simple ensemble république liberté égalité compatriotes français européen vœux heureux "
    "chacun bientôt travail santé lumière brun long vin bon feu deux peur soeur rue tu pu vu nuit "
    "puis lui oui moi toi roi bois voix choix gagner montagne famille feuille travailler",
    "es": "el la de que y a en un ser se no haber por con su para como estar tener le lo todo pero "
    "más hacer o poder decir este ir otro ese si me ya ver porque dar cuando él muy sin vez mucho "
    "saber qué sobre mi alguno mismo yo también hasta año dos querer entre así primero desde "
    "grande eso ni nos llegar pasar tiempo ella sí día uno bien poco deber entonces poner cosa "
    "tanto hombre parecer nuestro tan donde ahora parte después vida quedar siempre creer hablar "
    "llevar dejar nada cada seguir menos nuevo encontrar bueno problema pueblo palabra ejemplo",
    "it": "il di che è la e a per un in non una sono mi si lo ho ma ti con le da se come ci questo "
    "qui bene tu sei hai solo no me tutto te più della al perché cosa io quando molto anche fare "
    "ora grazie essere oh so mai chi era hanno questa nel fatto loro stato uomo va niente detto "
    "allora dove casa prima volta tempo due vuoi voglio adesso vita posso parlare quello sempre "
    "oggi giorno padre madre amico problema famiglia possibile bambino campo bello gente mondo",
    "pt": "o de a que e do da em um para com não uma os no se na por mais as dos como mas ao ele "
    "das à seu sua ou quando muito nos já eu também só pelo pela até isso ela entre depois sem "
    "mesmo aos seus quem nas me esse eles você essa num nem suas meu às minha numa elas qual nós "
    "lhe deles essas esses pelas este dele tu te vocês vos lhes meus minhas teu tua nosso nossa "
    "tempo mundo pessoa problema trabalho palavra possível família bem bom pão mãe irmão amanhã",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch "
    "es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen "
    "so zum war haben nur oder aber vor zur bis mehr durch man sein wurde wenn können müssen "
    "schon Jahre gegen vom jetzt kein mein wir unter möglich Mensch Problem Leben Arbeit bleiben "
    "Apfel Mutter Bruder schön grün Bücher böse Öl Woche Sprache pflegen Kopf Baum Freund heute "
    "Euro neu",
}
# fmt: on
# Kokoro's letter of each language that it speaks, and espeak-ng's name of each.
KOKORO_LANGUAGES = {"en": "a", "fr": "f", "es": "e", "it": "i", "pt": "p"}
ESPEAK_LANGUAGES = {
    "en": "en-us", "fr": "fr-fr", "es": "es", "it": "it", "pt": "pt-br", "de": "de"
}  # fmt: skip
ESPEAK_VARIANTS = ("", "+f2", "+f4", "+m3", "+m7", "+klatt2")
# Share of English among Kokoro's sentences.
ENGLISH_SHARE = 0.5
SENTENCES = 6  # of one text
WORDS_OF_SENTENCE = (3, 10)
SPEEDS = (0.8, 1.3)


def random_text(language: str, rng: np.random.Generator, sentences: int = SENTENCES) -> str:
    """Sentences of random words of a language, with commas."""
    words, parts = WORDS[language].split(), []
    for _ in range(sentences):
        chosen = list(rng.choice(words, rng.integers(*WORDS_OF_SENTENCE)))
        if len(chosen) > 5:
            chosen[len(chosen) // 2] += ","
        parts.append(" ".join(chosen) + str(rng.choice([".", ".", "?", "!"])))
    return " ".join(parts)


def hibari_speech(count: int, seed: int) -> Iterator[np.ndarray]:
    """`count` texts in the voice hibari, float32 [T] at 16 kHz each."""
    rng = np.random.default_rng((seed, 0))
    for _ in range(count):
        yield _said(random_text("en", rng), "hibari", rng)


def espeak_speech(texts: int, seed: int) -> Iterator[np.ndarray]:
    """`texts` texts in each language and each variant of espeak-ng."""
    rng = np.random.default_rng((seed, 1))
    for language, name in ESPEAK_LANGUAGES.items():
        for variant in ESPEAK_VARIANTS:
            for _ in range(texts):
                yield _said(random_text(language, rng), f"espeak:{name}{variant}", rng)


def kokoro_speech(rounds: int, seed: int, left_out: tuple[str, ...] = ()) -> Iterator[np.ndarray]:
    """`rounds` texts in each of Kokoro's voices but those left out. A text takes about as long as
    it sounds.
    """
    rng = np.random.default_rng((seed, 2))
    voice = load_kokoro()
    for _ in range(rounds):
        for name in (name for name in VOICE_NAMES if name not in left_out):
            others = [language for language in KOKORO_LANGUAGES if language != "en"]
            language = "en" if rng.random() < ENGLISH_SHARE else str(rng.choice(others))
            text, speed = random_text(language, rng, 2), float(rng.uniform(*SPEEDS))
            passages, _ = kokoro_passages(text, KOKORO_LANGUAGES[language])
            parts = [
                trimmed(*voice.synthesize(symbols, load_style(name), speed), symbols)[0]
                for symbols, _ in passages
            ]
            yield resample(np.concatenate(parts), RATE, SAMPLE_RATE).clip(-1, 1)


def _said(text: str, voice: str, rng: np.random.Generator) -> np.ndarray:
    """A text in a voice of `being.tts`, at a random speed, float32 [T] at 16 kHz."""
    speech = speak(text, voice, float(rng.uniform(*SPEEDS)))
    return resample(speech.samples, speech.rate, SAMPLE_RATE).clip(-1, 1).astype(np.float32)
