"""Dataset -> run. `train` does it all; the modules beside it are its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from being.train.training import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:  # when asked for: the parts are imported without the whole
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from being.train.training import train

    return train
