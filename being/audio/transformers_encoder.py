"""Speech models of the `transformers` library as encoders: wav2vec 2.0, HuBERT, WavLM, data2vec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being import assets
from being.assets.hub import load_transformers
from being.audio.encoder_interface import PieceEncoder
from being.conventions import FEATURE_RATE, SAMPLE_RATE, SAMPLES_PER_STEP
from being.errors import EnvironmentFault, InputRejected, UsageError

# Samples under one step of the models' convolutions.
RECEPTIVE = 400
# Added to the variance by the models' feature extractors.
VARIANCE_FLOOR = 1e-7
# A weight for training only, which files often leave out.
MASK = "masked_spec_embed"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
KNOWN_MODELS = "wav2vec 2.0, HuBERT, WavLM, data2vec"


class TransformersEncoder(PieceEncoder):
    """A speech model: the output of one of its layers, its last hidden states or its CTC logits.

    The models take audio at 16 kHz and give a step every 20 ms, each over 25 ms of audio. The model
    is searched for in the folder `NAME` of the cache of pretrained files, then in the library's own
    cache, then, unless BEING_OFFLINE or HF_HUB_OFFLINE is set, on the hub. Only weights are read:
    no code of the model's author runs.
    """

    def __init__(self, name: str, source: str, layer: str = "last", width: int | None = None):
        """source: a folder, or the hub's owner/model; layer: "last", "logits" or the number of a
        hidden layer (0 is the input of the first); width: the width that it must have.

        Raises EnvironmentFault (the package or the weights cannot be had), InputRejected (no speech
        model, or another width), UsageError (no such layer).
        """
        self.name, self._layer = name, layer
        location = _find_model(name, source)
        self.model, self._normalised = _load_model(name, location, layer)

        layers = int(getattr(self.model.config, "num_hidden_layers", 0))
        if layer.isdecimal() and int(layer) > layers:
            raise UsageError(
                f"{source} has no hidden layer {layer}",
                f"it has {layers}",
                f"Name one of 0 to {layers}",
            )

        # One second of silence shows whether it encodes speech, and how wide its steps are.
        try:
            silence = np.zeros((1, FEATURE_RATE * SAMPLES_PER_STEP), np.float32)
            steps = self.encode_pieces(silence)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            raise InputRejected(
                f"{source} does not encode speech",
                str(error).split("\n")[0],
                f"Name a model that takes audio samples: {KNOWN_MODELS}",
            ) from error
        self.width = steps.shape[2]
        if steps.shape[1] != FEATURE_RATE:
            raise InputRejected(
                f"{source} gives {steps.shape[1]} steps for one second of audio",
                f"expected {FEATURE_RATE}",
                f"Name a model with steps of 20 ms: {KNOWN_MODELS}",
            )
        if width is not None and self.width != width:
            raise InputRejected(
                f"the weights of '{name}' are {self.width} wide",
                f"expected {width}: another model lies in {location}",
                "Remove it, or name it by its folder instead",
            )

    def move_to(self, device: str) -> None:
        """Put the network on `device`."""
        self.model.to(device)

    @torch.inference_mode()
    def encode_pieces(self, pieces: np.ndarray) -> np.ndarray:
        """See `PieceEncoder.encode_pieces`.

        40 zeros at both ends put the middle of step k on (k + 1/2) / 50 s.
        """
        audio = torch.from_numpy(pieces).to(next(self.model.parameters()).device)
        if self._normalised:
            variance = audio.var(1, keepdim=True, correction=0)
            deviation = (variance + VARIANCE_FLOOR).sqrt()
            audio = (audio - audio.mean(1, keepdim=True)) / deviation
        margin = (RECEPTIVE - SAMPLES_PER_STEP) // 2
        audio = torch.nn.functional.pad(audio, (margin, margin))

        hidden = self._layer.isdecimal()
        output = self.model(audio, output_hidden_states=hidden)
        if hidden:
            steps = output.hidden_states[int(self._layer)]
        elif self._layer == "logits":
            steps = output.logits
        else:
            steps = output.last_hidden_state
        return steps.float().cpu().numpy()


def _find_model(name: str, source: str) -> str:
    """Where the model is loaded from: the user's folder, our cache folder, or the hub's name."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder)
    cached = assets.cache_folder() / name.replace("/", "--")
    return str(cached) if (cached / CONFIG).is_file() else source


@contextmanager
def _silent_library() -> Iterator[None]:
    """Hides the library's own reports and progress bars; real faults are checked and raised."""
    logging = load_transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_model(name: str, location: str, layer: str) -> tuple[Any, bool]:
    """The model, and whether it takes audio of mean 0 and variance 1.

    It is searched for on this machine first, then on the hub.
    """
    local = Path(location).is_dir() or assets.is_offline()
    reasons = []
    for local_only in (True,) if local else (True, False):
        try:
            model, loading, settings = _load_pretrained(name, location, layer, local_only)
        except (OSError, ValueError, RuntimeError) as error:
            reasons.append(str(error).split("\n")[0])
            continue
        _check_model(location, layer, loading, settings)
        return model.eval().requires_grad_(False), bool(settings.get("do_normalize", False))

    no_speech_model = (Path(location) / CONFIG).is_file() and "Unrecognized" in reasons[-1]
    if Path(location).is_dir() and no_speech_model:
        raise InputRejected(
            f"{location} does not encode speech", reasons[-1], "Name a speech model"
        )
    raise EnvironmentFault(
        f"the weights of the speech encoder '{name}' cannot be had",
        "; ".join(dict.fromkeys(reasons)),
        f"Connect this machine once, or copy {CONFIG}, {PREPROCESSOR} and the weights of "
        f"{location} into the folder {assets.cache_folder() / name.replace('/', '--')}",
    )


def _load_pretrained(
    name: str, location: str, layer: str, local_only: bool
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The model, the library's report of loading it, and the settings of its feature extractor."""
    try:
        transformers = load_transformers()
        model_class = transformers.AutoModelForCTC if layer == "logits" else transformers.AutoModel
    except ImportError as error:
        raise EnvironmentFault(
            f"the speech encoder '{name}' needs the package transformers",
            str(error),
            "pip install 'being[encoders]', or leave --encoder out",
        ) from error

    try:
        with _silent_library():
            config = transformers.AutoConfig.from_pretrained(location, local_files_only=local_only)
            model, loading = model_class.from_pretrained(
                location, config=config, local_files_only=local_only, output_loading_info=True
            )
        try:
            settings, _ = transformers.FeatureExtractionMixin.get_feature_extractor_dict(
                location, local_files_only=local_only
            )
        except OSError:
            # A model without a feature extractor takes the audio as it is.
            settings = {}
    except ImportError as error:
        raise EnvironmentFault(
            f"the speech encoder '{name}' cannot be loaded",
            str(error).split("\n")[0],
            "Install the package that it names",
        ) from error
    return model, loading, settings


def _check_model(
    location: str, layer: str, loading: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Raise InputRejected when weights are missing or the model takes another sample rate."""
    missing = sorted(set(loading["missing_keys"]) - {MASK})
    if missing:
        raise InputRejected(
            f"{location} lacks weights for '{layer}'",
            f"no {missing[0]}, {len(missing)} in all",
            "Name another model, or a layer that it has",
        )
    rate = settings.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise InputRejected(
            f"{location} takes audio at {rate} Hz", f"expected {SAMPLE_RATE}", "Name another model"
        )
