"""Measure the web page of an avatar in headless Chromium: its pictures, and what a frame costs.

    python scripts/measure/web_page.py AVATAR [--frames 24] [--save-bases FILE]

AVATAR: a bundle or run with bases. Exports it into a temporary folder and prints the sizes, the
PSNR of the page's pictures against the engine's (--deform bases), and milliseconds by the page's
own clock: coefficients, order and upload of a frame; sound to mouth code of a frame. WebGL2 is
drawn by SwiftShader. --save-bases writes the bases as the bundle stores them, for
scripts/measure/bases.py. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import json
import tempfile
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.audio.feature_stream import FeatureStream
from being.bench.browser import Browser
from being.conventions import SAMPLE_RATE
from being.data.mouth import CODE_GAIN
from being.inference.engine import Engine
from being.interop.web import export_web
from being.interop.web.scene import scene_tensors, stored_bases
from being.interop.web.speech import causal_voice
from being.model.avatar import Avatar, load_avatar
from being.model.bases import required_bases
from being.model.voice_to_mouth import MouthRowStream

FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SPACING = 6  # frames of sound between two measured ones
ROUNDS = 200
LOAD_S = 300.0
# The page draws its first frame alone; `frame` draws one and gives its pixels.
SCRIPT = """
window.requestAnimationFrame = () => 0;
addEventListener("DOMContentLoaded", () => {
  document.querySelector("being-avatar").setAttribute("resolution", SIDE);
});
window.frame = async (code, pose) => {
  const avatar = document.querySelector("being-avatar");
  avatar.renderer.setPlate(await avatar.plates.get(pose));
  avatar.shownPose = pose;
  avatar.show(Float64Array.from(code));
  const pixels = avatar.renderer.read();
  let text = "";
  for (let i = 0; i < pixels.length; i += 8192) {
    text += String.fromCharCode(...pixels.subarray(i, i + 8192));
  }
  return btoa(text);
};
window.median = (work) => {
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    const begin = performance.now();
    work();
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b)[ROUNDS >> 1];
};
window.costs = async () => {
  const avatar = document.querySelector("being-avatar");
  const camera = avatar.bundle.cameras.subarray(0, 16);
  const place = median(() => {
    const expression = avatar.expression.at(0);
    avatar.renderer.place(avatar.net.compute(avatar.code, expression, camera), camera);
  });
  if (!avatar.voice) return { place };
  const stream = avatar.openStream();
  const sound = Float32Array.from({ length: 640 }, () => 0.2 * (Math.random() - 0.5));
  return { place, hear: median(() => stream.push(sound)) };
};
"""


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def spoken_rows(avatar: Avatar, count: int) -> torch.Tensor:
    """Rows float32 [count, 16, M] of mouth codes of noise whose loudness changes like speech."""
    voice = causal_voice(avatar)
    random = np.random.default_rng(0)
    if voice is None:
        codes = random.normal(0, 0.4, (count, required_bases(avatar).input_width))
        width = avatar.model.network.audio_width
        rows = np.repeat(codes[:, None, :width] * CODE_GAIN, 16, 1)
        return torch.from_numpy(rows.astype(np.float32))
    samples = (SPACING * (count + 8)) * SAMPLE_RATE // 25
    level = np.repeat(random.uniform(0, 0.2, samples // 1600 + 1), 1600)[:samples]
    sound = (level * random.normal(size=samples)).astype(np.float32)
    rows = MouthRowStream(voice).push(FeatureStream(avatar.live_encoder).push(sound))
    return torch.from_numpy(rows[SPACING::SPACING][:count].copy())


async def page_pictures(
    folder: Path, side: int, codes: np.ndarray, poses: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """The page's pictures uint8 [B, side, side, 3] of codes at poses, and ms of its work."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = SCRIPT.replace("SIDE", str(side)).replace("ROUNDS", str(ROUNDS))
    try:
        async with Browser(FLAGS) as browser:
            await browser.open(f"http://localhost:{server.server_port}/", script)
            await browser.wait("document.querySelector('being-avatar')?.bundle", LOAD_S)
            await browser.run("document.querySelector('being-avatar').ready")
            pictures = []
            for code, pose in zip(codes, poses, strict=True):
                data = await browser.run(f"frame({code.tolist()}, {pose})")
                image = np.frombuffer(base64.b64decode(data), np.uint8)
                pictures.append(image.reshape(side, side, 4)[..., :3])
            return np.stack(pictures), await browser.run("costs()")
    finally:
        server.shutdown()
        server.server_close()


def measure(avatar: Avatar, frames: int, save: Path | None) -> dict[str, Any]:
    """All figures as JSON types. save: where the stored bases are written."""
    own = required_bases(avatar)
    gaussians = avatar.model.gaussians
    stored = stored_bases(gaussians, scene_tensors(gaussians, own))
    if save is not None:
        stored.save(save)
    rows = spoken_rows(avatar, frames)
    poses = np.arange(frames) * 37 % avatar.pose_count
    with tempfile.TemporaryDirectory() as place:
        made = export_web(avatar, Path(place) / "web")
        codes = rows[:, 0].numpy() / CODE_GAIN
        shown, costs = asyncio.run(page_pictures(made.folder, avatar.size, codes, poses))
    result: dict[str, Any] = {"frames": frames, "sizes": made.sizes, "bytes": made.bundle_bytes}
    for name, bases in (("stored", stored), ("trained", own)):
        engine = Engine(replace(avatar, bases=bases), "float32", deform="bases")
        wanted = engine.render(rows, np.arange(frames), poses)
        errors = np.mean((shown.astype(np.float64) - wanted) ** 2, (1, 2, 3))
        psnr = 10 * np.log10(255**2 / errors)
        result[name] = {"mean": round(psnr.mean(), 2), "least": round(psnr.min(), 2)}
    result["ms"] = {name: round(value, 2) for name, value in costs.items()}
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--save-bases", type=Path)
    options = parser.parse_args()
    result = measure(load_avatar(options.avatar), options.frames, options.save_bases)
    for part, size in result["sizes"].items():
        print(f"{part:<12}{size / 1e6:8.2f} MB")
    print(f"{'avatar':<12}{result['bytes'] / 1e6:8.2f} MB")
    for name in ("stored", "trained"):
        figures = result[name]
        print(f"bases as {name}: PSNR mean {figures['mean']}, least {figures['least']} dB")
    for name, text in (("place", "coefficients, order, upload"), ("hear", "sound to mouth code")):
        if name in result["ms"]:
            print(f"{text}: {result['ms'][name]} ms a frame (median of {ROUNDS})")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
