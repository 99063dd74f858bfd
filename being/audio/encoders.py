"""The registry of speech encoders: from a name to a loaded encoder.

Names: `hama` (the default), `wav2vec2-eo`, `hubert`, any speech model of the `transformers` library
by its hub name or folder, and `deepspeech`, whose features are read from disk. `NAME@stream` and
`NAME@low` are the same encoder with bounded look-ahead (`bounded_encoder.py`). `hama-causal` is the
encoder of live sessions (`causal_encoder.py`). docs/encoders.md says which features predict the
lips best.

Networks in torch are loaded when they are asked for: live sessions need none.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path

from being.audio.bounded_encoder import BoundedEncoder
from being.audio.causal_encoder import CausalEncoder
from being.audio.encoder_interface import Encoder
from being.audio.encoder_names import CAUSAL, EncoderName, find_latency
from being.audio.feature_files import FeatureFileEncoder
from being.errors import UsageError


def _hama() -> Encoder:
    from being.audio.hama_encoder import HamaEncoder

    return HamaEncoder()


def _transformers(name: str, model: str, layer: str, width: int | None = None) -> Encoder:
    from being.audio.transformers_encoder import TransformersEncoder

    return TransformersEncoder(name, model, layer, width=width)


def _wav2vec2_eo() -> Encoder:
    return _transformers(
        "wav2vec2-eo", "cpierse/wav2vec2-large-xlsr-53-esperanto", "logits", width=44
    )


def _hubert() -> Encoder:
    return _transformers("hubert", "facebook/hubert-large-ls960-ft", "last", width=1024)


def _deepspeech() -> Encoder:
    return FeatureFileEncoder("deepspeech", width=29)


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "hama": _hama,
    CAUSAL: CausalEncoder,
    "wav2vec2-eo": _wav2vec2_eo,
    "hubert": _hubert,
    "deepspeech": _deepspeech,
}


@functools.lru_cache(maxsize=4)
def load_encoder(name: str, device: str = "cpu") -> Encoder:
    """The encoder called `name` with its network on `device`. It is loaded once and then kept.

    Raises UsageError for an unknown name, EnvironmentFault where the weights cannot be had, and
    InputRejected for a model that is no speech encoder.
    """
    parts = EncoderName.of(name)
    if parts.latency:
        latency = find_latency(parts.latency)
        inner = load_encoder(name.removesuffix(f"@{parts.latency}"), device)
        return BoundedEncoder(inner, latency)

    encoder = _load_base(name, parts)
    encoder.move_to(device)
    return encoder


def _load_base(name: str, parts: EncoderName) -> Encoder:
    """The encoder of a name without a latency, on the CPU."""
    if parts.base in ENCODERS and not parts.layer:
        return ENCODERS[parts.base]()
    if "/" in parts.base or "\\" in parts.base or Path(parts.base).is_dir():
        return _transformers(name, parts.base, parts.layer or "last")

    near = difflib.get_close_matches(parts.base, ENCODERS, 1)
    raise UsageError(
        f"no speech encoder is called {name!r}",
        f"known are: {', '.join(ENCODERS)}, owner/model of the transformers library, and folders",
        f"Did you mean {near[0]!r}?" if near else "",
    )
