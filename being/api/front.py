"""What the connections of one front process share: renderer, workshop, limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict

from being.api.connection import Connection
from being.api.limits import Access, Limits
from being.api.metrics import Metrics
from being.api.session_ledger import LedgerClient
from being.api.talk import TalkService
from being.api.web_avatars import WebAvatars
from being.api.workshop import FeatureFactory, Voice, Workshop
from being.errors import BeingError
from being.session.avatar_facts import AvatarFacts
from being.session.batched_features import BatchedFeatures
from being.session.coefficient_worker import CoefficientPlace, CoefficientWorker
from being.session.refusals import Refusal
from being.session.render_client import RenderClient
from being.session.speech_source import FeatureSource, SpeechSource
from being.session.timeline import Clock, SystemClock
from being.tts.speech_endpoint import URL as SPEECH_URL
from being.tts.voices import DEFAULT_VOICE, VOICES, speak_plain

COUNT_S = 0.5  # between two times at which processor time is counted


def stream_features(facts: AvatarFacts) -> FeatureSource:
    """The feature source of one utterance: the avatar's live encoder, and the mouth code of it."""
    return facts.stream()


class Front:
    """The state of a front process."""

    def __init__(
        self,
        renderer: RenderClient,
        limits: Limits,
        access: Access,
        features: FeatureFactory = stream_features,
        voice_maker: Voice = speak_plain,
        clock: Clock | None = None,
        voice: str = DEFAULT_VOICE,
        talk: TalkService | None = None,
        ledger: str | None = None,
        web: WebAvatars | None = None,
        drawn_sessions: int = 0,
    ):
        """features, voice_maker: make speech; other ones serve tests. voice: the default one.

        talk: answers what clients say; None: they get no answers. ledger: path of the supervisor's
        `SessionLedger`, where it keeps one. web: what clients load that draw. drawn_sessions: the
        most whose clients draw.
        """
        self.renderer, self.limits, self.access = renderer, limits, access
        self.features, self.speak, self.voice = features, voice_maker, voice
        self.talk = talk
        self.voices = tuple(name for name in VOICES if name != "speech" or SPEECH_URL in os.environ)
        self.clock: Clock = clock or SystemClock()
        self.workshop = Workshop()
        self.metrics = Metrics()
        self.web = web or WebAvatars()
        self.coefficients = CoefficientWorker(drawn_sessions)
        self.connections: set[Connection] = set()
        self.ledger = None if ledger is None else LedgerClient(ledger, self._end)
        self.peers: set[asyncio.Task[None]] = set()  # sessions by WebRTC
        self._look_ahead: dict[str, float] = {}

    def now(self) -> float:
        """The time, s."""
        return self.clock.now()

    @property
    def avatars(self) -> list[str]:
        """Names of the avatars."""
        return list(dict.fromkeys(facts.name for facts in self.renderer.facts.values()))

    def looks(self, name: str) -> list[str]:
        """The looks of an avatar; the first one is that of the clip."""
        return [facts.look for facts in self.renderer.facts.values() if facts.name == name]

    def facts_of(self, name: str | None, look: str | None = None) -> AvatarFacts:
        """The facts of the avatar called `name`, or of the first, in a look, or as filmed.

        Raises Refusal.
        """
        known = self.avatars
        name = known[0] if name is None else name
        if name not in known:
            raise Refusal(
                "unknown_avatar",
                f"no avatar is called {name!r}",
                "this server has others",
                f"Known are: {', '.join(known)}",
                close=4404,
            )
        looks = self.looks(name)
        if look is not None and look not in looks:
            raise Refusal(
                "unknown_background",
                f"no background is called {look!r}",
                "a client can choose what the server offers",
                f"Known are: {', '.join(looks)}; being serve --background adds some",
                close=4404,
            )
        found = (facts for facts in self.renderer.facts.values() if facts.name == name)
        return next(facts for facts in found if look is None or facts.look == look)

    async def open_drawn(self, facts: AvatarFacts, address: str) -> CoefficientPlace:
        """A place for a session whose client draws. Raises Refusal where that cannot be."""
        if facts.net is None:
            filmed = self.facts_of(facts.name)
            if filmed.net is not None:
                raise Refusal(
                    "not_drawable",
                    f"clients cannot draw the background {facts.look!r}",
                    "they draw the avatar as filmed, or transparent in their own way",
                    'Leave `background` and `matte` out, or start with "render": "server"',
                )
            raise Refusal(
                "not_drawable",
                f"clients cannot draw the avatar {facts.name!r}",
                "it has no bases",
                "Add them on the server with: being export AVATAR --bases",
            )
        counted = await self.renderer.open(facts.key, "none", address, drawn=True)
        return CoefficientPlace(self.coefficients, facts, counted.close)

    def check_voice(self, name: str) -> None:
        """Raise Refusal for a voice that does not exist."""
        if name.partition(":")[0] not in self.voices:
            raise Refusal(
                "unknown_voice",
                f"no voice is called {name!r}",
                "this server has others",
                f"Known are: {', '.join(self.voices)} (edge:NAME, espeak:LANGUAGE, speech:NAME)",
            )

    def look_ahead(self, facts: AvatarFacts) -> float:
        """Sound after a frame's time that must come before the frame, s."""
        if facts.batched:
            return BatchedFeatures.seconds
        if facts.encoder not in self._look_ahead:
            self._look_ahead[facts.encoder] = self.features(facts).seconds
        return self._look_ahead[facts.encoder]

    def warm_up(self) -> None:
        """Load voice and encoders now, so that the first sentence does not wait for them.

        A voice that cannot be loaded is told when it is used.
        """
        if self.talk is not None and self.talk.transcriber is not None:
            self.talk.activity()
        speech = None
        with contextlib.suppress(BeingError):
            speech = self.speak("Hello.", self.voice, 1.0)
        for facts in self.renderer.facts.values():
            self.look_ahead(facts)
            if speech is not None and not facts.batched:
                silent_step = facts.silent_row[len(facts.silent_row) // 2]
                source = SpeechSource(self.features(facts), speech.rate, silent_step)
                for _ in source.speak(speech, True, 0):
                    pass

    def enter(self, connection: Connection) -> None:
        """A session begins."""
        self.connections.add(connection)
        if self.ledger is not None:
            self.ledger.opened(connection.id)
        self.metrics.sessions.inc()

    def leave(self, connection: Connection) -> None:
        """A session ends; done for one that never began, it does nothing."""
        if connection in self.connections:
            self.connections.discard(connection)
            if self.ledger is not None:
                self.ledger.closed(connection.id)
            self.metrics.sessions.dec()

    def _end(self, session: str) -> None:
        """End the session with this id, if it runs here."""
        for connection in [c for c in self.connections if c.id == session]:
            connection.end()

    async def run(self) -> None:
        """Keep the renderer's connection, for ever."""
        tasks = [
            asyncio.create_task(self.renderer.run()),
            asyncio.create_task(self._count_spent()),
        ]
        if self.talk is not None:
            tasks.append(asyncio.create_task(self.talk.greet()))
        if self.ledger is not None:
            tasks.append(asyncio.create_task(self.ledger.run()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _count_spent(self) -> None:
        """Count the processor time for clients that draw, for ever."""
        known: dict[str, float] = {}
        while True:
            await asyncio.sleep(COUNT_S)
            for part, seconds in asdict(self.coefficients.spent).items():
                if seconds > known.get(part, 0.0):
                    self.metrics.drawn_seconds.labels(part).inc(seconds - known.get(part, 0.0))
                    known[part] = seconds

    def close(self) -> None:
        """Stop the workshop and free the memory."""
        for peer in self.peers:
            peer.cancel()
        self.workshop.close()
        self.renderer.close()
