"""Before the fine stage: teach the sound branch to say how the lips move, from the tracked mesh
alone.

Photometric gradients reach the sound branch through every Gaussian and take hours to shape it (the
reference trains for three); regressing the main modes of lip motion takes seconds on a CPU and
leaves a speech vector from which the attention reads lips at once. Only sound enters; the modes are
targets, never inputs. With it, a loss on the Gaussians' own motion against the mesh brought nothing
(0.1 dB and 0.03 of lip correlation less), nor did a penalty on colour offsets: neither is kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from being.console import Progress
from being.data.clip import Clip
from being.model.gaussiantalker import GaussianTalker
from being.train.feature_augmentation import disturb

LIP_VERTICES = (
    61,
    146,
    91,
    181,
    84,
    17,
    314,
    405,
    321,
    375,
    291,
    185,
    40,
    39,
    37,
    0,
    267,
    269,
    270,
    409,
    78,
    95,
    88,
    178,
    87,
    14,
    317,
    402,
    318,
    324,
    308,
    191,
    80,
    81,
    82,
    13,
    312,
    311,
    310,
    415,
    152,
    148,
    377,
)
MODES = 8
BATCH = 64
RATE = 2e-3
WEIGHT_DECAY = 0.3  # times the rate, a step: a seventh is gone after 500 steps


def lip_modes(vertices: Tensor, train: Tensor) -> Tensor:
    """Main modes of lip motion of every frame [F, 8], each divided by the deviation of the first
    over `train`; `vertices` [F, V, 3] is the tracked mesh without head pose."""
    lips = vertices[:, list(LIP_VERTICES)].flatten(1)
    lips = lips - lips[train].mean(0)
    basis = torch.linalg.svd(lips[train], full_matrices=False).Vh[:MODES]
    modes = lips @ basis.T
    return modes / modes[train].std(0)[0].clamp_min(1e-6)


def warm_up_sound(
    network: GaussianTalker,
    clip: Clip,
    vertices: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    steps: int,
    seed: int,
) -> float:
    """Train sound net, sound attention and sound token for `steps` on the tracked mesh `vertices`
    [F, V, 3]; the best state on `validation` is kept.

    Returns the correlation of the first lip mode with the truth on the validation frames.
    """
    index = torch.from_numpy(train).to(clip.device)
    check = torch.from_numpy(validation).to(clip.device)
    target = lip_modes(torch.from_numpy(vertices).to(clip.device), index)
    reader = nn.Linear(network.config.d_model, MODES).to(clip.device)
    parts = nn.ModuleList([network.audio_net, network.audio_att_net, network.audio_mlp])
    optimizer = torch.optim.AdamW(
        [*parts.parameters(), *reader.parameters()], lr=RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)

    def predict(audio: Tensor) -> Tensor:
        return reader(network.audio_mlp(network.speech_vector(audio)))

    def validate() -> float:
        with torch.no_grad():
            guess = torch.cat([predict(clip.conditions(part).audio) for part in check.split(256)])
        return float(
            torch.corrcoef(torch.stack([guess[:, 0], target[check, 0]]))[0, 1].nan_to_num()
        )

    best, kept = -1.0, {k: v.clone() for k, v in parts.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    with Progress("sound warm-up", steps) as progress:
        for step in range(1, steps + 1):
            at = index[torch.randint(len(index), (BATCH,), generator=generator).to(clip.device)]
            loss = (
                (predict(disturb(clip.sound(clip.pick(at)), generator)) - target[at])
                .square()
                .mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 50 == 0 or step == steps:
                score = validate()
                if score > best:
                    best, kept = score, {k: v.clone() for k, v in parts.state_dict().items()}
                progress.advance(0, f"lip mode r {score:.2f}")
            progress.advance()
    parts.load_state_dict(kept)
    return best
