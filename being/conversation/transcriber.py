"""Client of a transcription endpoint: speech in, text out."""

from __future__ import annotations

import io
import wave

import httpx
import numpy as np

from being.conventions import SAMPLE_RATE
from being.conversation.endpoints import (
    ANSWER_MAX,
    Endpoint,
    nonsense,
    parse_object,
    refused,
    unreachable,
)

PATH = "audio/transcriptions"


class Transcriber:
    """Asks one endpoint."""

    def __init__(self, endpoint: Endpoint, http: httpx.AsyncClient):
        self.endpoint, self.http = endpoint, http

    async def text_of(self, samples: np.ndarray) -> str:
        """The words in samples float32 [n] at 16 kHz; "" where there are none.

        Raises EndpointFault.
        """
        files = {"file": ("speech.wav", wav_bytes(samples), "audio/wav")}
        form = {"model": self.endpoint.model, "response_format": "json"}
        content = b""
        try:
            async with self.http.stream(
                "POST", self.endpoint.url, data=form, files=files, headers=self.endpoint.headers
            ) as answer:
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > ANSWER_MAX:
                        raise nonsense(self.endpoint, f"more than {ANSWER_MAX:,} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise unreachable(self.endpoint, error) from error
        if answer.status_code != 200:
            raise refused(self.endpoint, answer.status_code, content)
        value = parse_object(self.endpoint, content.decode("utf-8", "replace"))
        text = value.get("text")
        if not isinstance(text, str):
            raise nonsense(self.endpoint, "an answer without `text`")
        return text.encode("utf-8", "replace").decode().strip()


def wav_bytes(samples: np.ndarray) -> bytes:
    """A WAV file, 16 bits, of samples float32 [n] in [-1, 1] at 16 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()
