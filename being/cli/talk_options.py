"""Options of `being serve` for conversations and for voices of endpoints."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from being.console import console
from being.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from being.api.talk_options import TalkOptions

LlmOption = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="URL",
        help="Chat endpoint with OpenAI's interface, such as http://localhost:11434/v1: the avatar "
        "answers what is said or written to it. Its key: BEING_LLM_KEY.",
    ),
]
LlmModelOption = Annotated[
    str, typer.Option("--llm-model", metavar="NAME", help="Model of the chat endpoint.")
]
TranscribeOption = Annotated[
    str | None,
    typer.Option(
        "--transcribe",
        metavar="URL",
        help="Transcription endpoint with OpenAI's interface: the avatar hears the microphone. Its "
        "key: BEING_TRANSCRIBE_KEY.",
    ),
]
TranscribeModelOption = Annotated[
    str,
    typer.Option("--transcribe-model", metavar="NAME", help="Model of the transcription endpoint."),
]
PromptOption = Annotated[
    Path | None,
    typer.Option("--system-prompt", metavar="FILE", help="What the avatar is told about itself."),
]
HistoryOption = Annotated[
    int,
    typer.Option(
        "--history", min=1, max=1000, help="Messages of the conversation that are remembered."
    ),
]
SpeechOption = Annotated[
    str | None,
    typer.Option(
        "--speech",
        metavar="URL",
        help="Speech endpoint with OpenAI's interface: brings the voices speech:NAME. Its key: "
        "BEING_SPEECH_KEY.",
    ),
]
SpeechModelOption = Annotated[
    str | None, typer.Option("--speech-model", metavar="NAME", help="Model of the speech endpoint.")
]


def talk_options(
    llm: str | None,
    llm_model: str,
    transcribe: str | None,
    transcribe_model: str,
    prompt: Path | None,
    history: int,
) -> TalkOptions | None:
    """The checked options of conversations; None without a chat endpoint.

    Raises UsageError, InputRejected, EnvironmentFault.
    """
    if llm is None:
        if transcribe is not None or prompt is not None:
            raise UsageError(
                "--transcribe and --system-prompt need a chat endpoint",
                "without one the avatar answers nothing",
                "Add --llm URL",
            )
        return None
    packages = ["httpx", *(["onnxruntime"] if transcribe is not None else [])]
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise EnvironmentFault(
            "conversations are not installed",
            f"these packages are missing: {', '.join(missing)}",
            "pip install 'being[talk]'",
        )
    from being.api.talk_options import DEFAULT_PROMPT, TalkOptions, read_prompt

    text = DEFAULT_PROMPT if prompt is None else read_prompt(prompt)
    options = TalkOptions(llm, llm_model, transcribe, transcribe_model, text, history)
    options.check()
    if transcribe is None:
        console.info("without --transcribe the avatar answers what is written, not what is said")
    return options


def set_speech_endpoint(url: str | None, model: str | None, voice: str) -> None:
    """Tell the voices of the speech endpoint; processes that are started inherit it.

    Says so where the default voice is too slow for live sessions.
    """
    from being.tts.live_voice import slow_voice_note
    from being.tts.speech_endpoint import MODEL, URL, check_address

    if url is not None:
        os.environ[URL] = url
    if model is not None:
        os.environ[MODEL] = model
    if url is not None or voice.partition(":")[0] == "speech":
        check_address()
    if note := slow_voice_note(voice):
        console.warn(note)
