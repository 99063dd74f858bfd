"""Online voices through edge-tts: many languages, natural, with word times."""

from __future__ import annotations

import asyncio
import io

import av
import numpy as np

from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts.speech import Speech, shown

STALL = 20.0  # s without a message before the service counts as gone
TICKS = 1e7  # per second, in the service's word times


def say_edge(text: str, name: str, speed: float) -> Speech:
    """`text` in the online voice `name` (for instance en-US-AriaNeural); see
    `being.tts.voices.speak`.
    """
    try:
        import aiohttp
        import edge_tts
    except ImportError as error:
        raise EnvironmentFault(
            "edge-tts is not installed", str(error), "pip install 'being[edge]'"
        ) from error
    if not name:
        raise UsageError(
            "an edge voice needs a name",
            "",
            "For instance --voice edge:en-US-AriaNeural; `edge-tts --list-voices` shows them all",
        )
    try:
        request = edge_tts.Communicate(
            text, name, rate=f"{round((speed - 1) * 100):+d}%", boundary="WordBoundary"
        )
    except ValueError as error:
        raise UsageError(
            f"edge-tts knows no voice of the form {name!r}",
            str(error),
            "`edge-tts --list-voices` shows them all",
        ) from error
    try:
        encoded, words = asyncio.run(_receive(request))
    except edge_tts.exceptions.NoAudioReceived as error:
        raise InputRejected(
            f"the voice {name} said nothing",
            f"there may be no such voice, or it cannot say {shown(text)}",
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
    samples, rate = _decode(encoded)
    return Speech(samples, rate, words)


async def _receive(request) -> tuple[bytes, list[tuple[str, float, float]]]:
    """(the service's MP3, [(word, start s, end s)])."""
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


def _decode(encoded: bytes) -> tuple[np.ndarray, int]:
    """(float32 [T], rate in Hz) of an MP3 stream."""
    parts = []
    try:
        with av.open(io.BytesIO(encoded), format="mp3") as container:
            rate = container.streams.audio[0].rate
            to_mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
            for frame in container.decode(audio=0):
                parts += [part.to_ndarray().reshape(-1) for part in to_mono.resample(frame)]
    except (av.error.FFmpegError, IndexError) as error:
        raise EnvironmentFault(
            "the online voice sent something that is not sound", str(error), "Try again"
        ) from error
    return np.clip(np.concatenate(parts), -1, 1) if parts else np.zeros(0, np.float32), rate
