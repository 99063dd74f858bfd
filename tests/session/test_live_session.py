"""The session on a virtual clock: sound without gaps, epochs, sync, no jumps, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from being.conventions import CODE_OFFSETS, FEATURE_WINDOW, SAMPLES_PER_FRAME
from being.data.expression_channels import ExpressionChannels
from being.session import live_session as module
from being.session.live_session import ONSET_FRAMES, SILENT_ROW, FrameOrder, LiveSession, Moment
from being.session.motion import AvatarMotion
from being.session.refusals import Refusal
from being.session.timeline import FRAME, RATE, VirtualClock
from being.session.utterance import SpeechBlock, Utterance

NAMES = ("blink", "brow_inner_up", "brow_outer_up", "gaze_right", "gaze_up", "smile", "cheek_up")
WIDTH = len(NAMES)
CHANNELS = ExpressionChannels(
    NAMES, (0.0,) * WIDTH, (1.0,) * WIDTH, (0.0,) + (-1.0,) * (WIDTH - 1), (1.0,) * WIDTH
)
AVATAR = AvatarMotion(50, CHANNELS, np.zeros((50, WIDTH), np.float32))
SILENCE = np.zeros((FEATURE_WINDOW, 2), np.float32)
TICK = 0.01  # s between two looks of the driver at the session
REPORT_S = 0.2
JITTER_SAMPLES = round(0.07 * RATE)  # in the client's ring before it begins to play
CLICK = 30_000


class StillMotion:
    """A motion without motion, so that an hour takes seconds. It has what a session asks of it."""

    def __init__(self, avatar: AvatarMotion, seed: int = 0, phase: int = 0):
        from being.session.motion import PoseLoop

        self.poses, self.mood, self.values = PoseLoop(avatar.poses, phase), "neutral", {}
        self._expression = np.zeros(len(avatar.channels), np.float32)

    def advance(self, state: str, hearing: np.ndarray) -> tuple[int, np.ndarray]:
        return self.poses.advance(), self._expression


def speech(frames: int, loud: bool = True, first: int = 0, rows: int | None = None) -> SpeechBlock:
    """Sound of `frames` frames; the row of frame k holds first + k + 1."""
    random = np.random.default_rng(first)
    samples = random.integers(-9000, 9000, frames * FRAME).astype(np.int16) * int(loud)
    count = frames if rows is None else rows
    values = np.arange(first + 1, first + count + 1, dtype=np.float32)
    features = np.broadcast_to(values[:, None, None], (count, FEATURE_WINDOW, 2)).copy()
    return SpeechBlock(samples, np.zeros(frames * SAMPLES_PER_FRAME, np.float32), features)


def say(session: LiveSession, name: str, block: SpeechBlock, end: bool = True) -> Utterance:
    """Open an utterance with this content."""
    utterance = session.open_utterance(name)
    session.add_speech(utterance, block)
    if end:
        session.end_utterance(utterance)
    return utterance


def moments(items: list) -> list[Moment]:
    return [item for item in items if isinstance(item, Moment)]


def events(items: list, kind: str) -> list[dict]:
    return [item for item in items if isinstance(item, dict) and item["type"] == kind]


@dataclass
class FakeClient:
    """A browser: a ring buffer played by a sound card with its own speed, pictures by timestamp."""

    session: LiveSession
    clock: VirtualClock
    ppm: float = 0.0
    delay_s: float = 0.005  # of the network
    render_s: float = 0.012
    latency: int = round(0.03 * RATE)  # output latency, samples
    ring_end: int = 0
    position: float = 0.0  # read from the ring
    playing: bool = False
    epoch: int = 0
    underruns: int = 0
    arriving: list = field(default_factory=list)  # (time, moment or event, with picture)
    waiting: list = field(default_factory=list)  # pictures that are there and not drawn
    drawn: list = field(default_factory=list)  # (time, at)
    heard: dict = field(default_factory=dict)  # at -> time at which the sample is audible
    late: int = 0
    ahead: list = field(default_factory=list)
    _reported: float = 0.0

    def tick(self, seconds: float) -> list:
        """Move the clock on; returns what the session made."""
        self.clock.advance(seconds)
        now = self.clock.now()
        made = self.session.advance(now)
        for item in made:
            self.arriving.append((now + self.delay_s, item, False))
            if isinstance(item, Moment) and item.order is not None:
                self.arriving.append((now + self.delay_s + self.render_s, item, True))
        self.arriving.sort(key=lambda entry: entry[0])
        self._play(now, seconds)
        while self.arriving and self.arriving[0][0] <= now:
            self._receive(*self.arriving.pop(0))
        if now - self._reported >= REPORT_S and self.playing:
            self._reported = now
            self.ahead.append(self.session.next_at - self.position)
            self.session.heard(
                now, self.epoch, int(self.position) - self.latency, int(self.buffered)
            )
        return made

    @property
    def buffered(self) -> float:
        return self.ring_end - self.position

    def _receive(self, time: float, item: Moment | dict, picture: bool) -> None:
        if isinstance(item, dict) or item.epoch < self.epoch:
            return
        if item.epoch > self.epoch or (not self.playing and self.ring_end == 0):
            self.epoch, self.playing = item.epoch, False
            self.position, self.ring_end = item.at, item.at
            self.waiting.clear()
        if picture:
            self.late += item.at + FRAME < self.position - self.latency
            self.waiting.append(item)
            return
        assert item.at == self.ring_end, "the sound has a gap"
        self.ring_end += FRAME
        self.playing |= self.buffered >= JITTER_SAMPLES

    def _play(self, now: float, seconds: float) -> None:
        if self.playing:
            step = RATE * seconds * (1 + 1e-6 * self.ppm)
            if step > self.buffered:
                self.underruns += 1
            before, self.position = self.position, min(self.position + step, self.ring_end)
            # The first sample of each frame is audible `latency` samples after it was read.
            first = -int(-(before - self.latency) // FRAME) * FRAME
            for at in range(first, int(self.position - self.latency) + 1, FRAME):
                behind = (self.position - self.latency - at) / RATE
                self.heard.setdefault(at, now - behind)
        for item in [w for w in self.waiting if w.at <= self.position - self.latency]:
            self.waiting.remove(item)
            self.drawn.append((now, item.at))


def play(
    seconds: float,
    each: Callable[[FakeClient, float], None] = lambda client, now: None,
    tick: float = TICK,
    **settings: float,
) -> tuple[FakeClient, list]:
    """A session of `seconds`, its client, and everything that the session made."""
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    client = FakeClient(session, clock, **settings)
    made = []
    for _ in range(round(seconds / tick)):
        each(client, clock.now())
        made += client.tick(tick)
    return client, made


def test_sound_has_no_gap_and_each_picture_has_its_time() -> None:
    def each(client: FakeClient, now: float) -> None:
        if abs(now - 1.0) < TICK / 2:
            say(client.session, "a", speech(30))

    client, made = play(4.0, each)
    times = [moment.at for moment in moments(made)]
    assert times == list(range(0, len(times) * FRAME, FRAME))
    assert abs(len(times) * 0.04 - 4.0) < 0.3 and client.underruns == 0 and client.late == 0
    spoken = [moment for moment in moments(made) if moment.samples is not None]
    assert len(spoken) == 30
    assert (np.concatenate([m.samples for m in spoken]) == speech(30).samples).all()
    (started,), (ended,) = events(made, "speaking_started"), events(made, "speaking_ended")
    assert started["at"] == spoken[0].at and ended["at"] == spoken[-1].at + FRAME
    assert [event["state"] for event in events(made, "state")] == ["speaking", "idle"]
    # The window of each spoken frame is centred on its own row, after the first ones.
    rows: dict[int, np.ndarray] = {}
    for k, moment in enumerate(spoken):
        assert moment.order is not None
        rows.update(moment.order.rows)
        own = rows[int(moment.order.window[4])]
        assert (own == (k + 1) * min(1.0, (k + 1) / module.ONSET_FRAMES)).all()


@pytest.mark.parametrize("ppm", [-200.0, pytest.param(200.0, marks=pytest.mark.slow)])
def test_an_hour_with_a_sound_card_that_is_off_stays_in_sync(
    ppm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clicks in the sound, white pictures at them: the difference of what is heard and drawn."""
    monkeypatch.setattr(module, "Motion", StillMotion)
    clicks: set[int] = set()

    def each(client: FakeClient, now: float) -> None:
        session = client.session
        if session.utterance is None and int(now / TICK) % 700 == 0:
            block = speech(100, loud=False)
            block.samples[::10_000] = CLICK
            say(session, "clicks", block)

    client, made = play(3600.0, each, ppm=ppm)
    for moment in moments(made):
        if moment.samples is not None and moment.samples.max() == CLICK:
            clicks.add(moment.at)
    drawn = {at: time for time, at in client.drawn}
    errors = [drawn[at] - client.heard[at] for at in clicks if at in drawn and at in client.heard]
    assert len(errors) > 3000 and client.underruns == 0
    # The last minutes are as good as the first.
    assert np.abs(errors).max() <= 0.020, np.abs(errors).max()
    # 200 ppm of an hour are 720 ms: without the reports, that much sound would wait, or lack.
    assert max(client.ahead[-300:]) < 0.3 * RATE and min(client.ahead[-300:]) > 0
    assert client.late == 0 and session_seconds(made) == pytest.approx(3600, abs=1.5)


def session_seconds(made: list) -> float:
    return len(moments(made)) * FRAME / RATE


def test_nothing_of_an_old_epoch_comes_after_200_interrupts_at_random_moments() -> None:
    random = np.random.default_rng(0)
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    epoch = 0
    for k in range(200):
        utterance = say(session, f"u{k}", speech(40, first=1000 * k), end=False)
        for _ in range(int(random.integers(0, 120))):
            clock.advance(float(random.uniform(0.001, 0.02)))
            for moment in moments(session.advance(clock.now())):
                assert moment.epoch == epoch
                if moment.order is not None:
                    # New rows are of this utterance, or between it and silence.
                    for number, row in moment.order.rows:
                        assert number >= 0 and 0 < row[0, 0] <= 1000 * k + 40
        before = session.next_at
        event = session.interrupt(clock.now())
        epoch += 1
        assert event["epoch"] == session.epoch == epoch
        assert session.start_at <= before and event["at"] == before
        # Sound that was made for the old epoch, and comes now, is thrown away.
        session.add_speech(utterance, speech(10, first=77))
        session.end_utterance(utterance)
        assert session.utterance is None and session.state == "idle"
        after = moments(session.advance(clock.now()))
        assert after and all(m.samples is None and m.epoch == epoch for m in after)
    assert session.counters.interrupts == 200


def test_an_interrupt_tells_what_was_heard() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    block = speech(50)
    block.words += [("Hello", 0, 9_600), ("brave", 12_000, 20_000), ("world", 24_000, 40_000)]
    say(session, "greeting", block, end=False)
    made = []
    for _ in range(100):
        clock.advance(0.01)
        made += session.advance(clock.now())
    (first, *_) = events(made, "words")
    assert first["words"] == [{"text": "Hello", "start": 0, "end": 9_600}]
    event = session.interrupt(clock.now(), heard=15_000)
    assert event["utterance"] == "greeting"
    assert event["heard"] == {"samples": 15_000, "seconds": 0.625, "text": "Hello brave"}
    # A position that was never sent is limited to what was.
    session.open_utterance("second")
    assert session.interrupt(clock.now(), heard=1 << 60)["heard"]["samples"] == session.next_at


def test_sound_that_starves_is_followed_by_silence_and_goes_on() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    utterance = session.open_utterance("slow")
    made = []
    for k in range(200):
        if k in (0, 80):
            session.add_speech(utterance, speech(10, first=10 * (k > 0)))
        if k == 81:
            session.end_utterance(utterance)
        clock.advance(0.01)
        made += session.advance(clock.now())
    spoken = [m.samples for m in moments(made) if m.samples is not None]
    expected = np.concatenate([speech(10).samples, speech(10, first=10).samples])
    assert (np.concatenate(spoken) == expected).all()
    assert session.counters.starved == 1
    assert len(events(made, "speaking_started")) == len(events(made, "speaking_ended")) == 1


def test_late_features_repeat_the_last_row_and_do_not_hold_the_sound_back() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    say(session, "late", speech(20, rows=3))
    made = []
    for _ in range(100):
        clock.advance(0.01)
        made += session.advance(clock.now())
    spoken = [m for m in moments(made) if m.samples is not None]
    assert len(spoken) == 20 and session.counters.late_rows == 17
    # After the third row, the window shows it again and again.
    own = [int(m.order.window[4]) for m in spoken if m.order]
    assert len(set(own[module.ONSET_FRAMES :])) == 1


def test_an_utterance_that_fails_ends_and_the_next_one_can_begin() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    utterance = session.open_utterance("broken")
    session.add_speech(utterance, speech(20, rows=0))
    session.abandon(utterance)
    clock.advance(0.5)
    session.advance(clock.now())
    assert session.utterance is None and session.state == "idle"
    say(session, "next", speech(3))


def test_streamed_sound_waits_for_four_rows_and_then_never_for_one() -> None:
    """Sound comes in real time, its row 0.16 s later: no row is late, nothing starves."""
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    utterance = session.open_utterance("agent", streamed=True)
    made, sent = [], 0
    for tick in range(400):
        clock.advance(0.01)
        if tick % 4 == 3 and sent < 60:
            rows = max(0, min(1, sent - 3))
            block = speech(1, first=sent, rows=0)
            if rows:
                block.rows = speech(1, first=utterance.rows_received).rows
            if sent == 59:
                block.rows = speech(4, first=utterance.rows_received).rows
            session.add_speech(utterance, block)
            sent += 1
            if sent == 60:
                session.end_utterance(utterance)
        made += session.advance(clock.now())
    spoken = [m for m in moments(made) if m.samples is not None]
    assert len(spoken) == 60
    assert session.counters.late_rows <= 1 and session.counters.starved == 0


def test_pictures_of_streamed_sound_are_made_as_soon_as_they_can_be() -> None:
    """Also when the client's buffer moves the playback back, and never more than 300 ms ahead."""
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now(), offsets=CODE_OFFSETS)
    utterance = session.open_utterance("a", streamed=True)
    session.add_speech(utterance, speech(6, rows=0))
    session.advance(clock.now())
    made = 0
    for k in range(50):
        clock.advance(0.04)
        # A row comes with the 40 ms of sound that end its look-ahead.
        session.add_speech(utterance, speech(1, first=k, rows=1))
        if k % 5 == 0:
            session.heard(clock.now(), 0, max(0, round((clock.now() - 0.07) * RATE)))
        spoken = [m for m in moments(session.advance(clock.now())) if m.speaking]
        assert len(spoken) == 1 and spoken[0].order is not None, k
        made += len(spoken)
        ahead = session.next_at - session.playback.position(clock.now())
        assert ahead <= 0.3 * RATE
    assert made == 50 and session.counters.late_rows == 0
    # A client that sends faster than time is not served further ahead than that.
    session.add_speech(utterance, speech(50, first=50))
    assert len(session.advance(clock.now())) <= 3


def test_the_end_of_streamed_sound_is_spoken_though_its_row_is_lacking() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    utterance = session.open_utterance("agent", streamed=True)
    session.add_speech(utterance, speech(5))
    made = []
    for tick in range(120):
        clock.advance(0.01)
        if tick == 60:  # it has starved; one frame follows, without a row
            session.add_speech(utterance, speech(1, rows=0))
            session.end_utterance(utterance)
        made += session.advance(clock.now())
    assert sum(m.samples is not None for m in moments(made)) == 6
    assert session.utterance is None


def test_live_sound_that_waits_is_caught_up_with_in_silence() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    utterance = session.open_utterance("microphone", live=True)
    made = []
    # A stall of the network: 1.2 s come at once, 0.4 s of it silent.
    session.add_speech(utterance, speech(10))
    session.add_speech(utterance, speech(10, loud=False))
    session.add_speech(utterance, speech(10, first=20))
    for _ in range(300):
        clock.advance(0.01)
        made += session.advance(clock.now())
    assert session.utterance is utterance and utterance.dropped >= 10
    assert sum(m.samples is not None for m in moments(made)) == 30 - utterance.dropped


def jump(orders: list[FrameOrder]) -> np.ndarray:
    """Frame-to-frame change of what a renderer reads: rows in the window, pose, expression."""
    lips = np.array([(o.window != SILENT_ROW).sum() for o in orders]).astype(float)
    poses = np.array([o.pose for o in orders])
    assert np.abs(np.diff(poses)).max() <= 1, "the pose loop jumps"
    face = np.stack([o.expression for o in orders])
    # Blinks are fast in every state; they are no jump of a transition.
    return np.concatenate(
        [np.abs(np.diff(lips))[:, None] / 8, np.abs(np.diff(face[:, 1:], axis=0))], 1
    )


def test_nothing_jumps_between_idle_listening_and_speaking() -> None:
    def each(client: FakeClient, now: float) -> None:
        session, tick = client.session, round(now / TICK)
        if tick % 400 == 0:
            say(session, f"u{tick}", speech(50, first=tick))
        if tick % 400 == 250:
            session.listen(True)
        if tick % 400 == 330:
            session.listen(False)
        if tick % 1200 == 920:
            session.interrupt(now)

    _, made = play(120.0, each)
    orders = [m.order for m in moments(made) if m.order is not None]
    # At most half of the window leaves silence at once, in the first frame of speech, where its
    # rows are mostly silence yet; the next test looks at the lips.
    change = jump(orders)
    assert change[:, 0].max() <= 4 / 8
    assert change[:, 1:3].max() < 0.1 and change[:, 3:].max() < 0.3


def mouth_openings(items: list, sounds: dict[int, np.ndarray]) -> np.ndarray:
    """A scripted renderer: how far the mouth opens, from the rows of the window as a network
    weighs them. sounds: the rows that were sent, by number; silence has 0.
    """
    weights = np.array([0.03, 0.07, 0.15, 0.2, 0.25, 0.15, 0.1, 0.05])
    opened = []
    for moment in moments(items):
        assert moment.order is not None
        sounds.update({number: row[8] for number, row in moment.order.rows})
        rows = [sounds[n].mean() if n != SILENT_ROW else 0.0 for n in moment.order.window.tolist()]
        opened.append(float(np.dot(weights, rows)))
    return np.array(opened)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_the_mouth_changes_no_faster_at_a_transition_than_inside_speech(seed: int) -> None:
    """Begin, end and interrupt against the 99.5th percentile of all changes inside speech."""
    random = np.random.default_rng(seed)
    marks: list[tuple[str, int]] = []

    def each(client: FakeClient, now: float) -> None:
        session, tick = client.session, round(now / TICK)
        if tick % 500 == 100:
            block = speech(76, first=tick)
            # Twelve syllables of 4 a second, opened to random widths; the first and the last less.
            phase = np.arange(76) * 4 / 25 * 2 * np.pi
            width = random.uniform(0.3, 1.0, 76)
            width[:6], width[-6:] = 0.7, 0.7
            opened = np.abs(np.sin(phase / 2)) * width
            block.rows[:] = opened[:, None, None]
            say(session, f"u{tick}", block)
        if tick % 1000 == 100 + 137:
            marks.append(("interrupt", session.next_at // FRAME))
            session.interrupt(now)

    _, made = play(240.0, each)
    change = np.abs(np.diff(mouth_openings(made, {})))
    speaks = np.array([moment.speaking for moment in moments(made)])
    edges = np.flatnonzero(speaks[1:] != speaks[:-1])
    reach = np.arange(module.ONSET_FRAMES + 1)
    near = np.unique(np.clip(edges[:, None] + reach, 0, len(change) - 1))
    inside = np.setdiff1d(np.flatnonzero(speaks[1:] & speaks[:-1]), near)
    limit = np.percentile(change[inside], 99.5)
    assert len(edges) > 80 and len(marks) >= 24
    assert change[near].max() <= limit, (change[near].max(), limit)


def test_a_resumed_session_goes_on_with_mood_and_pose() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    session.express("happy", {"brow_raise": 0.4})
    for _ in range(123):
        clock.advance(0.02)
        session.advance(clock.now())
    kept = session.resume()
    other = LiveSession(AVATAR, SILENCE, 0.0, resume=kept)
    assert (other.epoch, other.next_at) == (session.epoch + 1, session.next_at)
    assert other.motion.mood == "happy" and other.motion.values == {"brow_raise": 0.4}
    (moment, *_) = moments(other.advance(0.0))
    assert moment.order is not None and abs(moment.order.pose - session.motion.poses.pose) <= 1


@pytest.mark.parametrize(
    "kept", [None, 3, [], {"at": "x"}, {"phase": -1, "values": {"a": "b"}}, {"epoch": True}]
)
def test_a_resume_object_that_makes_no_sense_is_ignored(kept: object) -> None:
    session = LiveSession(AVATAR, SILENCE, 0.0, resume=kept)
    assert session.next_at == 0 and session.motion.mood == "neutral"


def test_refusals_say_what_to_do() -> None:
    session = LiveSession(AVATAR, SILENCE, 0.0)
    session.open_utterance("first")
    with pytest.raises(Refusal, match="Interrupt it first") as refused:
        session.open_utterance("second")
    assert refused.value.name == "already_speaking"
    with pytest.raises(Refusal) as refused:
        session.express("furious", None)
    assert refused.value.name == "unknown_mood" and "happy" in refused.value.fix
    with pytest.raises(Refusal) as refused:
        session.express(None, {"smile": float("nan")})
    assert refused.value.name == "bad_message"
    with pytest.raises(Refusal) as refused:
        session.express(None, {"ears": 1.0})
    assert refused.value.name == "unknown_expression"
    assert session.motion.mood == "neutral" and session.motion.values == {}


def test_pictures_are_left_out_when_the_renderer_is_behind() -> None:
    session = LiveSession(AVATAR, SILENCE, 0.0)
    made = moments(session.advance(0.0, in_flight=module.MAX_IN_FLIGHT))
    assert made and all(m.order is None for m in made)
    assert session.counters.dropped == len(made)


def test_the_head_holds_where_it_is_told_to() -> None:
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now())
    session.pose("hold", 1.0)
    poses = []
    for _ in range(500):
        clock.advance(0.01)
        poses += [m.order.pose for m in moments(session.advance(clock.now())) if m.order]
    assert poses[-10:] == [49] * 10 and np.abs(np.diff(poses)).max() == 1
    session.pose("loop", None)
    for _ in range(30):
        clock.advance(0.04)
        poses += [m.order.pose for m in moments(session.advance(clock.now())) if m.order]
    assert poses[-1] < 30 and np.abs(np.diff(poses)).max() == 1


def test_a_picture_of_the_mouth_code_reads_its_own_row_alone() -> None:
    """So streamed sound starts with its first row, and no look-ahead is added."""
    clock = VirtualClock()
    session = LiveSession(AVATAR, SILENCE, clock.now(), offsets=CODE_OFFSETS)
    utterance = session.open_utterance("agent", streamed=True)
    session.add_speech(utterance, speech(25, rows=0))
    assert not utterance.startable
    session.add_speech(utterance, speech(0, rows=1))
    assert utterance.startable
    session.add_speech(utterance, speech(0, first=1, rows=24))
    session.end_utterance(utterance)

    made = []
    for _ in range(200):
        clock.advance(0.01)
        made += moments(session.advance(clock.now()))
    known = dict(row for moment in made for row in moment.order.rows)
    windows = [moment.order.window for moment in made if moment.samples is not None]
    assert len(windows) == 25
    assert all(len(set(moment.order.window.tolist())) == 1 for moment in made)
    # After the onset each picture reads the row of its own frame.
    for k in range(ONSET_FRAMES, 25):
        assert (known[int(windows[k][0])] == k + 1).all()
