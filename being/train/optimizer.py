"""Adam over Gaussians, planes and network, with log-linear decay over the steps of a stage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from being.config import RateConfig
from being.model.talking_head import TalkingHead


def make_optimizer(model: TalkingHead, rate: RateConfig, extent: float = 1.0) -> torch.optim.Adam:
    """One group a kind of parameter; a group's `decay` pair (start, end) is followed by
    `set_rates`. extent: scales the rates of means, planes and network. On CUDA the rates lie on the
    device, where a captured step reads them."""
    g, planes = model.gaussians, list(model.network.tri_plane.grid.grids.parameters())
    sound = [*model.network.audio_net.parameters(), *model.network.audio_att_net.parameters()]
    if rate.sound == 1.0:
        sound = []  # no group of their own
    known = {id(p) for p in planes + sound}
    network = [p for p in model.network.parameters() if id(p) not in known]
    slow = rate.network[0] * rate.sound, rate.network[1] * rate.sound
    fixed = {
        "log_scales": rate.scales,
        "quaternions": rate.rotations,
        "opacity_logits": rate.opacity,
        "sh_dc": rate.sh_dc,
        "sh_rest": rate.sh_rest,
    }
    groups: list[dict[str, Any]] = [
        {"name": name, "params": params, "decay": (start * extent, end * extent)}
        for name, params, (start, end) in (
            ("means", [g.means], rate.means),
            ("planes", planes, rate.planes),
            ("network", network, rate.network),
            ("sound", sound, slow),
        )
        if params
    ]
    groups += [
        {"name": name, "params": [getattr(g, name)], "decay": (lr, lr)}
        for name, lr in fixed.items()
        if getattr(g, name).numel()
    ]
    captured = g.means.is_cuda
    optimizer = torch.optim.Adam(groups, lr=0.0, eps=1e-15, fused=True, capturable=captured)
    if captured:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=g.means.device)
    return optimizer


def set_rates(optimizer: torch.optim.Optimizer, step: float, steps: int) -> None:
    """Learning rates at `step` of `steps`: log-linear between each group's pair."""
    share = min(step / max(steps, 1), 1.0)
    for group in optimizer.param_groups:
        start, end = group["decay"]
        rate = start ** (1 - share) * end**share if start > 0 else 0.0
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
