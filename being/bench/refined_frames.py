"""The row of `being bench-fps --compare` for the engine with a refinement of its frames."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from being.assets import is_cached
from being.bench.compared_frames import ComparedFrames, missing_row
from being.face import identity
from being.inference.engine import Engine
from being.refine.image_model import DiffusionModel
from being.refine.refiner import RefineSettings
from being.refine.video import FaceTools


def refined_row(frames: ComparedFrames, model: Path | None, name: str) -> dict[str, Any]:
    """The row of engine and refinement together, frame by frame, with the settings of
    `being refine`; without the identity guard where its network is not in the cache.

    model: folder of a diffusion model; None: the row says that none was given.
    """
    if importlib.util.find_spec("diffusers") is None:
        return missing_row(name, "diffusers is not installed (the extra refine)")
    if model is None:
        return missing_row(name, "no model was given (--refine-model DIR)")
    guarded = is_cached(identity.ASSET)
    settings = RefineSettings(batch=1, limit=RefineSettings.limit if guarded else None)
    engine = Engine(frames.avatar)
    loaded = DiffusionModel(model, engine.device)
    tools = FaceTools.load(settings.keep_mouth, guarded)

    def render() -> np.ndarray:
        refiner = tools.refiner(loaded, settings)
        return np.stack(list(refiner.refine(frames.render(engine))))

    guard = "with" if guarded else "without"
    note = f"{loaded.name}, strength {settings.strength:g}, {guard} the identity guard"
    try:
        return frames.measure(name, render, note)
    finally:
        engine.close()
