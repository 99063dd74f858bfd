"""Video -> dataset. `preprocess` does it all; the modules beside it are its steps."""

from __future__ import annotations

from being.preprocess.pipeline import preprocess

__all__ = ["preprocess"]
