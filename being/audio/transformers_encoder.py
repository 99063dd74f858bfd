"""Speech models of the `transformers` library as encoders: wav2vec 2.0, HuBERT, WavLM, data2vec and
their like.

All of them take raw sound at 16 kHz and give a step every 20 ms, each over 25 ms of sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being import assets
from being.audio.encoders import SAMPLES_PER_STEP, PieceEncoder
from being.conventions import SAMPLE_RATE
from being.errors import EnvironmentFault, InputRejected, UsageError

RECEPTIVE = 400  # samples under one step of the models' convolutions
NORMALISED_FLOOR = 1e-7  # added to the variance, as their feature extractors do
MASK = "masked_spec_embed"  # for training only, often left out of the file
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


class TransformersEncoder(PieceEncoder):
    """A speech model: the output of one of its layers, its last hidden states or its CTC logits.

    The folder `NAME` in the cache of pretrained files is looked at first, then the library's own
    cache, then, unless BEING_OFFLINE is set, the hub. Only weights are read (no code of the model's
    author is run).
    """

    def __init__(self, name: str, source: str, layer: str = "last", width: int | None = None):
        """source: a folder, or the hub's owner/model; layer: "last", "logits" or the number of a
        hidden layer (0 is the input of the first); width: what it must be.

        Raises EnvironmentFault (the package or the weights cannot be had), InputRejected (another
        kind of model, or another width), UsageError (no such layer).
        """
        self.name, self._layer = name, layer
        self._place = _place(name, source)
        kind, normalised = _load(name, self._place, layer)
        self.model, self._normalised = kind, normalised
        count = int(getattr(self.model.config, "num_hidden_layers", 0))
        if layer.isdecimal() and int(layer) > count:
            raise UsageError(
                f"{source} has no hidden layer {layer}",
                f"it has {count}",
                f"Name one of 0 to {count}",
            )
        try:
            steps = self.encode_pieces(np.zeros((1, 50 * SAMPLES_PER_STEP), np.float32))
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            raise InputRejected(
                f"{source} does not encode speech",
                str(error).split("\n")[0],
                "Name a model that takes raw sound: wav2vec 2.0, HuBERT, WavLM, data2vec",
            ) from error
        self.width = steps.shape[2]
        if steps.shape[1] != 50:
            raise InputRejected(
                f"{source} gives {steps.shape[1]} steps for one second of sound",
                "expected 50",
                "Name a model with steps of 20 ms: wav2vec 2.0, HuBERT, WavLM, data2vec",
            )
        if width is not None and self.width != width:
            raise InputRejected(
                f"the weights of '{name}' are {self.width} wide",
                f"expected {width}: another model lies in {self._place}",
                "Remove it, or name it by its folder instead",
            )

    @torch.inference_mode()
    def encode_pieces(self, sounds: np.ndarray) -> np.ndarray:
        """See `PieceEncoder.encode_pieces`. 40 zeros at both ends put the middle of step k on (k +
        1/2) / 50 s.
        """
        sound = torch.from_numpy(sounds).to(next(self.model.parameters()).device)
        if self._normalised:
            deviation = (sound.var(1, keepdim=True, correction=0) + NORMALISED_FLOOR).sqrt()
            sound = (sound - sound.mean(1, keepdim=True)) / deviation
        margin = (RECEPTIVE - SAMPLES_PER_STEP) // 2
        sound = torch.nn.functional.pad(sound, (margin, margin))
        wanted = self._layer.isdecimal()
        found = self.model(sound, output_hidden_states=wanted)
        steps = (
            found.logits
            if self._layer == "logits"
            else found.hidden_states[int(self._layer)]
            if wanted
            else found.last_hidden_state
        )
        return steps.float().cpu().numpy()


def _place(name: str, source: str) -> str:
    """Where the model is asked for: a folder of the user's or in our cache, else the hub's name."""
    cached = assets.cache_folder() / name.replace("/", "--")
    if not Path(source).expanduser().is_dir() and (cached / CONFIG).is_file():
        return str(cached)
    return str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source


@contextmanager
def _quiet() -> Iterator[None]:
    """The library's own reports (layers that are not used, bars) are left out; what matters is
    checked and raised.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load(name: str, place: str, layer: str) -> tuple[Any, bool]:
    """The model, and whether it hears sound of mean 0 and variance 1."""
    try:
        from transformers import AutoConfig, AutoModel, AutoModelForCTC
        from transformers.feature_extraction_utils import FeatureExtractionMixin
    except ImportError as error:
        raise EnvironmentFault(
            f"the speech encoder '{name}' needs the package transformers",
            str(error),
            "pip install 'being[encoders]', or leave --encoder out",
        ) from error
    kind = AutoModelForCTC if layer == "logits" else AutoModel
    offline = Path(place).is_dir() or os.environ.get("BEING_OFFLINE", "") not in ("", "0")
    reasons = []
    for local in (True,) if offline else (True, False):
        try:
            with _quiet():
                config = AutoConfig.from_pretrained(place, local_files_only=local)
                model, told = kind.from_pretrained(
                    place, config=config, local_files_only=local, output_loading_info=True
                )
            try:
                settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(
                    place, local_files_only=local
                )
            except OSError:
                settings = {}  # a model without one hears the sound as it is
        except ImportError as error:
            raise EnvironmentFault(
                f"the speech encoder '{name}' cannot be loaded",
                str(error).split("\n")[0],
                "Install what it names",
            ) from error
        except (OSError, ValueError, RuntimeError) as error:
            reasons.append(str(error).split("\n")[0])
            continue
        absent = sorted(set(told["missing_keys"]) - {MASK})
        if absent:
            raise InputRejected(
                f"{place} lacks weights for '{layer}'",
                f"no {absent[0]}, {len(absent)} in all",
                "Name another model, or a layer that it has",
            )
        rate = settings.get("sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise InputRejected(
                f"{place} hears sound at {rate} Hz", f"expected {SAMPLE_RATE}", "Name another model"
            )
        return model.eval().requires_grad_(False), bool(settings.get("do_normalize", False))
    if Path(place).is_dir() and (Path(place) / CONFIG).is_file() and "Unrecognized" in reasons[-1]:
        raise InputRejected(f"{place} does not encode speech", reasons[-1], "Name a speech model")
    raise EnvironmentFault(
        f"the weights of the speech encoder '{name}' cannot be had",
        "; ".join(dict.fromkeys(reasons)),
        f"Connect this machine once, or copy {CONFIG}, {PREPROCESSOR} and the weights of {place} "
        f"into the folder {assets.cache_folder() / name.replace('/', '--')}",
    )
