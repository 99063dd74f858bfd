"""Audio warm-up: the audio branch learns the tracked lip motion before the fine stage.

The gradients of the image losses reach the audio branch through every Gaussian and take hours to
shape it (the reference trains for three). A regression of the main modes of lip motion takes
seconds on a CPU, and the attention can read the lips from the resulting speech vector at once. Only
audio is an input; the modes are targets. Two additions did not help and are not kept: a loss on the
Gaussians' own motion against the mesh (0.1 dB and 0.03 of lip correlation less), and a penalty on
colour offsets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from being.console import Progress
from being.data.clip import Clip
from being.model.gaussiantalker import GaussianTalker
from being.train.feature_augmentation import augment_features

# Vertices of the tracked mesh
LIP_VERTICES = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),  # lower lip, outer line
    *(185, 40, 39, 37, 0, 267, 269, 270, 409),  # upper lip, outer line
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),  # lower lip, inner line
    *(191, 80, 81, 82, 13, 312, 311, 310, 415),  # upper lip, inner line
    *(152, 148, 377),  # chin
)
MODE_COUNT = 8
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.3  # per step, times the rate: a seventh of a weight is gone after 500 steps
VALIDATE_EVERY = 50  # steps
CHUNK = 256  # validation frames that are predicted at once


def lip_modes(vertices: Tensor, train: Tensor) -> Tensor:
    """The main modes of lip motion in every frame [F, 8].

    vertices: the tracked mesh without head pose [F, V, 3]; train: the frames [n] from which the
    modes are computed. All modes are divided by the standard deviation of the first over `train`.
    """
    lips = vertices[:, list(LIP_VERTICES)].flatten(1)
    lips = lips - lips[train].mean(0)
    basis = torch.linalg.svd(lips[train], full_matrices=False).Vh[:MODE_COUNT]
    modes = lips @ basis.T
    return modes / modes[train].std(0)[0].clamp_min(1e-6)


def warm_up_audio_branch(
    network: GaussianTalker,
    clip: Clip,
    vertices: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    steps: int,
    seed: int,
) -> float:
    """Train the audio network, its attention and the audio token to predict the lip modes.

    vertices: the tracked mesh [F, V, 3]; train, validation: frame numbers int64 [n]. The state with
    the best score on `validation` is kept. Returns that score: the correlation of the first lip
    mode with the truth.
    """
    train_index = torch.from_numpy(train).to(clip.device)
    validation_index = torch.from_numpy(validation).to(clip.device)
    target = lip_modes(torch.from_numpy(vertices).to(clip.device), train_index)

    # A linear layer reads the modes from the audio token; it is used here only.
    readout = nn.Linear(network.config.d_model, MODE_COUNT).to(clip.device)
    branch = nn.ModuleList([network.audio_net, network.audio_att_net, network.audio_mlp])
    optimizer = torch.optim.AdamW(
        [*branch.parameters(), *readout.parameters()], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)

    def predict(audio: Tensor) -> Tensor:
        return readout(network.audio_mlp(network.speech_vector(audio)))

    def validate() -> float:
        with torch.no_grad():
            parts = validation_index.split(CHUNK)
            predicted = torch.cat([predict(clip.conditions(part).audio) for part in parts])
        pair = torch.stack([predicted[:, 0], target[validation_index, 0]])
        return float(torch.corrcoef(pair)[0, 1].nan_to_num())

    best_score = -1.0
    best_state = {name: value.clone() for name, value in branch.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    with Progress("audio warm-up", steps, "steps") as progress:
        for step in range(1, steps + 1):
            # One step on random training frames, whose features are augmented
            drawn = torch.randint(len(train_index), (BATCH_SIZE,), generator=generator)
            frames = train_index[drawn.to(clip.device)]
            audio = clip.audio_windows(clip.draw_audio_rows(frames))
            predicted = predict(augment_features(audio, generator))
            loss = (predicted - target[frames]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

            # Keep the best state
            if step % VALIDATE_EVERY == 0 or step == steps:
                score = validate()
                if score > best_score:
                    best_score = score
                    best_state = {name: v.clone() for name, v in branch.state_dict().items()}
                progress.advance(0, f"correlation with the lips {score:.2f}")
            progress.advance()
    branch.load_state_dict(best_state)
    return best_score
