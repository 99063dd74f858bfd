"""The page of a view: its data, its size, and what headless Chromium shows of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from chromium import Chromium, LoopThread, Page
from PIL import Image

from being.splat import Gaussians
from being.view.content import CameraPath, Cloud, Content, Mesh, Picture
from being.view.page_writing import page, scene

NO_WEBGL = "HTMLCanvasElement.prototype.getContext = () => null"
HOSTILE = "</script><b>me</b> @SCRIPT@"


def made_content(count: int = 300) -> Content:
    """A head of random Gaussians: red on the left of the picture, blue on the right."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1, count, 3, generator=generator) - 0.5
    colours = torch.zeros(1, count, 1, 3)
    colours[0, :, 0, 0] = torch.where(means[0, :, 0] < 0, 1.7, -1.7)
    colours[0, :, 0, 2] = -colours[0, :, 0, 0]
    colours[0, :, 0, 1] = -1.7
    rotations = torch.rand(1, count, 4, generator=generator) - 0.5
    scales = 0.02 + 0.08 * torch.rand(1, count, 3, generator=generator)
    opacities = 0.3 + 0.7 * torch.rand(1, count, generator=generator)
    matrices = np.tile(np.eye(4), (4, 1, 1))
    matrices[:, :3, :3] = np.diag([1, -1, -1])
    matrices[:, :3, 3] = [[0.1 * k, 0, 7] for k in range(4)]
    cameras = CameraPath.of(matrices, 150.0, (32, 32), (2,))
    cloud = Cloud.of(
        "canonical", Gaussians(means, rotations, scales, opacities, colours), cameras.centres[0]
    )
    mesh = Mesh.of("frame 1", means[0, :4].numpy(), np.array([[0, 1, 2], [1, 2, 3]]))
    return Content("avatar", HOSTILE, Path("me"), "Consent: mine", [], cameras, [cloud], mesh)


def html(content: Content) -> str:
    """The page with one picture."""
    still = Picture("front", np.full((48, 48, 3), (10, 200, 30), np.uint8))
    return page(content, ["a fact", content.consent_note], still, {"Frames": [still]})


def decoded(text: str, kind: str, columns: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, columns).astype(float)


def test_the_data_are_the_gaussians() -> None:
    content = made_content()
    cloud, (data,) = content.clouds[0], scene(content)["clouds"]
    low, high = np.array(data["low"]), np.array(data["high"])
    centres = low + (high - low) * decoded(data["positions"], "<u2", 3) / 65535
    assert np.allclose(centres, cloud.means, atol=2e-5)
    least, most = data["log_scales"]
    scales = np.exp(least + (most - least) * decoded(data["scales"], "u1", 3) / 255)
    assert np.allclose(scales, cloud.scales, rtol=0.01)
    colours = decoded(data["colours"], "u1", 4) / 255
    assert np.allclose(colours[:, :3], cloud.colours, atol=0.003)
    assert np.allclose(colours[:, 3], cloud.opacities, atol=0.003)
    assert np.allclose(decoded(data["rotations"], "i1", 4) / 127, cloud.quaternions, atol=0.005)


def test_a_page_of_20000_gaussians_at_rest_and_driven_has_under_2_mb() -> None:
    content = made_content(20_000)
    content.clouds.append(content.clouds[0])
    assert 2 * 20_000 * 17 < len(html(content)) < 2e6


def test_the_page_loads_nothing_and_no_name_ends_its_script() -> None:
    text = html(made_content())
    assert "http://" not in text.replace("http://cv.iptc.org", "") and "https://" not in text
    assert "<b>me</b>" not in text and text.count("</script>") == 2
    assert "default-src 'none'" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    loop = LoopThread()
    chromium = Chromium(loop)
    yield chromium
    chromium.close()
    loop.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "view.html"
    path.write_text(html(made_content()))
    return path


def drawings(view: Page) -> int:
    return int(view.run("Number(document.body.dataset.drawn || 0)"))


def canvas(view: Page) -> np.ndarray:
    """What the browser shows of the canvas, uint8 [H, W, 3]."""
    box = view.run(
        "(()=>{const b=document.getElementById('canvas').getBoundingClientRect();"
        "return [b.left,b.top,b.right,b.bottom]})()"
    )
    data = view.browser.loop.run(view.send("Page.captureScreenshot", format="png"))["data"]
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return np.asarray(image.crop([round(value) for value in box]))


def after(view: Page, script: str) -> np.ndarray:
    """The canvas after the script has made the page draw again."""
    before = drawings(view)
    view.run(script)
    view.wait(f"Number(document.body.dataset.drawn) > {before}")
    return canvas(view)


def differing(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the pixels that differ."""
    return float((np.abs(one.astype(int) - other).max(-1) > 8).mean())


def key(name: str) -> str:
    return (
        "document.getElementById('canvas').dispatchEvent("
        f"new KeyboardEvent('keydown', {{key: '{name}'}}))"
    )


def drag(view: Page, right: int) -> None:
    """Drag the mouse over the canvas, as a person does."""
    steps = [("mousePressed", 0), ("mouseMoved", right // 2), ("mouseMoved", right)]
    for kind, shift in [*steps, ("mouseReleased", right)]:
        view.browser.loop.run(
            view.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=200 + shift,
                y=300,
                button="left",
                buttons=1,
                clickCount=1,
            )
        )


def test_the_head_turns_and_layers_switch(file: Path, browser: Chromium) -> None:
    view = browser.open(file.as_uri(), width=420, height=700)
    view.wait("Number(document.body.dataset.drawn) > 0")
    front = after(view, key("0")).astype(int)
    middle = front.shape[1] // 2
    red = front[..., 0] - front[..., 2]
    assert red[:, :middle].sum() > 1e5 and red[:, middle:].sum() < -1e5, "x is to the right"

    count = drawings(view)
    drag(view, 150)
    view.wait(f"Number(document.body.dataset.drawn) > {count}")
    turned = canvas(view)
    assert differing(front, turned) > 0.05
    again = after(view, "document.getElementById('front').click()")
    assert differing(front, again) == 0

    assert differing(front, after(view, key("ArrowUp"))) > 0.05
    assert differing(front, after(view, key("0"))) == 0
    larger = after(view, key("+"))
    background = np.array([226, 229, 232])

    def covered(picture: np.ndarray) -> float:
        return float((np.abs(picture.astype(int) - background).max(-1) > 8).mean())

    assert covered(larger) > covered(front)
    after(view, key("0"))

    shown = {"gaussians": front}
    for mode in ("ellipsoids", "points"):
        shown[mode] = after(view, f"document.querySelector('[value={mode}]').click()")
        assert differing(front, shown[mode]) > 0.05
    assert 0 < covered(shown["points"]) < covered(front)
    nothing = after(view, "document.querySelector('[name=cloud][value=\"-1\"]').click()")
    assert covered(nothing) < 0.001
    lines = after(view, "document.querySelector('[name=mesh]').click()")
    assert 0 < covered(lines) < 0.1
    assert differing(lines, after(view, "document.querySelector('[name=cameras]').click()")) > 0

    assert view.run("document.getElementById('still').hidden && document.fonts.size === 0")
    assert view.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in view.requests)
    view.close()


def test_without_webgl_a_still_picture_stays(file: Path, browser: Chromium) -> None:
    view = browser.open(file.as_uri(), width=420, height=700, script=NO_WEBGL)
    assert view.run("document.getElementById('canvas').hidden")
    assert view.run("document.getElementById('controls').hidden")
    assert view.run("document.getElementById('still').naturalWidth") == 48
    assert "still picture" in view.run("document.getElementById('plain').innerText")
    assert view.complaints == []
    view.close()
