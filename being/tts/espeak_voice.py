"""The robotic voice of the program espeak-ng: offline, many languages, no word times."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from being.errors import EnvironmentFault, UsageError
from being.tts.speech import Speech

WORDS_PER_MINUTE = 175  # espeak's own default speed
TIMEOUT = 120.0  # s


def speak_espeak(text: str, name: str, speed: float) -> Speech:
    """`text` in espeak's voice for the language `name` (en if empty, fr, de, cmn ...).

    speed and errors: see `being.tts.voices.speak`.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise EnvironmentFault(
            "espeak-ng is not installed",
            "no such program on the PATH",
            "Install it (apt install espeak-ng, brew install espeak-ng), or use --voice hibari",
        )
    with tempfile.TemporaryDirectory(prefix="being-") as folder:
        path = Path(folder) / "speech.wav"
        rate = str(round(WORDS_PER_MINUTE * speed))
        # -b 1: the text is UTF-8.
        command = [program, "-v", name or "en", "-s", rate, "-b", "1", "-w", str(path), "--stdin"]
        try:
            done = subprocess.run(
                command, input=text.encode(), capture_output=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentFault(
                "espeak-ng does not finish", f"stopped after {TIMEOUT:.0f} s"
            ) from error

        complaint = done.stderr.decode(errors="replace").strip()
        if done.returncode or not path.is_file():
            if name and "voice" in complaint.lower():
                raise UsageError(
                    f"espeak-ng has no voice {name!r}",
                    complaint,
                    "espeak-ng --voices lists them all",
                )
            raise EnvironmentFault("espeak-ng failed", complaint or f"exit code {done.returncode}")
        return _read_wav(path)


def _read_wav(path: Path) -> Speech:
    """The mono 16-bit wav file that espeak-ng wrote."""
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 1 and file.getsampwidth() == 2
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return Speech(pcm.astype(np.float32) / 32768, file.getframerate())
