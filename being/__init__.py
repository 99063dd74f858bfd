"""being: a short video of a person in, a talking avatar out. The Python API.

`being.preprocess_video` makes a dataset of a video, `being.train_avatar` makes a run of a dataset,
`being.Engine` renders the frames of its `being.Avatar`. Each name is imported when it is first
used, because all of them need torch or numpy, and `being --help` must not wait for those.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from being.inference.engine import Engine
    from being.model.avatar import Avatar
    from being.preprocess.pipeline import preprocess_video
    from being.train.training import train_avatar

__all__ = ["Avatar", "Engine", "__version__", "preprocess_video", "train_avatar"]
__version__ = "0.1.0"
# Name of the API -> module that defines it.
MODULES = {
    "Avatar": "being.model.avatar",
    "Engine": "being.inference.engine",
    "preprocess_video": "being.preprocess.pipeline",
    "train_avatar": "being.train.training",
}


def __getattr__(name: str) -> Any:
    """Import `name` of the API. Raises AttributeError for any other name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
