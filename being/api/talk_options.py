"""What `being serve` is told about conversations, and the service that is made of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from being.api.talk import TalkService
from being.conversation import chat_client, transcriber
from being.conversation.chat_client import ChatClient
from being.conversation.endpoints import endpoint, new_client
from being.conversation.history import MESSAGES_MAX
from being.conversation.transcriber import Transcriber
from being.conversation.voice_activity import load_silero
from being.errors import InputRejected
from being.reading.content import Unreadable, read_text, rejected

LLM_KEY, TRANSCRIBE_KEY = "BEING_LLM_KEY", "BEING_TRANSCRIBE_KEY"
PROMPT_MAX = 1 << 16  # bytes
# What answers are like without a system prompt.
DEFAULT_PROMPT = (
    "You speak through an avatar: your words are heard, not read. Answer in one to three short "
    "sentences of plain text, in the language of the user."
)


@dataclass(frozen=True)
class TalkOptions:
    """Endpoints, models and prompt. Keys come from the environment, never from here."""

    llm: str
    llm_model: str = "default"
    transcribe: str | None = None
    transcribe_model: str = "whisper-1"
    prompt: str = DEFAULT_PROMPT
    history: int = MESSAGES_MAX  # messages

    def check(self) -> None:
        """Load what a conversation needs, so that its faults show at the start.

        Raises UsageError for addresses, EnvironmentFault where something is missing.
        """
        new_service(self)
        if self.transcribe is not None:
            load_silero()

    def save(self, path: Path) -> Path:
        """Write the options to a file that only this user can read; its path."""
        path.touch(0o600)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> TalkOptions:
        """The options that `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def new_service(options: TalkOptions) -> TalkService:
    """The service of a front process. Raises UsageError."""
    chat = endpoint("the chat endpoint", options.llm, chat_client.PATH, options.llm_model, LLM_KEY)
    http = new_client()
    ear = None
    if options.transcribe is not None:
        found = endpoint(
            "the transcription endpoint",
            options.transcribe,
            transcriber.PATH,
            options.transcribe_model,
            TRANSCRIBE_KEY,
        )
        ear = Transcriber(found, http)
    return TalkService(ChatClient(chat, http), ear, options.prompt, options.history)


def read_prompt(path: Path) -> str:
    """The system prompt in a file. Raises InputRejected."""
    try:
        text = read_text(path, PROMPT_MAX).strip()
    except (OSError, Unreadable) as error:
        raise rejected(path, error, "Give a text file in UTF-8") from error
    if not text:
        raise InputRejected(f"{path} is empty", fix="Write the system prompt into it")
    return text
