"""Voices of any endpoint with OpenAI's interface of speech (`/v1/audio/speech`)."""

from __future__ import annotations

import os
import time
from urllib.parse import urlsplit

from being import media
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts.speech import Speech

URL, MODEL, KEY = "BEING_SPEECH_URL", "BEING_SPEECH_MODEL", "BEING_SPEECH_KEY"
PATH = "/audio/speech"
DEFAULT_MODEL = "tts-1"
CONNECT_S, STALL_S, ANSWER_S = 5.0, 10.0, 60.0
AUDIO_MAX = 32 << 20  # bytes of an answer
QUOTED = 200  # characters of an answer in a message


def speak_endpoint(text: str, name: str, speed: float) -> Speech:
    """`text` in the voice `name` of the endpoint that the environment names.

    BEING_SPEECH_URL: a base such as http://localhost:8880/v1; BEING_SPEECH_MODEL; the key, if one
    is needed: BEING_SPEECH_KEY. speed and errors: see `being.tts.voices.speak`.
    """
    try:
        import httpx
    except ImportError as error:
        raise EnvironmentFault(
            "httpx is not installed", str(error), "pip install 'being[talk]'"
        ) from error
    if not name:
        raise UsageError("a voice of an endpoint needs a name", "", "For instance speech:alloy")
    url, place = check_address()
    key = os.environ.get(KEY, "").strip()
    request = {
        "model": os.environ.get(MODEL) or DEFAULT_MODEL,
        "input": text,
        "voice": name,
        "speed": speed,
        "response_format": "wav",
    }
    content, deadline = b"", time.monotonic() + ANSWER_S
    timeout = httpx.Timeout(STALL_S, connect=CONNECT_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.stream("POST", url, json=request, headers=headers, timeout=timeout) as answer:
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > AUDIO_MAX or time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer is too long, or too slow")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EnvironmentFault(
            "the speech endpoint cannot be reached",
            f"{place}: {str(error) or type(error).__name__}",
            "Start it, or use the built-in voice (hibari)",
        ) from error
    return _speech(answer.status_code, content, name, place, key)


def check_address() -> tuple[str, str]:
    """The address of requests, and what may be printed of it. Raises UsageError."""
    url = os.environ.get(URL, "").strip().rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            "no speech endpoint is named" if not url else "the speech endpoint has no address",
            f"{URL} is {'not set' if not url else 'not http://... or https://...'}",
            "being serve --speech http://localhost:8880/v1",
        )
    if not url.endswith(PATH):
        url += PATH
    return url, f"{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _speech(status: int, content: bytes, name: str, place: str, key: str) -> Speech:
    """The speech of an answer. Raises InputRejected or EnvironmentFault."""
    if status != 200:
        text = " ".join(content[: 1 << 12].decode("utf-8", "replace").split())
        text = text.replace(key, "(the key)") if key else text
        error = InputRejected if status in (400, 404, 422) else EnvironmentFault
        raise error(
            f"the speech endpoint refuses the voice {name}",
            f"{place} answered {status}: {text[:QUOTED]}",
            "Choose a voice and a model that it has",
        )
    if not content.startswith(b"RIFF"):
        raise EnvironmentFault(
            "the speech endpoint sent no audio that can be used",
            f"{place}: {len(content)} bytes that are no WAV file",
            'It must know the response_format "wav"',
        )
    try:
        samples, rate = media.decode_audio(content, "wav")
    except media.DamagedAudio as error:
        raise EnvironmentFault(
            "the speech endpoint sent no audio that can be decoded",
            f"{place}: {error}",
            "Try again",
        ) from error
    return Speech(samples, rate)
