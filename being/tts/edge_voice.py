"""Online voices through the package edge-tts: many languages, with word times."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from being import media
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts.speech import Speech, visible_characters

# Time without a message, s, after which the service counts as gone.
STALL = 20.0
# Units per second of the service's word times.
TICKS = 1e7
LIST_VOICES = "`edge-tts --list-voices` lists them all"
Result = TypeVar("Result")


def speak_edge(text: str, name: str, speed: float) -> Speech:
    """`text` in the online voice `name` (for instance en-US-AriaNeural).

    speed and errors: see `being.tts.voices.speak`.
    """
    try:
        import aiohttp
        import edge_tts
    except ImportError as error:
        raise EnvironmentFault(
            "edge-tts is not installed", str(error), "pip install 'being[edge]'"
        ) from error

    # The request.
    if not name:
        raise UsageError(
            "an edge voice needs a name",
            "",
            f"For instance --voice edge:en-US-AriaNeural; {LIST_VOICES}",
        )
    try:
        rate = f"{round((speed - 1) * 100):+d}%"
        request = edge_tts.Communicate(text, name, rate=rate, boundary="WordBoundary")
    except ValueError as error:
        raise UsageError(
            f"edge-tts has no voice of the form {name!r}", str(error), LIST_VOICES
        ) from error

    # The reply.
    try:
        encoded, words = _result_of(_receive(request))
    except edge_tts.exceptions.NoAudioReceived as error:
        raise InputRejected(
            f"the voice {name} returned no audio",
            "there may be no such voice, or it does not have the characters "
            f"{visible_characters(text)}",
            "Choose a voice of the text's language (edge-tts --list-voices)",
        ) from error
    except (
        aiohttp.ClientError,
        edge_tts.exceptions.EdgeTTSException,
        OSError,
        ValueError,
        KeyError,
    ) as error:
        raise EnvironmentFault(
            "the online voice cannot be reached",
            str(error) or type(error).__name__,
            "Check the network, or use the built-in voice (--voice hibari)",
        ) from error
    try:
        samples, rate_hz = media.decode_audio(encoded, "mp3")
    except media.DamagedAudio as error:
        raise EnvironmentFault(
            "the online voice sent no audio that can be decoded", str(error), "Try again"
        ) from error
    return Speech(samples, rate_hz, words)


def _result_of(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, also where this thread already runs an event loop.

    A notebook and an asynchronous server run one. No second loop can run in their thread, so the
    coroutine then gets a thread of its own.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, "edge voice") as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def _receive(request) -> tuple[bytes, list[tuple[str, float, float]]]:
    """The MP3 bytes of the service's reply, and the words: (word, start s, end s)."""
    encoded, words = bytearray(), []
    messages = request.stream()
    try:
        while True:
            message = await asyncio.wait_for(anext(messages), STALL)
            if message["type"] == "audio":
                encoded += message["data"]
            elif message["type"] == "WordBoundary":
                start = message["offset"] / TICKS
                words.append((message["text"], start, start + message["duration"] / TICKS))
    except StopAsyncIteration:
        return bytes(encoded), words
    except asyncio.TimeoutError:
        raise OSError(f"no answer for {STALL:.0f} s") from None
    finally:
        await messages.aclose()
