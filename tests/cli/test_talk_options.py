"""Options of `being serve` for conversations: what is refused before anything starts."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")
from being.api.talk_options import TalkOptions  # noqa: E402
from being.cli.talk_options import set_speech_endpoint, talk_options  # noqa: E402
from being.errors import InputRejected, UsageError  # noqa: E402
from being.tts.speech_endpoint import URL  # noqa: E402

HERE = "http://localhost:1/v1"


def options(llm: str | None = HERE, **given: Any) -> TalkOptions | None:
    settings = {
        "llm_model": "m",
        "transcribe": None,
        "transcribe_model": "w",
        "prompt": None,
        "history": 40,
    }
    return talk_options(llm, **{**settings, **given})


def test_without_a_chat_endpoint_there_is_no_conversation(tmp_path: Path) -> None:
    assert options(None) is None
    with pytest.raises(UsageError, match="need a chat endpoint"):
        options(None, transcribe=HERE)
    with pytest.raises(UsageError, match="need a chat endpoint"):
        options(None, prompt=tmp_path / "a.txt")


def test_addresses_and_prompts_are_checked_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no address of the chat endpoint"):
        options("localhost:11434")
    with pytest.raises(UsageError, match="no address of the transcription endpoint"):
        options(transcribe="ftp://a")
    with pytest.raises(InputRejected, match="is missing"):
        options(prompt=tmp_path / "none.txt")
    prompt = tmp_path / "prompt.txt"
    for content in (b"", b"\xff\xfe", b"a" * (1 << 17)):
        prompt.write_bytes(content)
        with pytest.raises(InputRejected):
            options(prompt=prompt)
    prompt.write_text("You are Ada.")
    found = options(prompt=prompt)
    assert found is not None and found.prompt == "You are Ada."


def test_options_pass_between_processes_in_a_private_file(tmp_path: Path) -> None:
    found = options()
    assert found is not None
    path = found.save(tmp_path / "talk.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and TalkOptions.load(path) == found


def test_a_speech_endpoint_is_told_to_the_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    monkeypatch.setenv("BEING_SPEECH_MODEL", "")
    with pytest.raises(UsageError, match="no speech endpoint is named"):
        set_speech_endpoint(None, None, "speech:alloy")
    set_speech_endpoint(None, None, "hibari")
    with pytest.raises(UsageError):
        set_speech_endpoint("nowhere", None, "hibari")
    monkeypatch.delenv(URL, raising=False)
