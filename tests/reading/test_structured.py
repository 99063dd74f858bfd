"""JSON, YAML and Python literals that are deep, endless, huge or wrong end in one refusal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from being.config import load
from being.errors import InputRejected, UsageError
from being.reading.content import Unreadable
from being.reading.structured import parse_json, parse_python, parse_yaml, python_literal, read_json

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, why",
    [
        ("[" * 100_000, "too deep"),
        ('{"a":' * 100_000, "too deep"),
        ("9" * 5000, "5000 digits"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_json_that_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parse_json(text)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[1]", b"{" * 99, b"9" * 9999, b"[" * 99_999],
)
def test_a_json_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputRejected, match="cannot be read"):
        read_json(file)


def test_a_file_that_is_a_pipe_a_folder_or_huge_is_not_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "sparse", "."):
        with pytest.raises(InputRejected, match="pipe|bytes|folder"):
            read_json(tmp_path / name)
    with pytest.raises(InputRejected, match="missing"):
        read_json(tmp_path / "none")


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "&a [*a]",
        "a: &a {b: *a}",
        "[" * 5000,
        "- " * 5000,
        "9" * 5000,
        "2001-99-99",
        "!!python/object/apply:os.system [x]",
        "{[1]: 2}",
        "x" * 300_000,
        "\x00",
        "a: [",
        "0b",
    ],
)
def test_yaml_that_is_hostile_ends_quickly_in_one_refusal(text: str) -> None:
    start = time.monotonic()
    try:
        value = parse_yaml(text)
        assert isinstance(value, str)  # of the last one: plain text
    except Unreadable as error:
        assert str(error)
    assert time.monotonic() - start < 5


def test_a_few_aliases_are_fine() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}")["d"] == {"b": 1, "e": 2}


@pytest.mark.parametrize("text", ["(" * 300, "-" * 100_000, "[" * 99, "x = \0", "9" * 5000, "if"])
def test_python_text_that_cannot_be_parsed_says_why(text: str) -> None:
    with pytest.raises(Unreadable):
        python_literal(parse_python(text, "eval").body)


@pytest.mark.parametrize("text", ["{[]: 1}", "{{}: 1}", "{1, []}", "f()", "-'a'", "1+" * 900 + "1"])
def test_what_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        python_literal(parse_python(text, "eval").body)


@pytest.mark.parametrize(
    "name, content",
    [
        ("c.py", "A = dict(iterations={[]: 1})"),
        ("c.py", "A = " + "[" * 5000),
        ("c.py", "A = dict(iterations=" + "9" * 5000 + ")"),
        ("c.py", "A = dict(iterations=10**9)"),
        ("c.yaml", "train: {fine: {steps: " + "9" * 3000 + "}}"),
        ("c.yaml", "train: {seed: 99999999999999999999}"),
        ("c.yaml", "train: {1: 2}"),
        ("c.yaml", LAUGHS),
        ("c.yaml", "[" * 9000),
        ("c.yaml", "_base_: " + "x" * 5000),
        ("c.yaml", "model: {n_layer: 1000000000}"),
        ("c.yaml", "model: {plane_scales: [" + "1, " * 5000 + "]}"),
        ("c.yaml", "data: {size: 2001-99-99}"),
    ],
)
def test_a_hostile_config_file_is_refused_in_a_short_line(
    name: str, content: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        load(file, environment={})
    assert len(caught.value.message()) < 1000, caught.value.message()


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=" + "9" * 400,
        "train.loss.l1=" + "9" * 400,
        "data.size={[1]: 2}",
        "data.size=[[[[",
        "data.size=" + "[" * 9000,
        "data.encoder=" + json.dumps(["x" * 9000]),
        "data.size=&a [*a]",
        "train.rate.means=[1e999, 1]",
    ],
)
def test_a_hostile_override_is_refused_in_a_short_line(override: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(None, [override], environment={})
    assert len(caught.value.message()) < 10_500, caught.value.message()
    assert "internal error" not in caught.value.message()
