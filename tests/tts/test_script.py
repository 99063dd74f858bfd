"""Scripts: Markdown and SSML as speech, pauses in their length, fragments as the whole text."""

from __future__ import annotations

import random

import pytest

from being.errors import InputRejected
from being.tts.script import PAUSE_MAX, TEXT_MAX, Part, Pause, joined_parts, read_script
from being.tts.script_stream import ScriptStream

DOCUMENT = """# A title

Hello **bold text. More of it** and [a link](http://x.com/y) here, `x = 1` too. [pause 0.5] Now
<break time="1s"/> <emphasis level="strong">after</emphasis> it; visit https://www.foo.org/a?b=1.

- [x] one, *really*
- two
1. first
2. second

```python
print("never")
```

| Name | Age |
|:-----|----:|
| Anna | 30  |

> a quote ![of a cat](cat.png)
"""


def words_of(parts: tuple[Part, ...] | list[Part]) -> tuple[Part, ...]:
    """Parts with single spaces."""
    return tuple(" ".join(p.split()) if isinstance(p, str) else p for p in parts)


def test_markdown_reads_as_speech() -> None:
    script = read_script(DOCUMENT)
    assert words_of(script.parts) == (
        "A title. Hello bold text. More of it and a link here, x = 1 too.",
        Pause(0.5),
        "Now",
        Pause(1.0),
        "after it; visit foo.org. one, really. two. 1. first. 2. second. Name: Anna, Age: 30. "
        "a quote of a cat",
    )
    assert script.left_out == ("<emphasis>", "a block of code")


@pytest.mark.parametrize(
    "text",
    [
        "Hello, and welcome. I am a synthetic person; my mother bought five boxes.",
        "2 * 3 < 7 & snake_case_name, C:\\temp, a_b and 5 > 4",
        "[Anna]: Hello, it is -5 degrees (or #3).",
        "¿Qué tal? 你好。",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert read_script(text).parts == (text,) and not read_script(text).left_out


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Never closed", "Never closed"),
        ("it costs 5*3*2", "it costs 5 × 3 × 2"),
        ("Use `<br>` or `a | b`", "Use or a, b"),
        ("**Heading**\n\ntext", "Heading. text"),
        ("# 标题\n你好", "标题。 你好"),
        ("<speak><p>One.</p><s>Two</s></speak>", "One. Two"),
        ('<mstts:express-as style="sad">Oh</mstts:express-as>', "Oh"),
        ("<!-- a comment --><?xml version='1.0'?>Text", "Text"),
        ("    indented by a person", "indented by a person"),
        ("A footnote[^1] and <me@x.org>", "A footnote and me@x.org"),
        ("snow &amp; ice", "snow & ice"),
    ],
)
def test_markup_is_never_read_aloud(text: str, spoken: str) -> None:
    assert " ".join(read_script(text).text.split()) == spoken


@pytest.mark.parametrize(
    ("mark", "seconds"),
    [
        ("[pause 0.5]", 0.5),
        ("[PAUSE 2s]", 2),
        ("[pause 250 ms]", 0.25),
        ("[pause 0,5]", 0.5),
        ("[pause]", 0.75),
        ("[pause 30]", 30),
        ('<break time="500ms"/>', 0.5),
        ("<break time='1.5s'></break>", 1.5),
        ("<break time=2s>", 2),
        ("<break/>", 0.75),
        ('<break strength="x-strong"/>', 1.25),
        ('<break strength="strong" time="3s" />', 3),
        ("[pause 1] <break time='1s'/>", 2),
    ],
)
def test_a_pause_has_the_length_that_it_says(mark: str, seconds: float) -> None:
    assert read_script(f"one {mark} two").parts == ("one", Pause(pytest.approx(seconds)), "two")


def test_no_pause_at_all() -> None:
    text = read_script('one <break strength="none"/> two').parts
    assert words_of(text) == ("one", Pause(0), "two")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a [pause -1] b", "negative"),
        ("a [pause 31] b", "longer than 30 s"),
        ("a [pause 99999999999999999999999] b", "longer than 30 s"),
        ("a [pause soon] b", "'soon' is no time"),
        ("a [pause nan] b", "'nan' is no time"),
        ("a [pause 1 b", "no end"),
        ('a <break time="5"/> b', "no time such as"),
        ('a <break time="-5ms"/> b', "negative"),
        ('a <break time="500ms b', "no end"),
        ('a <break strength="loud"/> b', "its strength is none of none, x-weak"),
        ("a" + "[pause 30]" * 21, "last 630 s"),
        ("[pause 1]", "empty without its markup"),
        ("<b></b>x"[:-1], "empty without its markup .<b>"),
        ("```\ncode\n```", "empty without its markup .a block of code"),
        ("a" * (TEXT_MAX + 1), "at most 200,000"),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(InputRejected, match=message):
        read_script(text)


@pytest.mark.parametrize("seed", range(30))
def test_fragments_of_any_size_give_the_script_of_the_whole(seed: int) -> None:
    choice, stream, parts, at = random.Random(seed), ScriptStream(), [], 0
    while at < len(DOCUMENT):
        size = choice.randint(1, 9)
        parts += stream.push(DOCUMENT[at : at + size])
        at += size
    whole = list(words_of(read_script(DOCUMENT).parts))
    streamed = list(words_of(joined_parts(parts + stream.finish())))
    # A list item and a quote end with a full stop here too.
    assert streamed == [*whole[:-1], f"{whole[-1]}."]


def test_words_come_out_before_the_line_ends() -> None:
    stream = ScriptStream()
    assert "".join(map(str, stream.push("# Good morning, my fr"))).split() == [
        "Good",
        "morning,",
        "my",
    ]
    assert stream.push("iend <break ti") == ["friend", " "]
    assert Pause(0.5) in stream.push('me="500ms"/> and')
    assert words_of(joined_parts(stream.finish())) == ("and.",)


def test_unfinished_markup_at_the_end_of_a_stream_is_told_or_spoken() -> None:
    stream = ScriptStream()
    stream.push("Hello [a link](http://x")
    assert "a link" in "".join(map(str, stream.finish()))
    stream = ScriptStream()
    stream.push("Hello [pause 0.")
    with pytest.raises(InputRejected, match="no end"):
        stream.finish()
    stream = ScriptStream(pauses_most=PAUSE_MAX)
    with pytest.raises(InputRejected, match="last 60 s"):
        stream.push("[pause 30] a [pause 30] b ")


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000 + "a", "*a" * 25_000, "a" + "`" * 50_000 + "a", "![a[" * 12_000, "<a " * 16_000],
)
def test_hostile_markup_takes_no_long_time(text: str) -> None:
    read_script(text)
    stream = ScriptStream()
    stream.push(text)
    stream.finish()
