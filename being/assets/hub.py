"""The one door to the `transformers` library, which fetches models from a hub.

The library is loaded without its telemetry. Without the second switch it asks the hub's service for
a conversion of any model whose weights it finds in the old format, also when told to stay local.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from being.assets import is_offline

SWITCHES = {"HF_HUB_DISABLE_TELEMETRY": "1", "DISABLE_SAFETENSORS_CONVERSION": "1"}
Found = TypeVar("Found")


def load_transformers() -> Any:
    """The module transformers. Raises ImportError where it is not installed."""
    os.environ.update(SWITCHES)
    import transformers

    return transformers


def local_first(load: Callable[[bool], Found]) -> Found:
    """What `load(local_files_only)` returns from this machine, else from the hub.

    The hub is asked only for what this machine lacks, and not at all while BEING_OFFLINE or
    HF_HUB_OFFLINE is set.
    Raises what the last call of `load` raised.
    """
    if is_offline():
        return load(True)
    try:
        return load(True)
    except (OSError, ValueError):
        return load(False)
