"""The live page in headless Chromium against a scripted server: secure page and plain page."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from chromium import PLAIN_HOST, Chromium, LoopThread, Page, page_probe
from live_stand_in import RATE, StandIn

# The contrast of each text to the colour behind it, by the element's name.
CONTRASTS = """(() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.6) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = {};
  const texts = "h1, #link-text, button, label, legend, select, textarea, #consent, #secure, " +
    "#error, output";
  for (const e of document.querySelectorAll(texts)) {
    if (!e.checkVisibility() || e.disabled) continue;
    const ink = light(numbers(getComputedStyle(e).color).slice(0, 3));
    const paper = light(behind(e));
    found[e.id || e.textContent.trim()] =
      (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }
  return found;
})()"""
PROBE = page_probe()
ENTER, ESCAPE = ("Enter", 13, "\r"), ("Escape", 27)
SPEAKING = "document.body.dataset.state === 'speaking'"
IDLE = "document.body.dataset.state === 'idle' && document.getElementById('interrupt').disabled"
CANVAS = "document.getElementById('canvas').toDataURL()"
CONNECTED = "document.body.dataset.link === 'open' && document.body.dataset.state === 'idle'"
SHORT = "one two three four five six"
TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
REFRESH = 1000 / 60  # ms from the drawing of a picture to its place on the screen
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="module")
def browser(loop: LoopThread) -> Iterator[Chromium]:
    chromium = Chromium(loop)
    yield chromium
    chromium.close()


@pytest.fixture
def server(loop: LoopThread) -> Iterator[StandIn]:
    stand_in = StandIn(prefix="/user/7/proxy/8000/")
    loop.run(stand_in.start())
    yield stand_in
    loop.run(stand_in.stop())


@pytest.fixture
def open_page(browser: Chromium, server: StandIn) -> Iterator[Open]:
    """Opens the page and waits for its first picture. Then nothing may have been complained of."""
    pages = []

    def opened(host: str = "localhost", query: str = "", **settings: object) -> Page:
        url = f"http://{host}:{server.port}{server.prefix}{query}"
        pages.append(browser.open(url, script=PROBE, **settings))  # type: ignore[arg-type]
        pages[-1].wait(CONNECTED)
        return pages[-1]

    yield opened
    for page in pages:
        complaints = [c for c in page.complaints if "WebSocket" not in c]
        page.close()
        assert not complaints, complaints
        hosts = {url.split("/")[2] for url in page.requests if not url.startswith("data:")}
        assert len(hosts) == 1, f"the page asks for something outside: {page.requests}"


def say(page: Page, text: str) -> None:
    """Type the text and press Enter."""
    page.click("#text")
    page.type(text)
    page.press(*ENTER)


def mouth_range(page: Page, seconds: float) -> float:
    """How much the mouth's brightness changes while the test waits, levels of 255."""
    page.run("probe.frames.length = 0")
    time.sleep(seconds)
    shown = page.run("probe.frames.map(([at, mouth]) => mouth)")
    return max(shown) - min(shown)


HOSTS = pytest.mark.parametrize("host", ["localhost", PLAIN_HOST], ids=["secure", "plain"])


@HOSTS
def test_the_mouth_moves_while_sound_plays_and_not_in_silence(open_page: Open, host: str) -> None:
    page = open_page(host)
    assert page.run("isSecureContext") == (host == "localhost")
    page.click("#stats-toggle")
    say(page, SHORT)
    page.wait(SPEAKING)
    canvases = {page.run(CANVAS)}
    while not page.run(IDLE):
        canvases.add(page.run(CANVAS))
        time.sleep(0.1)
    time.sleep(1)

    begin, end = page.run("[probe.sounds[0], probe.sounds.at(-1)]")
    mouths = page.run("probe.frames.map(([at, mouth]) => [at, mouth])")
    during = [mouth for at, mouth in mouths if begin < at < end]
    after = [mouth for at, mouth in mouths if at > end + 300]
    assert end - begin > 1000
    assert max(during) - min(during) > 20 and len(canvases) > 1
    assert len(after) > 3 and max(after) - min(after) < 3

    path = page.run("document.getElementById('stat-path').textContent")
    assert path == ("H.264, worklet" if host == "localhost" else "JPEG, buffers")
    first = page.run("document.getElementById('stat-first').textContent")
    assert first.endswith(" ms") and 0 < int(first.split()[0]) < 3000
    note = page.run("document.getElementById('secure').innerText")
    assert ("ssh -L" in note) == (host == PLAIN_HOST)


def sync_errors(page: Page, clicks: int) -> list[float]:
    """How long after its click each white picture is on the screen, ms.

    A white picture lasts 40 ms: a machine that is busy for longer does not show all of them.
    """
    page.run("probe.clicks.length = probe.frames.length = 0")
    say(page, "click " * clicks)
    page.wait(SPEAKING)
    page.wait(IDLE, timeout=clicks)
    time.sleep(0.2)
    heard, frames = page.run("probe.clicks"), page.run("probe.frames")
    pairs = zip(frames, frames[1:], strict=False)
    flashes = [b[0] + REFRESH for a, b in pairs if a[2] < 240 <= b[2]]
    assert abs(len(heard) - clicks) <= 1 and len(flashes) >= 0.3 * clicks, (heard, flashes)
    return [min((flash - click for click in heard), key=abs) for flash in flashes]


def interrupt_times(page: Page, count: int) -> list[float]:
    """From the click on the button to the last sound at the ear, ms, at random moments."""
    moments = random.Random(16)
    taken = []
    for _ in range(count):
        say(page, TEXT)
        page.wait(SPEAKING)
        time.sleep(0.3 + moments.random() / 2)
        page.run("probe.sounds.length = 0")
        page.click("#interrupt")
        time.sleep(0.3)
        taken.append(page.run("probe.sounds.at(-1) - probe.interrupts.at(-1)"))
        page.run("probe.sounds.length = 0")
        time.sleep(0.1)
        assert page.run("probe.sounds.length") == 0
        assert page.run("document.body.dataset.state") == "idle"
    return taken


def quantiles(values: list[float]) -> str:
    """Median, 95th percentile and largest of the sizes, ms."""
    sizes = sorted(map(abs, values))
    return " ".join(
        f"{name} {sizes[min(len(sizes) - 1, int(part * len(sizes)))]:.1f}"
        for name, part in (("p50", 0.5), ("p95", 0.95), ("max", 1))
    )


@HOSTS
def test_flashes_and_clicks_come_together(open_page: Open, host: str) -> None:
    """Sync by content: the picture of a click is white. Picture on the screen against sound."""
    page = open_page(host)
    say(page, "one")  # the first speech of a page starts sound card and decoder
    page.wait(SPEAKING)
    page.wait(IDLE)
    errors = sync_errors(page, 7)
    print("picture after sound, ms:", [round(error) for error in errors])
    assert statistics.median(map(abs, errors)) < 40, errors


@HOSTS
def test_an_interrupt_is_silent_within_60_ms(open_page: Open, server: StandIn, host: str) -> None:
    taken = interrupt_times(open_page(host), 3)
    print("decision to silence, ms:", [round(ms) for ms in taken])
    assert statistics.median(taken) <= 60, taken
    told = server.said("interrupt")
    assert len(told) == 3
    assert all(message["heard"]["samples"] > 0 for message in told)


def test_an_interrupt_of_the_server_is_silent_within_100_ms(
    open_page: Open, server: StandIn, loop: LoopThread
) -> None:
    page = open_page()
    taken = []
    for _ in range(3):
        say(page, TEXT)
        page.wait(SPEAKING)
        time.sleep(0.4)
        page.run("probe.sounds.length = 0")
        told = 1000 * loop.run(server.interrupt())
        page.wait(IDLE)
        time.sleep(0.3)
        taken.append(page.run("performance.timeOrigin + probe.sounds.at(-1)") - told)
    print("message to silence, ms:", [round(ms) for ms in taken])
    assert statistics.median(taken) <= 100, taken
    assert not server.said("interrupt")


@pytest.mark.slow
@pytest.mark.timeout(900)
@HOSTS
def test_200_interrupts(open_page: Open, host: str) -> None:
    taken = interrupt_times(open_page(host), 200)
    print("decision to silence, ms:", quantiles(taken))
    assert sorted(taken)[190] <= 60


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_stay_in_sync(open_page: Open) -> None:
    page = open_page()
    errors = []
    end = time.monotonic() + 600
    while time.monotonic() < end:
        errors += sync_errors(page, 50)
    print("picture and sound apart, ms:", quantiles(errors))
    assert statistics.median(map(abs, errors)) < 20
    assert sorted(map(abs, errors))[int(0.95 * len(errors))] < 40


def test_nothing_of_the_old_epoch_is_seen_or_heard_after_an_interrupt(
    open_page: Open, server: StandIn
) -> None:
    page = open_page()
    say(page, TEXT)
    page.wait(SPEAKING)
    page.press(*ESCAPE)
    time.sleep(0.25)
    page.run("probe.sounds.length = 0")
    assert mouth_range(page, 0.6) < 3
    assert page.run("probe.sounds.length") == 0
    assert server.said("interrupt")


def test_a_new_text_cuts_the_old_one(open_page: Open, server: StandIn) -> None:
    page = open_page()
    say(page, TEXT)
    page.wait(SPEAKING)
    say(page, "click")
    page.wait("probe.clicks.length > 0")
    page.wait(IDLE)
    kinds = [m["type"] for m in server.log if m["type"] in ("speak", "interrupt")]
    assert kinds == ["speak", "interrupt", "speak"]


def test_after_a_restart_the_rest_is_spoken(
    open_page: Open, server: StandIn, loop: LoopThread
) -> None:
    page = open_page(PLAIN_HOST)  # as a secure page: test_page_with_server.py
    page.run("document.querySelector('[name=mood][value=happy]').click()")
    say(page, TEXT)
    page.wait("document.querySelector('#captions .said')?.textContent.includes('three')")
    loop.run(server.stop())
    page.wait("document.body.dataset.link === 'lost'")
    time.sleep(0.4)
    heard = page.run("import(new URL('main.js', document.baseURI)).then(m => m.session.lastHeard)")
    loop.run(server.start())
    page.wait("document.body.dataset.link === 'open'")

    start = server.said("start")[-1]
    assert start["heard"] == pytest.approx(heard, abs=RATE / 10)
    assert start["resume"]["avatar"] == "Ada"
    page.wait(SPEAKING)
    first, again = (message["text"] for message in server.said("speak"))
    assert first == TEXT
    assert first.endswith(again) and again not in ("", first), again
    said = first[: -len(again)].split()
    assert 2 <= len(said) <= 9, said
    page.wait(IDLE)


def test_a_reloaded_page_goes_on_with_the_same_session(open_page: Open, server: StandIn) -> None:
    page = open_page()
    page.run("document.querySelector('[name=mood][value=happy]').click()")
    page.run("document.getElementById('avatar').value = 'Ben'")
    page.run("document.getElementById('avatar').onchange()")
    page.wait(f"document.getElementById('name').textContent === 'Ben' && {CONNECTED}")
    page.run("document.querySelector('[name=mood][value=serious]').click()")
    page.reload()
    page.wait(CONNECTED)
    assert server.said("start")[-1]["resume"]["avatar"] == "Ben"
    assert page.run("document.getElementById('name').textContent") == "Ben"
    assert page.run("document.querySelector('[name=mood]:checked').value") == "serious"


def test_the_microphone_speaks_through_the_avatar(open_page: Open, server: StandIn) -> None:
    page = open_page()
    page.click("#microphone")
    page.wait(SPEAKING)
    page.wait("probe.sounds.length > 0")  # Chromium's test microphone beeps once a second
    assert page.run("document.getElementById('microphone').ariaPressed") == "true"
    page.click("#microphone")
    page.wait(IDLE)
    sent = sum(message["samples"] for message in server.said("sound"))
    assert sent > RATE / 2
    assert server.said("speak_end")


def test_the_microphone_of_a_plain_page_says_what_to_do(open_page: Open) -> None:
    page = open_page(PLAIN_HOST)
    page.run("document.querySelector('#secure button').click()")
    page.click("#microphone")
    note = page.wait(
        "document.getElementById('secure').checkVisibility() && "
        "document.getElementById('secure').innerText"
    )
    assert "HTTPS" in note and "ssh -L" in note


def test_a_refused_text_comes_back_with_its_error(open_page: Open) -> None:
    page = open_page()
    say(page, "unspeakable words")
    error = page.wait("document.getElementById('error').innerText")
    assert "the voice cannot say this text" in error.lower() and "Ask for another one" in error
    assert page.run("document.getElementById('text').value") == "unspeakable words"
    assert page.run("document.getElementById('interrupt').disabled")
    page.run("document.getElementById('text').value = 'x'.repeat(3000)")
    page.press(*ENTER)
    assert "too long" in page.run("document.getElementById('error').innerText")
    assert len(page.run("document.getElementById('text').value")) == 3000


def test_an_unknown_avatar_is_told_and_not_asked_for_again(
    browser: Chromium, server: StandIn
) -> None:
    page = browser.open(f"http://localhost:{server.port}{server.prefix}?avatar=Zoe")
    page.wait("document.body.dataset.link === 'closed'")
    assert "Zoe" in page.run("document.getElementById('error').innerText")
    time.sleep(1)
    assert len(server.said("start")) == 1
    page.close()


def test_a_transparent_background_shows_the_page(open_page: Open) -> None:
    page = open_page(query="?background=none")
    pixel = (
        "(([x, y]) => {const c = document.createElement('canvas'); c.width = c.height = 100;"
        "const p = c.getContext('2d'); const s = document.getElementById('canvas');"
        "return new Promise(done => requestAnimationFrame(function look() {"
        "p.clearRect(0, 0, 100, 100); p.drawImage(s, 0, 0, 100, 100);"
        "const d = p.getImageData(x, y, 1, 1).data; p.getImageData(50, 45, 1, 1).data[3]"
        "? done([...d]) : requestAnimationFrame(look)}))})"
    )
    assert page.run(f"{pixel}([5, 5])")[3] == 0
    red, green, blue, alpha = page.run(f"{pixel}([50, 45])")
    assert alpha > 250 and red > green > blue > 100
    assert page.run("document.querySelector('[value=transparent]').checked")


def test_the_settings_offer_the_backgrounds_of_the_server(open_page: Open, server: StandIn) -> None:
    page = open_page()
    page.click("#settings-toggle")
    labels = "[...document.querySelectorAll('#backgrounds label')].map(l => l.innerText.trim())"
    assert page.run(labels) == ["As filmed", "Transparent"]
    page.click("#backgrounds [value=transparent]")
    page.wait("document.body.dataset.background === 'none'")
    page.wait("document.querySelector('#backgrounds [value=transparent]').checked")
    assert server.said("start")[-1]["background"] == "transparent"
    page.click("#backgrounds [value=filmed]")
    page.wait("document.body.dataset.background === 'filmed'")
    assert server.said("start")[-1]["background"] == "filmed"


def test_a_screen_reader_and_the_keyboard_find_everything(open_page: Open) -> None:
    page = open_page()
    page.click("#settings-toggle")
    assert page.run("document.activeElement.id") == "avatar"
    nodes = [n for n in page.accessibility() if not n.get("ignored")]
    named = {"button", "textbox", "combobox", "slider", "radio", "image"}
    for node in nodes:
        if (role := node["role"]["value"]) in named:
            assert node.get("name", {}).get("value"), f"a {role} without a name"
    names = {node.get("name", {}).get("value") for node in nodes}
    assert {"Speak", "Stop", "Microphone", "Captions", "Avatar", "Mood", "Full screen"} <= names
    page.press(*ESCAPE)
    assert page.run("document.activeElement.id") == "settings-toggle"

    say(page, "Hello there. How are you?")
    page.wait("document.querySelector('#spoken').textContent.includes('How are you?')")
    assert page.run("document.getElementById('spoken').ariaLive") == "polite"
    page.wait("document.querySelector('#captions').textContent === ''")


def test_full_screen_shows_the_avatar_larger_and_keeps_the_text_box(open_page: Open) -> None:
    page = open_page(width=900, height=500)
    side = "document.getElementById('picture').getBoundingClientRect().height"
    before = page.run(side)
    page.click("#full-toggle")
    page.wait(f"document.body.hasAttribute('data-full') && {side} > {before + 20}")
    assert page.run("document.getElementById('text').checkVisibility()")
    assert page.run("document.getElementById('badge').checkVisibility()")
    page.click("#full-exit")
    page.wait(f"!document.body.hasAttribute('data-full') && {side} === {before}")


@pytest.mark.parametrize("width, height", [(1280, 800), (320, 568), (844, 390)])
def test_everything_fits_on_the_screen(
    open_page: Open, server: StandIn, loop: LoopThread, width: int, height: int
) -> None:
    page = open_page(width=width, height=height)
    for state in ("idle", "speaking", "lost"):
        if state == "speaking":
            say(page, TEXT)
            page.wait(SPEAKING)
        elif state == "lost":
            loop.run(server.stop())
            page.wait("document.body.dataset.link === 'lost'")
        assert page.run("document.documentElement.scrollWidth") <= width, state
        assert page.run("document.documentElement.scrollHeight") <= height, state
        assert page.run("innerWidth") == width, state
        for name in ("text", "speak", "interrupt", "microphone", "settings-toggle", "full-toggle"):
            box = page.run(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
            assert box["left"] >= 0 and box["right"] <= width, (state, name)
            assert box["top"] >= 0 and box["bottom"] <= height, (state, name)
            assert box["width"] >= 24 and box["height"] >= 24, (state, name)
    loop.run(server.start())
    box = page.run("document.getElementById('picture').getBoundingClientRect().toJSON()")
    assert box["width"] * box["height"] > 0.25 * min(width, height) ** 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(open_page: Open, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 between each text and the colour behind it."""
    page = open_page(prefers_color_scheme=scheme)
    page.click("#settings-toggle")
    page.run("document.getElementById('secure').hidden = false")
    page.run("document.getElementById('error').textContent = 'x'")
    ratios = page.run(CONTRASTS)
    assert len(ratios) > 15
    assert not {name: ratio for name, ratio in ratios.items() if ratio < 4.5}
