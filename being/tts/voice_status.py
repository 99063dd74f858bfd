"""Which voices can speak on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil

from being.assets import is_cached
from being.tts.speech_endpoint import URL as SPEECH_URL

# Voice -> the packages that it needs, and the extra that installs them.
PACKAGES = {
    "hibari": (("hibari", "onnxruntime"), "tts"),
    "kokoro": (("hibari", "onnxruntime"), "tts"),
    "edge": (("edge_tts", "aiohttp"), "edge"),
}
KOKORO_FILES = ("kokoro", "kokoro_voices")


def voice_status() -> dict[str, str]:
    """For each voice "OK", "OK (detail)", or "why it cannot speak; what to do"."""
    found = {name: _packages_status(*needs) for name, needs in PACKAGES.items()}
    if found["kokoro"] == "OK" and not all(map(is_cached, KOKORO_FILES)):
        found["kokoro"] = "OK (its files are fetched at first use)"
    if found["edge"] == "OK":
        found["edge"] = "OK (online)"
    url = os.environ.get(SPEECH_URL)
    found["speech"] = "OK (an endpoint is named)" if url else f"{SPEECH_URL} is not set"
    program = shutil.which("espeak-ng")
    found["espeak"] = (
        f"OK ({program})"
        if program
        else "the program espeak-ng is not installed; apt install espeak-ng, or brew install "
        "espeak-ng"
    )
    return found


def _packages_status(packages: tuple[str, ...], extra: str) -> str:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; pip install 'being[{extra}]'"
    return "OK"
