"""The service of conversations for tests: stand-ins answer, and loud blocks are speech."""

from __future__ import annotations

import numpy as np

from being.api.talk import TalkService
from being.bench.stand_ins import StandIns
from being.conversation import chat_client, transcriber
from being.conversation.chat_client import ChatClient
from being.conversation.endpoints import endpoint, new_client
from being.conversation.transcriber import Transcriber
from being.conversation.turns import Patience

NO_KEY = "NO_SUCH_VARIABLE"


class Loudness:
    """Says that loud blocks are speech. Implements `VoiceActivity`."""

    def probability(self, block: np.ndarray) -> float:
        return 0.9 if np.abs(block).max() > 0.1 else 0.02


def talk_service(stand_ins: StandIns, patience: Patience | None = None) -> TalkService:
    """A service that asks the stand-ins."""
    http = new_client()
    chat = endpoint("the chat endpoint", stand_ins.url, chat_client.PATH, "tiny", NO_KEY)
    ear = endpoint("the transcription endpoint", stand_ins.url, transcriber.PATH, "tiny", NO_KEY)
    return TalkService(
        ChatClient(chat, http),
        Transcriber(ear, http),
        "Be kind.",
        patience=patience,
        activity=Loudness,
    )
