"""The Kokoro voices: text in nine languages to symbols, and times out of the network.

A tiny network with Kokoro's inputs, output and inner durations stands in for the real one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from being import assets
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts import kokoro_text, kokoro_voice, speak
from being.tts.kana import kana_phonemes
from being.tts.kokoro_text import LANGUAGES, MAX_SYMBOLS, kokoro_passages
from being.tts.symbol_times import SOUND_LEAD

pytest.importorskip("hibari")

# Units of 25 ms that the stand-in gives to each symbol, and 600 samples each.
UNITS = 4
STANDS_IN = "stand-in, "


def write_network(path: Path) -> None:
    """A network that gives each symbol UNITS / speed units and sounds at the style's level."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    constant = {"zero": 0.0, "units": UNITS, "least": 1.0, "samples": 600.0, "step": 0.3}
    node = helper.make_node
    nodes = [
        node("Cast", ["tokens"], ["numbers"], to=kind.FLOAT),
        node("Mul", ["numbers", "zero"], ["none"]),
        node("Add", ["none", "units"], ["slow"]),
        node("Div", ["slow", "speed"], ["exact"]),
        node("Round", ["exact"], ["whole"]),
        node("Clip", ["whole", "least"], [kokoro_voice.DURATIONS]),
        node("ReduceSum", [kokoro_voice.DURATIONS], ["sum"], keepdims=0),
        node("Mul", ["sum", "samples"], ["length"]),
        node("Range", ["zero", "length", "one"], ["time"]),
        node("Mul", ["time", "step"], ["phase"]),
        node("Sin", ["phase"], ["tone"]),
        node("ReduceMax", ["style"], ["level"], keepdims=0),
        node("Mul", ["tone", "level"], ["audio"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stand_in",
        [
            helper.make_tensor_value_info("tokens", kind.INT64, [1, None]),
            helper.make_tensor_value_info("style", kind.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", kind.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("audio", kind.FLOAT, [None])],
        [
            helper.make_tensor(name, kind.FLOAT, [], [value])
            for name, value in (constant | {"one": 1.0}).items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@pytest.fixture
def kokoro(tmp_path, monkeypatch):
    """The stand-in in an otherwise empty cache, offline. Row k of a style is (k + 1) / 1000."""
    monkeypatch.setenv("BEING_CACHE", str(tmp_path))
    monkeypatch.setenv("BEING_OFFLINE", "1")
    write_network(tmp_path / "kokoro.onnx")
    style = np.repeat(np.arange(1, 511, dtype=np.float32)[:, None] / 1000, 256, 1)
    content = assets.weight_converters.to_safetensors({"af_heart": style, "ff_siwis": style / 2})
    (tmp_path / "styles.safetensors").write_bytes(content)
    for name, file in (("kokoro", "kokoro.onnx"), ("kokoro_voices", "styles.safetensors")):
        content = (tmp_path / file).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        asset = assets.Asset(file, STANDS_IN + name, "CC0", len(content), digest, ())
        monkeypatch.setitem(assets.ASSETS, name, asset)
    kokoro_voice.load_kokoro.cache_clear()
    kokoro_voice.load_style.cache_clear()
    yield tmp_path
    kokoro_voice.load_kokoro.cache_clear()
    kokoro_voice.load_style.cache_clear()


def test_words_and_phones_have_the_networks_own_times(kokoro):
    speech = speak("My papa, and me.", "kokoro:af_heart")
    assert speech.rate == 24_000 and speech.samples.dtype == np.float32
    assert [word for word, _, _ in speech.words] == ["My", "papa", "and", "me"]
    # A pad of 4 units, then 4 units for each symbol; up to 0.1 s are kept before the first one.
    (symbols, spans) = kokoro_passages("My papa, and me.", "a")[0][0]
    assert "".join(symbol for symbol, _, _ in speech.phonemes) == symbols
    each = UNITS * 0.025
    lead = min(kokoro_voice.LEAD_IN, each - SOUND_LEAD)
    starts = np.array([start for _, start, _ in speech.phonemes])
    assert starts == pytest.approx(lead + each * np.arange(len(symbols)))
    for (_, start, end), (_, first, stop) in zip(speech.words, spans, strict=True):
        assert (start, end) == (pytest.approx(starts[first]), pytest.approx(starts[stop]))
    phones = [phone for phone, _, _ in speech.phones]
    assert phones.count("p") == 2 and "aɪ" in phones and not set(phones) & set(" ,.ˈ")
    last = speech.phones[-1][2]
    assert speech.seconds == pytest.approx(last + kokoro_voice.TAIL, abs=1e-3)


def test_the_style_is_the_voices_own_row_for_the_number_of_symbols(kokoro):
    speech = speak("Hello", "kokoro:af_heart")
    count = len(speech.phonemes)
    assert np.abs(speech.samples).max() == pytest.approx(count / 1000, rel=0.02)
    # No name is the first voice.
    assert np.array_equal(speak("Hello", "kokoro").samples, speech.samples)


def test_speed_goes_to_the_network(kokoro):
    slow, fast = speak("Hello there", "kokoro"), speak("Hello there", "kokoro", 2.0)
    spoken = [voice.phonemes[-1][2] - voice.phonemes[0][1] for voice in (slow, fast)]
    assert spoken[1] == pytest.approx(spoken[0] / 2, rel=0.05)


def test_long_texts_are_spoken_in_passages_with_times_from_the_start(kokoro):
    speech = speak("My mother bought five big blue boxes, and two more. " * 12, "kokoro")
    assert len(speech.words) == 12 * 10
    times = np.array([(start, end) for _, start, end in speech.words])
    assert (times[:, 1] > times[:, 0]).all() and (times[1:, 0] >= times[:-1, 1] - 1e-9).all()
    assert times[-1, 1] <= speech.seconds
    endless = speak("one after another " * 60, "kokoro")
    assert len(endless.words) == 180


def test_an_unknown_name_is_a_usage_error_that_names_the_nearest(kokoro):
    with pytest.raises(UsageError, match="af_heart"):
        speak("Hello", "kokoro:af_hart")
    assert len(kokoro_voice.VOICE_NAMES) == 54 == len(set(kokoro_voice.VOICE_NAMES))
    assert {name[0] for name in kokoro_voice.VOICE_NAMES} == set(LANGUAGES)


def test_offline_without_the_network_it_says_what_is_missing(kokoro):
    (kokoro / "kokoro.onnx").unlink()
    with pytest.raises(EnvironmentFault, match="BEING_OFFLINE"):
        speak("Hello", "kokoro:af_heart")


def test_a_file_that_is_no_network_is_named(kokoro, monkeypatch):
    path = kokoro / "kokoro.onnx"
    path.write_bytes(b"no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    asset = assets.Asset("kokoro.onnx", STANDS_IN, "CC0", 10, digest, ())
    monkeypatch.setitem(assets.ASSETS, "kokoro", asset)
    with pytest.raises(EnvironmentFault, match="kokoro.onnx"):
        speak("Hello", "kokoro:af_heart")


# --- text


def test_british_voices_have_british_readings():
    (american, _), (british, _) = (kokoro_passages("The colour, go.", code)[0][0] for code in "ab")
    assert "ɹ" in american and "O" in american and "Q" in british and "kˈʌlə," in british


ESPEAK = """#!{python}
import sys
words = sys.argv[1:]
assert words[:3] == ["-q", "--ipa", "--tie=^"] and "--stdin" in words, words
if words[words.index("-v") + 1] == "hi":
    sys.exit("no data")
text = sys.stdin.buffer.read().decode()
readings = {{"ciao,": "t^ʃˈa^ʊ", "un": "ˈun", "weekend": "(en)wˈiːkend(it)", "23.": "vˈenti tre"}}
print(" ".join(readings[word] for word in text.split()))
"""


@pytest.fixture
def espeak(tmp_path, monkeypatch):
    """A program espeak-ng that knows four words of Italian."""
    if os.name == "nt":
        pytest.skip("the stand-in program is a script")
    program = tmp_path / "bin" / "espeak-ng"
    program.parent.mkdir()
    program.write_text(ESPEAK.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_other_languages_are_read_by_espeak_in_kokoros_letters(espeak):
    passages, unspoken = kokoro_passages("ciao, un weekend 😀", "i")
    symbols, words = passages[0]
    assert symbols == "ʧˈW, ˈun wˈiːkend" and unspoken == "😀"
    assert [(word, symbols[a:b]) for word, a, b in words] == [
        ("ciao", "ʧˈW"),
        ("un", "ˈun"),
        ("weekend", "wˈiːkend"),
    ]
    # A clause that is read as more words than it has stands as one.
    assert kokoro_passages("un 23.", "i")[0] == [("ˈun vˈenti tre.", [("un 23", 0, 14)])]
    with pytest.raises(EnvironmentFault, match="espeak-ng failed: no data"):
        kokoro_passages("नमस्ते", "h")
    espeak.unlink()
    with pytest.raises(EnvironmentFault, match="espeak-ng is not installed"):
        kokoro_passages("ciao,", "i")


@pytest.mark.parametrize(
    ("code", "text", "named"),
    [("f", "Привет", "П р"), ("j", "学校", "学 校"), ("j", "12", "1 2"), ("z", "hello", "h e l o")],
)
def test_letters_that_a_language_would_skip_are_refused_by_name(code, text, named):
    with pytest.raises(InputRejected) as caught:
        kokoro_passages(text, code)
    assert named in caught.value.message() and LANGUAGES[code].title in caught.value.message()


def test_symbols_without_a_reading_are_left_out_with_a_note():
    passages, unspoken = kokoro_passages("まま≠ 👍🏽 ぱぱ", "j")
    assert passages[0][0] == "mama papa" and set("≠👍") <= set(unspoken)


@pytest.mark.parametrize(
    ("kana", "symbols"),
    [
        ("こんばんは", "kombaɴha"),
        ("は", "βa"),
        ("がっこう", "ɡaʔkoː"),
        ("きょう", "kʲoː"),
        ("ファン", "ɸaɴ"),
        ("コーヒー", "koːçiː"),
        ("ちゃわん", "ʨaβaɴ"),
        ("にほんご", "ɲihoŋɡo"),
    ],
)
def test_kana_are_read_by_a_table(kana, symbols):
    assert kana_phonemes(kana) == symbols


def test_all_kana_have_symbols_that_kokoro_knows():
    from being.tts.hibari_voice import load_hibari

    vocabulary = load_hibari().front.vocab
    for kana in map(chr, range(ord("ぁ"), ord("ゔ") + 1)):
        said = kana_phonemes(kana)
        assert said and set(said) <= set(vocabulary), kana


def test_japanese_keeps_words_and_pauses():
    passages, _ = kokoro_passages("まま は、 ぱん。 はい。", "j")
    assert [symbols for symbols, _ in passages] == ["mama βa, paɴ.", "hai."]
    assert passages[0][1] == [("まま", 0, 4), ("は", 5, 7), ("ぱん", 9, 12)]
    long, _ = kokoro_passages("ま" * 1000, "j")
    assert len(long) > 3 and all(len(symbols) <= MAX_SYMBOLS for symbols, _ in long)
    assert sum(symbols.count("m") for symbols, _ in long) == 1000


def test_chinese_characters_are_read_with_their_tones():
    pytest.importorskip("pypinyin")
    passages, _ = kokoro_passages("你好，四十个女儿。", "z")
    assert passages == [
        (
            "ni↓xau↓, sɨ↘ʂɨ↗kɤ↘ny↓ɚ↗.",
            [
                (character, first, stop)
                for character, first, stop in zip(
                    "你好四十个女儿",
                    (0, 3, 9, 12, 15, 18, 21),
                    (3, 7, 12, 15, 18, 21, 23),
                    strict=True,
                )
            ],
        )
    ]


def test_all_pinyin_syllables_have_symbols_that_kokoro_knows():
    pytest.importorskip("pypinyin")
    from pypinyin.constants import PINYIN_DICT

    from being.tts.hibari_voice import load_hibari

    vocabulary = load_hibari().front.vocab
    common = [chr(code) for code in range(0x4E00, 0x9FA6) if code in PINYIN_DICT]
    text = "".join([*common[::5], *"嗯呣噷欸"])
    readings = kokoro_text._chinese_syllables(text)
    assert [character for character, _ in readings] == list(text)
    wrong = [word for word, said in readings if not said or not set(said) <= set(vocabulary)]
    assert wrong == []
    assert readings[-4][1] == "n↗"


def test_chinese_without_pypinyin_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(EnvironmentFault, match="pypinyin"):
        kokoro_passages("你好", "z")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize(
    ("code", "text", "count"),
    [
        ("e", "¿Quién quiere queso? El burro viejo.", 6),
        ("f", "Un bon vin blanc.", 4),
        ("h", "मेरी माँ बाज़ार से फल लाई।", 6),
        ("i", "Mamma mia, che buona pizza!", 5),
        ("p", "O pombo branco bebe água.", 5),
    ],
)
def test_the_real_espeak_reads_each_language(code, text, count):
    passages, _ = kokoro_passages(text, code)
    words = [word for _, spans in passages for word in spans]
    assert len(words) == count
    assert all(symbols[a:b].strip() for symbols, spans in passages for _, a, b in spans)


# --- the real network


@pytest.mark.slow
def test_the_real_network_sounds_when_it_says():
    """In the real voice p, b, m are found by the phoneme recogniser at the ends of the phones."""
    from being.audio.phonemes import CLOSURE, analyse_speech
    from being.media.resampling import resample

    speech = speak("Papa may buy a map, but mama has a big box of maps.", "kokoro:bm_george")
    analysis = analyse_speech(resample(speech.samples, speech.rate, 16_000))
    peaks = analysis.times[analysis.classes == CLOSURE]
    ends = np.array([end for phone, _, end in speech.phones if phone in "pbm"])
    nearest = peaks[np.abs(peaks[:, None] - ends[None]).argmin(0)] - ends
    assert len(ends) >= 12 and (np.abs(nearest) < 0.08).mean() > 0.8
    assert abs(np.median(nearest)) < 0.03
    assert kokoro_text.MAX_SYMBOLS <= 510
