"""The Gaussians, bases and coefficient net of an avatar as the tensors of a web bundle, and back.

`base.main` uint16 [14, N] are means, log scales, quaternions, opacity logits and the constant
harmonic of the mean frame; `base.rest` int8 [3 S - 3, N] the other harmonics; `basis` int8
[K, 14, N]. Each has its steps (and `base.main` its least values) beside it. `net.*` is the
coefficient net in float32. K bases, N Gaussians, S harmonics.
"""

from __future__ import annotations

import numpy as np
import torch

from being.interop.web.quantisation import spread, symmetric
from being.model.bases import BASIS_WIDTH, Bases
from being.model.gaussians import CanonicalGaussians

NET = "net."


def scene_tensors(gaussians: CanonicalGaussians, bases: Bases) -> dict[str, np.ndarray]:
    """The tensors of the mean frame, the bases and the net."""
    base = bases.base(gaussians).detach().cpu().numpy().T  # [11 + 3 S, N]
    basis = bases.basis.detach().cpu().numpy().transpose(0, 2, 1)  # [K, 14, N]
    count, width, size = basis.shape
    main, least, step = spread(base[:BASIS_WIDTH])
    rest, rest_step = symmetric(base[BASIS_WIDTH:], 8)
    # One step a field for all bases: weak ones then take few numbers, which pack well. On a trained
    # head this is 60 dB from the bases in float32, where a step for each basis is 62 dB.
    numbers, basis_step = symmetric(basis.transpose(1, 0, 2).reshape(width, -1), 8)
    tensors = {
        "base.main": main,
        "base.main.least": least,
        "base.main.step": step,
        "base.rest": rest,
        "base.rest.step": rest_step,
        "basis": numbers.reshape(width, count, size).transpose(1, 0, 2),
        "basis.step": np.tile(basis_step, (count, 1)),
    }
    own = bases.tensors()
    for name in ("input_mean", "input_scale", *(n for n in own if n.startswith("net."))):
        tensors[NET + name] = own[name].float().numpy()
    return tensors


def stored_bases(gaussians: CanonicalGaussians, tensors: dict[str, np.ndarray]) -> Bases:
    """The bases as a web bundle holds them, for the Gaussians that it was made of.

    With them an engine renders what the page does: the rounding of the mean frame is in `mean`.
    """
    main = (
        tensors["base.main.least"][:, None]
        + tensors["base.main"] * tensors["base.main.step"][:, None]
    )
    rest = tensors["base.rest"] * tensors["base.rest.step"][:, None]
    base = torch.from_numpy(np.concatenate([main, rest]).T.astype(np.float32))
    basis = tensors["basis"] * tensors["basis.step"][..., None]
    own = {
        name[len(NET) :]: torch.from_numpy(value)
        for name, value in tensors.items()
        if name.startswith(NET)
    }
    basis_values = torch.from_numpy(basis.transpose(0, 2, 1).astype(np.float32))
    empty = torch.zeros_like(base)
    found = Bases.from_tensors({"mean": empty, "basis": basis_values, **own})
    found.mean.copy_(base - found.base(gaussians))
    return found
