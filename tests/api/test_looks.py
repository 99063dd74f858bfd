"""Clients choose among the looks that the server offers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from live_client import LiveClient
from live_server import LocalServer
from placed_avatar import BACKGROUND, HEIGHT, WIDTH
from tiny_avatar import SIZE

from being.api.packets import Flag, Kind
from being.api.webrtc import raw_pictures
from being.cli.live_commands import _looks
from being.errors import UsageError
from being.media.live_video import LivePictureDecoder, read_marks
from being.session.refusals import Refusal

OFFERED = ["filmed", "green", "transparent", "source"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(looks=("green", "transparent", "source")) as started:
        yield started


def first_picture(server: LocalServer, **start: object) -> tuple[LiveClient, Flag, np.ndarray]:
    """The client, and the flags and the decoded image of its third picture."""

    async def see() -> LiveClient:
        async with LiveClient(server.url, dict(start)) as client:
            kinds = (Kind.H264, Kind.JPEG)
            await client.until(lambda m: len(client.media(*kinds)) >= 3)
            return client

    client = asyncio.run(see())
    assert client.ready["backgrounds"] == OFFERED
    codec = str(start.get("video", "h264"))
    decoder, image, flags = LivePictureDecoder(codec), None, Flag.NONE
    for _, packet, content in client.media(Kind.H264, Kind.JPEG)[:3]:
        image, flags = decoder.decode(content), packet.flags
        assert read_marks(content)[0]["ai"] is True
    assert image is not None
    return client, flags, image


def corner(image: np.ndarray) -> np.ndarray:
    return image[0, 0].astype(float)


@pytest.mark.parametrize("video", ["h264", "jpeg"])
def test_a_transparent_picture_holds_its_matte_below_the_colours(
    server: LocalServer, video: str
) -> None:
    client, flags, image = first_picture(server, background="transparent", video=video)
    ready = client.ready
    assert ready["background"] == "transparent" and ready["video"]["matte"] is True
    assert (ready["width"], ready["height"]) == (SIZE, SIZE) and flags & Flag.MATTE
    assert image.shape == (2 * SIZE, SIZE, 3)
    # The torso is opaque, the corner above it nearly not there, and the matte is grey.
    matte = image[SIZE:].astype(float)
    assert matte[-3:].mean() > 235 and corner(matte).mean() < 70
    assert np.ptp(matte, axis=2).max() < 30
    assert client.ready["video"]["string"].startswith("avc1.42E0")


def test_matte_in_start_chooses_transparent_where_it_is_offered(server: LocalServer) -> None:
    client, flags, _ = first_picture(server, matte=True)
    assert client.ready["background"] == "transparent" and flags & Flag.MATTE
    with LocalServer() as plain:

        async def start() -> dict[str, object]:
            async with LiveClient(plain.url, {"matte": True}) as other:
                return other.ready

        ready = asyncio.run(start())
    assert ready["background"] == "filmed" and ready["video"] == {
        "codec": "h264",
        "string": "avc1.42E01F",
        "matte": False,
    }


def test_a_background_stands_behind_the_avatar(server: LocalServer) -> None:
    _, flags, filmed = first_picture(server)
    _, _, green = first_picture(server, background="green")
    assert not flags & Flag.MATTE and filmed.shape == green.shape == (SIZE, SIZE, 3)
    assert np.abs(corner(filmed) - BACKGROUND).max() < 30
    assert np.abs(corner(green) - [0, 128, 0]).max() < 45


def test_the_source_frame_is_sent_whole(server: LocalServer) -> None:
    client, _, image = first_picture(server, background="source")
    assert (client.ready["width"], client.ready["height"]) == (WIDTH, HEIGHT)
    assert image.shape == (HEIGHT, WIDTH, 3)


def test_an_unknown_background_is_refused_with_those_that_are_known(server: LocalServer) -> None:
    async def start() -> LiveClient:
        client = LiveClient(server.url, {"background": "beach"})
        await client.open()
        return client

    client = asyncio.run(start())
    (error,) = client.messages("error")
    assert error["code"] == "unknown_background" and error["fatal"]
    assert "filmed, green, transparent, source" in error["fix"]
    offered = httpx.get(f"{server.http}/info", trust_env=False).json()["backgrounds"]
    assert offered == {"tiny": OFFERED}


def test_two_backgrounds_of_one_name_are_refused() -> None:
    assert _looks(["a/room.png", "red"], True) == ("a/room.png", "red", "source")
    for texts in (["a/room.png", "b/room.jpg"], ["filmed"]):
        with pytest.raises(UsageError, match="two backgrounds are called"):
            _looks(texts, False)


def test_webrtc_refuses_pictures_that_are_not_square() -> None:
    assert raw_pictures("h264", SIZE, SIZE).codec == "h264"
    with pytest.raises(Refusal, match="not sent by WebRTC"):
        raw_pictures("h264", SIZE, 2 * SIZE)
