"""One client: its WebSocket, its session, its place in the render process, its encoder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from being.api import messages
from being.api.limits import TokenBucket, is_loopback
from being.api.messages import error_message
from being.api.outbox import Outbox
from being.api.packets import (
    MOST_DRAWN,
    Flag,
    pack_coefficients,
    pack_picture,
    pack_sound,
    unpack_client_sound,
)
from being.api.talk import SessionControl, Talk
from being.api.workshop import Clause, End, Notes, Sound, SpeechTask
from being.conventions import FPS
from being.errors import BeingError
from being.media.live_video import PictureEncoder, codec_string, mark_json, new_encoder
from being.media.writing import AI_NOTICE
from being.session.avatar_facts import AvatarFacts
from being.session.batched_features import BatchedFeatures, SoundPlace
from being.session.clauses import ClauseCutter
from being.session.coefficient_worker import (
    MOST_ORDERS,
    CoefficientPlace,
    DrawnFrame,
    FrontSound,
)
from being.session.live_session import MAX_IN_FLIGHT, LiveSession, Moment
from being.session.playback import EAGER, MAX_AHEAD
from being.session.refusals import Refusal
from being.session.render_client import Place
from being.session.speech_source import FeatureSource, pcm16_to_float
from being.session.timeline import FRAME, RATE
from being.session.utterance import SpeechBlock, Utterance
from being.tts.live_voice import LiveVoice, slow_voice_note
from being.tts.script import Part, Pause, is_spoken, read_script
from being.tts.script_stream import ScriptStream

if TYPE_CHECKING:
    from being.api.front import Front

# A sample of more than -40 dBFS is audible.
AUDIBLE = round(32768 * 10 ** (-40 / 20))
LATENESS_KEPT = 1000  # pictures of which the lateness is kept
# Close code where `start` cannot be used.
BAD_START = 4400
TRANSPARENT = "transparent"  # the look with a matte, see `inference.live_look`
CLOSE_S = 1.0  # for the last messages
# Between two looks at what is due, s: at most, with a conversation, and at least.
LONGEST_TICK_S, TALK_TICK_S, LEAST_TICK_S = 0.25, 0.01, 0.001
log = logging.getLogger("being")


class Socket(Protocol):
    """A WebSocket, as the connection uses it."""

    async def receive(self) -> bytes | str | None:
        """The next message; None when the client has gone."""

    def listen(self, take: Callable[[bytes | str], None], refill: Callable[[], None]) -> None:
        """Give messages to `take` from here on; `receive` then waits for the client to go.

        refill: called when the socket is writable again.
        """

    @property
    def writable(self) -> bool:
        """Whether the client reads what is sent."""

    def write(self, contents: Sequence[bytes | str]) -> None:
        """Send messages; nothing once the client has gone."""

    async def close(self, code: int, reason: str) -> None:
        """Close it."""

    def abort(self) -> None:
        """End it at once, without waiting for the client."""


class Connection:
    """A client from its first message to its last."""

    def __init__(
        self,
        front: Front,
        socket: Socket,
        address: str,
        token: str | None,
        make_encoder: Callable[[str, int, int], PictureEncoder] = new_encoder,
        can_draw: bool = True,
    ):
        """address: of the client; token: from the address of the socket, if any. make_encoder: of
        (codec, width, height). can_draw: whether the client may draw by itself.
        """
        self.front, self._socket, self._make_encoder = front, socket, make_encoder
        self._can_draw = can_draw
        # Clients of this machine, or of a proxy on it, share no limit.
        self._address = "" if is_loopback(address) else address
        self._token = token
        self.outbox = Outbox(self._send_soon)
        self.id = secrets.token_urlsafe(12)
        limits = front.limits
        self._bucket = TokenBucket(limits.messages_per_s, limits.message_burst, front.now())
        self._told_fast = False
        self._closing: tuple[int, str] | None = None
        self._must_close = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None  # of the next tick
        self._orders: dict[int, tuple[Moment, float]] = {}
        self._tokens = 0
        self.encoder: PictureEncoder | None = None  # of pictures that the server renders
        self._key_epoch = -1  # epoch of the last encoded picture
        self._task: SpeechTask | None = None
        self._at_once = False  # the task is run in the event loop, not in the workshop
        self._batched: BatchedFeatures | None = None  # of the task, where there is one
        self._script, self._cutter = ScriptStream(), ClauseCutter()
        self._more = False
        self._waiting_text = 0  # characters
        self._names = 0
        self._sound_rate = 0  # of the open utterance of sound, Hz; 0: there is none
        self._unmade = 0  # samples at 24 kHz that the workshop has not taken yet
        self._asked: float | None = None  # s, when the utterance was asked for
        self._sound_from: int | None = None  # samples at which its sound is audible
        self.first_sound_ms: float | None = None
        self.first_frame_ms: float | None = None
        self._talk: Talk | None = None
        self._front_sound: FrontSound | None = None  # once the client draws
        self._switching: asyncio.Task[None] | None = None  # between server and client
        self._sent = self._shed = 0
        self._counted_drops = 0
        self._late: deque[float] = deque(maxlen=LATENESS_KEPT)
        self._began = front.now()

    async def run(self) -> None:
        """Serve the client until it goes, or must go."""
        try:
            await self._converse()
        except Refusal as refusal:
            refusal.close = refusal.close or BAD_START
            self._refuse(refusal, "start")
            self.front.metrics.refused.labels(refusal.name).inc()
        finally:
            self._leave()
            await self._end()

    async def _converse(self) -> None:
        start = await self._first_message()
        given = start.token if start.token is not None else self._token
        self.front.access.check_token(given)
        placed = self.front.access.session_of(given)
        facts = self._chosen_facts(start)
        self._voice = start.voice or self.front.voice
        self.front.check_voice(self._voice)
        self._live_voice, self._noted = LiveVoice(self.front.speak), set[str]()
        if self.front.talk is not None:
            self._talk = Talk(self.front.talk, self._control(), start)
        self._codec = start.video
        self.place = await self._new_place(facts, start.render)
        try:
            resume = start.resume
            seed = secrets.randbits(31)
            now = self.front.now()
            self.session = LiveSession(
                facts.motion, facts.silent_row, now, seed, resume, facts.offsets
            )
            if start.mood is not None:
                self.session.express(start.mood, None)
            self._use_place()
            if placed is not None:
                self.id = placed
            elif isinstance(resume, dict) and isinstance(resume.get("session"), str):
                self.id = resume["session"][:64]
            self._tell(self._ready(resumed=resume is not None))
            self.front.enter(self)
            self.tick(self.front.now())
            self._socket.listen(self._take_safely, self._send)
            await self._until_end()
        finally:
            if self._switching is not None:
                self._switching.cancel()
            self.place.close()
            if self._front_sound is not None:
                self._front_sound.close()
            # The encoder holds some megabytes: it goes now, not when cycles are collected.
            self.encoder = None

    # Who renders.

    @property
    def render(self) -> str:
        """ "server", or "client" where the client draws."""
        return "client" if isinstance(self.place, CoefficientPlace) else "server"

    async def _new_place(self, facts: AvatarFacts, render: str) -> Place | CoefficientPlace:
        """A place for pictures, or for a client that draws. Raises Refusal."""
        if render == "client" and not self._can_draw:
            raise Refusal(
                "not_drawable",
                "clients of WebRTC do not draw",
                "their pictures are a track of video",
                'Use the WebSocket, or start with "render": "server"',
            )
        if render == "client":
            return await self.front.open_drawn(facts, self._address)
        return await self.front.renderer.open(facts.key, self._codec, self._address)

    def _use_place(self) -> None:
        """Order from the place that this session has now."""
        place = self.place
        if isinstance(place, CoefficientPlace):
            place.receive = self._drawn_safely
            self.session.most_in_flight = MOST_ORDERS
            # Frames cost little. So all whose sound is there are made at once, and sound that comes
            # unevenly holds up none.
            self.session.playback.eager = MAX_AHEAD
            self.encoder = None
            return
        place.receive = self._picture
        place.on_lost, place.on_back = self._render_lost, self._render_back
        self.session.most_in_flight, self.session.playback.eager = MAX_IN_FLIGHT, EAGER
        self.encoder = self._make_encoder(self._codec, *place.facts.coded)
        self._key_epoch = -1

    def _switch(self, render: str) -> None:
        """Begin to change between server and client. Raises Refusal while one change is made."""
        if self._switching is not None:
            raise Refusal(
                "already_switching",
                "another change of `render` is being made",
                "one is made at a time",
                "Wait for the message `render`",
            )
        self._switching = asyncio.get_running_loop().create_task(self._change_place(render))

    async def _change_place(self, render: str) -> None:
        """Take a new place and give the old one back; the session goes on as it was."""
        try:
            if render != self.render:
                new = await self._new_place(self.place.facts, render)
                old, self.place = self.place, new
                self._orders.clear()
                self.session.forget_rows()
                self._use_place()
                if render == "client" and self._batched is not None:
                    sound = self._sound_place()
                    assert sound is not None
                    self._batched.move(sound)
                old.close()
            facts = {"render": self.render, "watermark": self._watermark}
            self._tell({"type": "render", "epoch": self.session.epoch, **facts})
        except Refusal as refusal:
            refusal.close = 0  # the session goes on as before
            self._refuse(refusal, "render")
        except Exception:
            log.exception("a session failed and is ended")
            self.fail()
        finally:
            self._switching = None

    @property
    def _watermark(self) -> bool:
        """Whether the pixels that the client sees carry the watermark: not those that it draws."""
        return self.place.facts.watermark and self.render == "server"

    def _sound_place(self) -> SoundPlace | None:
        """Where mouth codes are computed in batches; None: by this session alone."""
        facts, place = self.place.facts, self.place
        if isinstance(place, Place) and self._front_sound is None:
            return place if facts.batched else None
        if not facts.can_be_batched:
            return None
        if self._front_sound is None:
            self._front_sound = self.front.coefficients.open_sound(facts)
        return self._front_sound

    def _chosen_facts(self, start: messages.Start) -> AvatarFacts:
        """The facts of the avatar and the look that the client chose. Raises Refusal."""
        if start.background is not None or not start.matte:
            return self.front.facts_of(start.avatar, start.background)
        # A matte is made where the server offers it; `ready` says so.
        facts = self.front.facts_of(start.avatar)
        offered = TRANSPARENT in self.front.looks(facts.name)
        return self.front.facts_of(facts.name, TRANSPARENT) if offered else facts

    async def _first_message(self) -> messages.Start:
        try:
            message = await asyncio.wait_for(self._socket.receive(), self.front.limits.start_s)
        except asyncio.TimeoutError:
            raise Refusal(
                "idle_timeout",
                "the message `start` did not come",
                f"the server waits {self.front.limits.start_s:g} s for it",
                "Send it first",
                close=4408,
            ) from None
        if isinstance(message, str):
            found = messages.parse(message)
            if isinstance(found, messages.Start):
                return found
        raise Refusal(
            "no_start",
            "the first message is not `start`",
            "it says avatar and kind of video" if message is not None else "the client has gone",
            'Send {"type": "start"} first',
            close=4400,
        )

    def _ready(self, resumed: bool) -> dict[str, Any]:
        facts, session, limits = self.place.facts, self.session, self.front.limits
        return {
            "type": "ready",
            "protocol": messages.PROTOCOL,
            "session": self.id,
            "resumed": resumed,
            "epoch": session.epoch,
            "at": session.next_at,
            "rate": RATE,
            "fps": FPS,
            "frame": FRAME,
            "width": facts.picture[0],
            "height": facts.picture[1],
            "video": {
                "codec": self._codec,
                "string": codec_string(*facts.coded),
                "matte": facts.matte,
            },
            "render": self.render,
            "drawing": self._drawing(),
            "avatar": facts.name,
            "avatars": self.front.avatars,
            "background": facts.look,
            "backgrounds": self.front.looks(facts.name),
            "moods": facts.moods,
            "expressions": facts.expressions,
            "voices": list(self.front.voices),
            "state": session.state,
            "ai_generated": True,
            "notice": AI_NOTICE,
            "consent": {"given": facts.consent_given, "note": facts.consent_note},
            "watermark": self._watermark,
            "manifest": self._manifest(),
            "limits": {
                "text_characters": limits.text_characters,
                "message_bytes": limits.message_bytes,
                "audio_seconds": limits.audio_seconds,
                "ahead_ms": round(1000 * MAX_AHEAD / RATE),
            },
            "look_ahead_ms": round(1000 * self.front.look_ahead(facts)),
            "conversation": None if self.front.talk is None else self.front.talk.facts(),
            "resume": self._resume(),
        }

    def _manifest(self) -> dict[str, Any]:
        """What the session makes, of whom, and when it began."""
        began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        mark = self.place.facts.mark
        if self.render == "client" and "watermark" in mark:
            mark = {**mark, "watermark": None}
        return {**mark, "made": began, "session": self.id}

    def _drawing(self) -> dict[str, Any] | None:
        """What a client needs that draws by itself; None where it cannot."""
        facts = self.place.facts
        if facts.net is None or not self._can_draw:
            return None
        return {"bases": facts.net.count, "bundle": self.front.web.address_of(facts.name)}

    def _resume(self) -> dict[str, Any]:
        return {
            "session": self.id,
            "avatar": self.place.facts.name,
            **self.session.resume(),
        }

    async def _until_end(self) -> None:
        """Wait until the client goes, or must go."""
        gone = asyncio.ensure_future(self._socket.receive())
        must_close = asyncio.ensure_future(self._must_close.wait())
        waits = (gone, must_close)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    # What comes from the client.

    def _take_safely(self, message: bytes | str) -> None:
        """Handle one message; a fault of ours ends this session alone."""
        if self._closing is not None:
            return
        try:
            self._take(message)
        except Exception:
            log.exception("a session failed and is ended")
            self.fail()

    def _take(self, message: bytes | str) -> None:
        """Handle one message; what is wrong with it is told, and the session goes on."""
        if not self._bucket.take(self.front.now()):
            if not self._told_fast:
                self._told_fast = True
                self._refuse(
                    Refusal(
                        "too_fast",
                        "messages come too fast",
                        f"at most {self.front.limits.messages_per_s:g} a second are read",
                        "Send larger packets of sound, less often",
                    ),
                    None,
                )
            return
        self._told_fast = False
        about: str | None = None
        try:
            if isinstance(message, bytes):
                about = "audio"
                self._sound(message)
            else:
                found = messages.parse(message)
                about = found.type
                self._handle(found)
        except Refusal as refusal:
            self._refuse(refusal, about)

    def _handle(self, message: Any) -> None:
        now, session = self.front.now(), self.session
        match message:
            case messages.Speak():
                self._live_voice.begin()
                self._speak(message, now)
            case messages.Ask() | messages.Converse() | messages.Duck() | messages.ToolResult():
                self._conversation().take(message)
            case messages.SpeakEnd():
                self._speak_end()
            case messages.Interrupt():
                self._interrupt(message, now)
            case messages.Listen():
                session.listen(message.on)
            case messages.Expression():
                session.express(message.mood, message.values)
            case messages.Pose():
                session.pose(message.mode, message.at)
            case messages.HeardReport():
                session.heard(now, message.epoch, message.samples, message.buffered)
                self._plan(now)
            case messages.Render():
                self._switch(message.render)
            case messages.StatsRequest():
                self._tell(self._stats(now))
            case _:
                raise Refusal(
                    "already_started",
                    "`start` came a second time",
                    "a session has one avatar",
                    "Open another WebSocket for another avatar",
                )

    def _speak(self, message: messages.Speak, now: float) -> None:
        limits = self.front.limits
        if len(message.text) > limits.text_characters:
            raise Refusal(
                "too_large",
                f"a text of {len(message.text):,} characters",
                f"at most {limits.text_characters:,} are spoken at once",
                "Send it in parts, with `more`",
            )
        open_one = self.session.utterance
        appends = open_one is not None and self._more and message.utterance in (None, open_one.name)
        whole: list[Part] | None = None
        if not appends:
            voice = message.voice or self._voice
            self.front.check_voice(voice)
            self._note(slow_voice_note(voice))
            most = limits.audio_seconds
            # A text that comes at once is read as a whole, before anything is opened.
            if not message.more:
                whole = _accepted(lambda: list(read_script(message.text, most).parts))
            self._open(message.utterance, now)
            self._clause_voice, self._speed = voice, message.speed
            self._script, self._cutter = ScriptStream(most), ClauseCutter()
            self._waiting_text = 0
        if self._waiting_text + len(message.text) > 2 * limits.text_characters:
            raise Refusal(
                "too_large",
                "too much text waits to be spoken",
                f"{self._waiting_text:,} characters wait",
                "Send text as it is spoken, or interrupt",
            )
        self._waiting_text += len(message.text)
        self._more = message.more
        try:
            if whole is None:
                whole = _accepted(lambda: self._script.push(message.text))
            self._put_parts(whole)
        finally:
            if not message.more:
                self._end_text()

    def _put_parts(self, parts: list[Part]) -> None:
        """Give clauses that are complete, and pauses, to the voice."""
        assert self._task is not None
        for part in parts:
            if isinstance(part, Pause):
                self._put_clauses(self._cutter.finish())
                self._task.put(part)
            else:
                self._put_clauses(self._cutter.push(part))
        self._work()

    def _put_clauses(self, clauses: list[str]) -> None:
        assert self._task is not None
        for clause in filter(is_spoken, clauses):
            self._task.put(Clause(clause, self._clause_voice, self._speed))

    def _end_text(self) -> None:
        """Give the rest of the text to the voice; nothing follows, also after a refusal."""
        assert self._task is not None
        try:
            self._put_parts(_accepted(self._script.finish))
        finally:
            self._put_clauses(self._cutter.finish())
            self._task.put(End())
            self._work()

    def _work(self) -> None:
        """Make the speech that was asked for."""
        assert self._task is not None
        if self._at_once:
            self._task.run()
        else:
            self.front.workshop.schedule(self._task)

    def _speak_end(self) -> None:
        if self._task is None or self.session.utterance is None or not self._open_for_input:
            raise Refusal(
                "nothing_open",
                "no utterance is open",
                "`speak_end` ends one that takes more text or sound",
                "Send `speak` or sound first",
            )
        self._more = False
        if self._sound_rate:
            self._sound_rate = 0
            self._task.put(End())
            self._work()
        else:
            self._end_text()

    @property
    def _open_for_input(self) -> bool:
        return self._more or self._sound_rate > 0

    def _sound(self, content: bytes) -> None:
        packet, payload = unpack_client_sound(content)
        if self._talk is not None and self._talk.listening and packet.flags & Flag.LIVE:
            self._talk.sound(pcm16_to_float(payload), packet.rate)
            return
        if packet.epoch < self.session.epoch:
            return  # it was on its way when the session was interrupted
        if not payload:
            return
        if self._sound_rate and packet.rate != self._sound_rate:
            raise Refusal(
                "bad_packet",
                f"the rate changed from {self._sound_rate} to {packet.rate} Hz",
                "an utterance has one rate",
                "End it with `speak_end` first",
            )
        spoken = self.session.utterance
        waiting = spoken.waiting_samples if spoken is not None and self._sound_rate else 0
        pending = len(payload) // 2 * RATE // packet.rate
        if waiting + self._unmade + pending > self.front.limits.audio_seconds * RATE:
            raise Refusal(
                "too_much_audio",
                "too much sound waits to be spoken",
                f"{(waiting + self._unmade) / RATE:.0f} s wait",
                f"Keep it under {self.front.limits.audio_seconds:g} s",
            )
        if not self._sound_rate:
            live = bool(packet.flags & Flag.LIVE)
            self._open(None, self.front.now(), streamed=True, live=live)
            self._sound_rate = packet.rate
        assert self._task is not None
        self._unmade += pending
        self._task.put(Sound(pcm16_to_float(payload), packet.rate))
        self._work()

    def _open(
        self, name: str | None, now: float, streamed: bool = False, live: bool = False
    ) -> None:
        """Begin an utterance, and the task that makes its speech."""
        self._names += 1
        self._cancel_task()
        utterance = self.session.open_utterance(name or f"utterance-{self._names}", streamed, live)
        loop = asyncio.get_running_loop()
        self._unmade, self._sound_rate, self._more = 0, 0, False
        self._asked, self._sound_from = now, None
        self.first_sound_ms = self.first_frame_ms = None

        # Only resampling is left to do where the features of sound are computed in batches.
        sound_place = self._sound_place()
        self._at_once = streamed and sound_place is not None

        def deliver(made: SpeechBlock | Refusal | End | Notes) -> None:
            if self._at_once:
                self._speech_made(utterance, made)
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._speech_made, utterance, made)

        def in_store() -> int:
            return utterance.rows_received - utterance.taken

        features = self.front.features
        if sound_place is not None:
            source = self._batched_features(utterance, sound_place)

            def features(facts: AvatarFacts) -> FeatureSource:
                return source

        self._task = SpeechTask(self.place.facts, features, self._live_voice, deliver, in_store)

    def _batched_features(self, utterance: Utterance, place: SoundPlace) -> BatchedFeatures:
        """The features of an utterance that are computed in `place`."""

        def deliver(rows: np.ndarray) -> None:
            if self.session.utterance is utterance:
                sound = np.zeros(0, np.int16), np.zeros(0, np.float32)
                self.session.add_speech(utterance, SpeechBlock(*sound, rows))
                if utterance.taken == 0 or utterance.streamed:
                    if self._front_sound is not None:
                        self.front.coefficients.when_delivered(self._tick_safely)
                    else:
                        self.tick(self.front.now())

        channels, loop = self.place.facts.width, asyncio.get_running_loop()
        self._batched = BatchedFeatures(place, channels, loop, deliver)
        return self._batched

    def _speech_made(self, utterance: Utterance, made: SpeechBlock | Refusal | End | Notes) -> None:
        """The workshop delivers; what belongs to an utterance that is over is thrown away."""
        session = self.session
        if session.utterance is not utterance:
            return
        if isinstance(made, SpeechBlock):
            self._unmade = max(0, self._unmade - made.samples.size)
            session.add_speech(utterance, made)
            # Where features come later, the frame waits for them.
            if not self._at_once and (utterance.taken == 0 or utterance.streamed):
                self.tick(self.front.now())
            return
        if isinstance(made, Notes):
            for text in made.texts:
                self._note(text)
            return
        self._sound_rate, self._more = 0, False
        if isinstance(made, Refusal):
            session.abandon(utterance)
            self._refuse(made, "speak")
            if self._talk is not None:
                self._talk.voice_failed()
        else:
            session.end_utterance(utterance)

    def _interrupt(self, message: messages.Interrupt, now: float) -> None:
        event = self._cut(message.heard, now)
        if self._talk is not None:
            self._talk.interrupted(event["heard"]["text"])
        self.tick(now)

    def _cut(self, heard: messages.Heard | None, now: float) -> dict[str, Any]:
        """Empty everything; the event `interrupted`, which the client is told."""
        self._cancel_task()
        position = heard.samples if heard and heard.epoch == self.session.epoch else None
        event = self.session.interrupt(now, position)
        self._more, self._sound_rate, self._unmade = False, 0, 0
        self._asked = None
        self._orders.clear()
        self.outbox.drop_media(below=self.session.epoch)
        event["resume"] = self._resume()
        self._tell(event)
        self.front.metrics.interrupts.inc()
        return event

    # The conversation.

    def _conversation(self) -> Talk:
        """The conversation of this session. Raises Refusal where the server has none."""
        if self._talk is None:
            raise Refusal(
                "no_conversation",
                "this server answers nothing",
                "it was started without a chat endpoint",
                "Send `speak` with what the avatar shall say, or start it with --llm URL",
            )
        return self._talk

    def _control(self) -> SessionControl:
        """What the conversation does with this session."""

        def cut(heard: messages.Heard | None) -> str | None:
            now = self.front.now()
            if not self.session.audible(now):
                return None
            event = self._cut(heard, now)
            self._plan(now)
            return event["heard"]["text"] or ""

        return SessionControl(
            lambda message: self._speak(message, self.front.now()),
            self._speak_end,
            cut,
            lambda on: self.session.listen(on),
            lambda message: self._tell({"epoch": self.session.epoch, **message}),
            self._refuse,
            lambda text: self._live_voice.user_wrote(text),
            self.front.now,
        )

    def _note(self, text: str) -> None:
        """Tell the client something about its speech, each once."""
        if text and text not in self._noted:
            self._noted.add(text)
            self._tell({"type": "notice", "epoch": self.session.epoch, "text": text})

    # What goes to the client.

    def tick(self, now: float) -> None:
        """Send all that is due, and again when more is due; nothing once the session is over."""
        if self._closing is not None:
            return
        ended = False
        for item in self.session.advance(now, self.place.in_flight):
            if isinstance(item, Moment):
                self._send_moment(item, now)
                continue
            if item["type"] == "speaking_ended":
                self._cancel_task()
                ended = True
            if "resume" in item:
                item["resume"] = self._resume()
            if item["type"] == "words":
                said = sum(len(word["text"]) + 1 for word in item["words"])
                self._waiting_text = max(0, self._waiting_text - said)
            self._tell(item)
        if self._talk is not None:
            if ended:
                self._talk.spoken()
            self._talk.advance(now)
        if drops := self.session.counters.dropped - self._counted_drops:
            self.front.metrics.dropped.inc(drops)
            self._counted_drops += drops
        self._check_reader(now)
        self._plan(now)

    def _plan(self, now: float) -> None:
        """Tick again when something can be due."""
        if self._timer is not None:
            self._timer.cancel()
        if self._closing is None:
            seconds = min(LONGEST_TICK_S, self.session.seconds_to_next(now))
            if self._talk is not None:
                seconds = min(seconds, TALK_TICK_S)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(LEAST_TICK_S, seconds), self._tick_safely)

    def _tick_safely(self) -> None:
        """A tick; a fault of ours ends this session alone."""
        try:
            self.tick(self.front.now())
        except Exception:
            log.exception("a session failed and is ended")
            self.fail()

    def _send_moment(self, moment: Moment, now: float) -> None:
        flags = Flag.SPEECH if moment.speaking else Flag.NONE
        packet = pack_sound(flags, moment.epoch, moment.at, moment.samples)
        self.outbox.put_media(packet, moment.epoch, False, now)
        if self._asked is not None and self._sound_from is None and moment.samples is not None:
            loud = np.flatnonzero(np.abs(moment.samples.astype(np.int32)) > AUDIBLE)
            if loud.size:
                self._sound_from = moment.at + int(loud[0])
                self.first_sound_ms = round(1000 * (now - self._asked), 1)
                self.front.metrics.first_sound.observe(now - self._asked)
        if moment.order is None:
            return
        self._tokens = (self._tokens + 1) % (1 << 24)
        if self.place.order(moment.order, self._tokens):
            self._orders[self._tokens] = (moment, now)
        else:
            self.session.counters.dropped += 1
            self.session.forget_rows()

    def _picture(self, token: int, i420: np.ndarray) -> None:
        """A picture is rendered: encode and send it, unless it is of no use any more."""
        moment, due = self._orders.pop(token, (None, 0.0))
        if moment is None or moment.epoch != self.session.epoch or self._closing is not None:
            return
        now = self.front.now()
        if self.outbox.pictures >= self.front.limits.queued_pictures:
            self._shed += 1
            self.front.metrics.shed.inc()
            return
        facts = self.place.facts
        assert self.encoder is not None
        mark = mark_json(facts.name, facts.consent_given, moment.at, facts.identity)
        content, key = self.encoder.encode(i420, moment.epoch != self._key_epoch, mark)
        self._key_epoch = moment.epoch
        flags = (Flag.KEY if key else Flag.NONE) | (Flag.SPEECH if moment.speaking else Flag.NONE)
        flags |= Flag.MATTE if facts.matte else Flag.NONE
        packet = pack_picture(self.encoder.codec, flags, moment.epoch, moment.at, content)
        now = self.front.now()
        self.outbox.put_media(packet, moment.epoch, True, now)
        self.front.metrics.frames.inc()
        self._count_sent(moment.at, now, due)

    def _drawn_safely(self, frames: list[DrawnFrame]) -> None:
        """Frames to draw; a fault of ours ends this session alone."""
        begin = time.thread_time()
        try:
            self._drawn(frames)
        except Exception:
            log.exception("a session failed and is ended")
            self.fail()
        self.front.coefficients.spent.sending += time.thread_time() - begin

    def _drawn(self, frames: list[DrawnFrame]) -> None:
        """Send the coefficients of frames, those in a row together."""
        group: list[tuple[Moment, DrawnFrame, float]] = []
        for frame in frames:
            moment, due = self._orders.pop(frame.token, (None, 0.0))
            if moment is None or moment.epoch != self.session.epoch or self._closing is not None:
                continue
            follows = not group or (
                moment.at == group[-1][0].at + FRAME
                and moment.speaking == group[-1][0].speaking
                and len(group) < MOST_DRAWN
            )
            if not follows:
                self._send_group(group)
                group = []
            group.append((moment, frame, due))
        if group:
            self._send_group(group)

    def _send_group(self, group: list[tuple[Moment, DrawnFrame, float]]) -> None:
        """Send the coefficients of frames in a row. Lateness is that of the oldest."""
        first, _, due = group[0]
        if self.outbox.pictures >= self.front.limits.queued_pictures:
            self._shed += len(group)
            self.front.metrics.shed.inc(len(group))
            return
        flags = Flag.SPEECH if first.speaking else Flag.NONE
        contents = [(frame.pose, frame.step, frame.numbers) for _, frame, _ in group]
        packet = pack_coefficients(flags, first.epoch, first.at, contents)
        now = self.front.now()
        self.outbox.put_media(packet, first.epoch, True, now)
        self.front.metrics.frames.inc(len(group))
        self._count_sent(first.at, now, due, len(group))

    def _count_sent(self, at: int, now: float, due: float, frames: int = 1) -> None:
        """Note pictures on their way to the client, the first of time `at`."""
        self._sent += frames
        self._late.append(now - due)
        self.front.metrics.lateness.observe(now - due)
        self.session.picture_sent(now, at)
        end = at + FRAME * frames
        begun = self._sound_from is not None and end > self._sound_from
        if self._asked is not None and begun and self.first_frame_ms is None:
            self.first_frame_ms = round(1000 * (now - self._asked), 1)

    def _render_lost(self) -> None:
        self._orders.clear()
        self._refuse(
            Refusal(
                "render_lost",
                "the render process has ended",
                "a new one is being started",
                "Wait: the session goes on",
            ),
            None,
        )

    def _render_back(self) -> None:
        self.session.forget_rows()
        if self._batched is not None:
            self._batched.restart()

    def _stats(self, now: float) -> dict[str, Any]:
        late = np.array(self._late or [0.0]) * 1000
        session = self.session
        waiting = session.utterance.waiting_samples if session.utterance else 0
        return {
            "type": "stats",
            "epoch": session.epoch,
            "state": session.state,
            "uptime_s": round(now - self._began, 3),
            "frames_sent": self._sent,
            "frames_dropped": session.counters.dropped,
            "frames_shed": self._shed,
            "ahead_ms": round(1000 * (session.next_at - session.playback.position(now)) / RATE),
            "queue_ms": round(1000 * waiting / RATE),
            "lateness_ms": {
                "p50": round(float(np.percentile(late, 50)), 2),
                "p99": round(float(np.percentile(late, 99)), 2),
            },
            "first_sound_ms": self.first_sound_ms,
            "first_frame_ms": self.first_frame_ms,
            "sessions": self.front.renderer.sessions,
            "resume": self._resume(),
        }

    def _tell(self, message: dict[str, Any]) -> None:
        self.outbox.put_json(message, self.front.now())

    def _refuse(self, refusal: Refusal, about: str | None) -> None:
        self._tell(error_message(refusal, about))
        self.front.metrics.errors.labels(refusal.name).inc()
        if refusal.close:
            self._closing = (refusal.close, refusal.name)
            self._must_close.set()

    def _check_reader(self, now: float) -> None:
        """End a session whose client does not read."""
        limits, oldest = self.front.limits, self.outbox.oldest()
        slow = oldest is not None and now - oldest > limits.slow_s
        if (slow or self.outbox.bytes > limits.queued_bytes) and self._closing is None:
            self._closing = (4408, "slow_client")
            self.front.metrics.errors.labels("slow_client").inc()
            self._socket.abort()

    def _send_soon(self) -> None:
        """Send what is in the outbox when all that is due now is in it."""
        asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Send what is in the outbox, in order; the socket says when a slow client has read."""
        if self._socket.writable and (contents := self.outbox.take_all()):
            begin = time.thread_time()
            self._socket.write(contents)
            if self.render == "client":
                self.front.coefficients.spent.sending += time.thread_time() - begin

    def end(self) -> None:
        """End the session, which somebody else has asked for."""
        if self._closing is None:
            self._closing = (1000, "ended")
            self._must_close.set()

    def fail(self) -> None:
        """A fault of the server ends this session, and no other."""
        self.front.leave(self)
        self._closing = (1011, "internal")
        self._must_close.set()
        self._socket.abort()

    def _leave(self) -> None:
        # Speech that comes now from the workshop begins no ticks again.
        self._closing = self._closing or (1000, "")
        self.front.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._talk is not None:
            self._talk.close()
        self._cancel_task()

    def _cancel_task(self) -> None:
        """Make no more speech for the utterance: it is over, and late rows would hold others up."""
        if self._task is not None:
            self._task.cancelled = True
            self._task = None
        if self._batched is not None:
            self._batched.close()
            self._batched = None

    async def _end(self) -> None:
        """Send the last messages, and close."""
        code, reason = self._closing or (1000, "")
        if reason != "slow_client":
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drained(), CLOSE_S)
        with contextlib.suppress(asyncio.TimeoutError, Exception):
            await asyncio.wait_for(self._socket.close(code, reason), CLOSE_S)
        self.outbox = Outbox()  # it calls this session, which is freed now

    async def _drained(self) -> None:
        self._send()
        while self.outbox.oldest() is not None:
            await asyncio.sleep(0.005)
            self._send()


def _accepted(read: Callable[[], list[Part]]) -> list[Part]:
    """The parts of a text. Raises Refusal where it cannot be spoken."""
    try:
        return read()
    except BeingError as error:
        raise Refusal("text_rejected", error.what, error.why, error.fix) from error
