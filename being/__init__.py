"""being: a short video of a person in, a talking avatar out.

The Python API: `from being import Avatar, Engine`, and of the two stages that are packages of the
same name, `from being.preprocess import preprocess` and `from being.train import train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from being.inference.engine import Engine
    from being.model.avatar import Avatar

__all__ = ["Avatar", "Engine", "__version__"]
__version__ = "0.1.0"
PLACES = {
    "Avatar": "being.model.avatar",
    "Engine": "being.inference.engine",
}  # they bring torch: only when asked for


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
