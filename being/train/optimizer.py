"""Adam for Gaussians, planes and network, with log-linear decay of the learning rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from being.config import RateConfig
from being.model.talking_head import TalkingHead


def make_optimizer(model: TalkingHead, rate: RateConfig, extent: float = 1.0) -> torch.optim.Adam:
    """Adam with one parameter group for each kind of parameter.

    The `decay` pair (start, end) of a group is for `set_learning_rates`. extent: multiplies the
    rates of means, planes and network. On CUDA the rates are tensors on the device, where a
    captured step reads them.
    """
    gaussians, network = model.gaussians, model.network
    planes = list(network.tri_plane.grid.grids.parameters())

    # The audio network has a group of its own only when its rate differs.
    audio = [*network.audio_net.parameters(), *network.audio_att_net.parameters()]
    if rate.audio == 1.0:
        audio = []
    apart = {id(p) for p in planes + audio}
    others = [p for p in network.parameters() if id(p) not in apart]

    # Groups whose rates decay. Their names are part of the checkpoint format: "sound" is the audio
    # network.
    audio_rate = rate.network[0] * rate.audio, rate.network[1] * rate.audio
    decaying = (
        ("means", [gaussians.means], rate.means),
        ("planes", planes, rate.planes),
        ("network", others, rate.network),
        ("sound", audio, audio_rate),
    )
    groups: list[dict[str, Any]] = [
        {"name": name, "params": params, "decay": (start * extent, end * extent)}
        for name, params, (start, end) in decaying
        if params
    ]

    # Groups with a fixed rate
    fixed = {
        "log_scales": rate.scales,
        "quaternions": rate.rotations,
        "opacity_logits": rate.opacity,
        "sh_dc": rate.sh_dc,
        "sh_rest": rate.sh_rest,
    }
    groups += [
        {"name": name, "params": [getattr(gaussians, name)], "decay": (lr, lr)}
        for name, lr in fixed.items()
        if getattr(gaussians, name).numel()
    ]

    on_cuda = gaussians.means.is_cuda
    optimizer = torch.optim.Adam(groups, lr=0.0, eps=1e-15, fused=True, capturable=on_cuda)
    if on_cuda:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=gaussians.means.device)
    return optimizer


def set_learning_rates(optimizer: torch.optim.Optimizer, step: float, steps: int) -> None:
    """Set the learning rates of `step` of `steps`: log-linear between each group's `decay` pair."""
    share = min(step / max(steps, 1), 1.0)
    for group in optimizer.param_groups:
        start, end = group["decay"]
        rate = start ** (1 - share) * end**share if start > 0 else 0.0
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts as flat tensors, named `group.k.exp_avg` and so on."""
    flat = {}
    for group in optimizer.param_groups:
        for k, parameter in enumerate(group["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                flat[f"{group['name']}.{k}.{key}"] = torch.as_tensor(value)
    return flat


def load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Restore what `optimizer_state` returned; a parameter without a state there keeps none."""
    for group in optimizer.param_groups:
        for k, parameter in enumerate(group["params"]):
            names = {key: f"{group['name']}.{k}.{key}" for key in ("exp_avg", "exp_avg_sq", "step")}
            state = {
                key: flat[name].to(parameter.device) for key, name in names.items() if name in flat
            }
            if state:
                optimizer.state[parameter] = state
