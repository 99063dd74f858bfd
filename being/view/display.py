"""Whether a window can be opened here, and the keys of the window."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

from being.errors import EnvironmentFault

FILES_INSTEAD = "Write a picture and a page instead: being view --out DIR"
KEYS = (
    ("G", "next head: canonical, driven, none"),
    ("E", "ellipsoids or points"),
    ("M", "face mesh on or off"),
    ("C", "camera path on or off"),
    ("V", "back to the front"),
    ("Q", "close"),
)


def has_open3d() -> bool:
    """Whether open3d is installed."""
    return importlib.util.find_spec("open3d") is not None


def has_display() -> bool:
    """Whether this machine can open a window.

    open3d itself does not say so: without a display it draws where nobody sees it.
    """
    if sys.platform in ("win32", "darwin"):
        return True
    if wayland := os.environ.get("WAYLAND_DISPLAY"):
        if (Path(os.environ.get("XDG_RUNTIME_DIR", "/")) / wayland).exists():
            return True
    return bool(os.environ.get("DISPLAY")) and _x_server_answers()


def _x_server_answers() -> bool:
    """Whether the X server of DISPLAY takes a connection."""
    try:
        library = ctypes.CDLL("libX11.so.6")
    except OSError:  # open3d cannot be loaded then, and says so
        return True
    library.XOpenDisplay.restype = ctypes.c_void_p
    display = library.XOpenDisplay(None)
    if display:
        library.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)


def check_window() -> None:
    """Raise EnvironmentFault where open3d or a display is missing."""
    if not has_open3d():
        raise EnvironmentFault(
            "a window needs open3d",
            "it is not installed",
            f"pip install 'being[view]'. {FILES_INSTEAD}",
        )
    if not has_display():
        raise EnvironmentFault(
            "no window can be opened here",
            "there is no display: no X server answers at DISPLAY, no Wayland at WAYLAND_DISPLAY",
            FILES_INSTEAD,
        )
