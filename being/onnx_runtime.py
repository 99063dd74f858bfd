"""The one door to onnxruntime: the library is loaded without its telemetry.

Some of its builds look up their maker's collector seconds after the start, and keep a device id and
a database of events in the user's cache. The library reads the variable below when it is loaded.
"""

from __future__ import annotations

import os
from types import ModuleType

SWITCH = "ORT_DISABLE_TELEMETRY"


def load_onnxruntime() -> ModuleType:
    """The module onnxruntime, which sends nothing. Raises ImportError where it is not installed.

    Call it before any package that imports onnxruntime by itself.
    """
    os.environ[SWITCH] = "1"
    import onnxruntime

    return onnxruntime
