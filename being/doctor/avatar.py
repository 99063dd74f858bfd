"""Checks of one avatar: it loads, renders, is fast enough, and may be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from being.conventions import FEATURE_WINDOW, FPS
from being.doctor.check import FAILURE, OK, WARNING, Check

if TYPE_CHECKING:
    import numpy as np

    from being.inference.engine import Engine

WARM_UP, TIMED, TIMED_S = 3, 30, 2.0  # frames, frames, s
# A picture with a head: this share of its pixels differs from the plate by more than this.
SHARE, DIFFERENCE = 0.005, 8
BUNDLED = "hama-causal"  # an encoder whose weights are part of this package


def check_avatar(folder: Path) -> Iterator[Check]:
    """The bundle, one picture, the speed, consent and licences."""
    from being.inference.engine import Engine
    from being.model.device import pick_device

    engine = Engine.load(folder, pick_device("auto"))
    try:
        avatar = engine.avatar
        yield Check(
            "avatar",
            OK,
            f"{avatar.manifest.get('name', folder.name)}: {len(avatar.model.gaussians)} Gaussians, "
            f"{avatar.pose_count} poses, {avatar.size} px; all files have their sha256",
        )
        yield from _check_frames(engine)
        yield _check_consent(avatar.manifest.get("consent"))
        encoders = {avatar.manifest["encoder"], avatar.live_encoder}
        yield from (_check_licence(name) for name in sorted(encoders))
    finally:
        engine.close()


def _check_frames(engine: Engine) -> Iterator[Check]:
    """One picture is not blank; frames a second, one at a time."""
    import numpy as np
    import torch

    width = engine.avatar.manifest["audio_width"]
    features = torch.zeros(TIMED + WARM_UP + 1, FEATURE_WINDOW, width)
    times: list[float] = []
    with engine.track(features, len(features)) as track:
        for k in range(WARM_UP + TIMED):
            start = time.perf_counter()
            pose = np.array([k % engine.avatar.pose_count])
            image = engine.submit(track.rows(np.array([k])), pose).images()[0]
            times.append(time.perf_counter() - start)
            if k == 0:
                yield _check_picture(image.copy(), engine.avatar.plate(0))
            if k > WARM_UP and sum(times[WARM_UP:]) > TIMED_S:
                break
    rate = 1 / float(np.median(times[WARM_UP:]))
    text = f"{rate:.0f} frames/s, one frame at a time, on {engine.device}"
    if rate >= FPS:
        yield Check("avatar's speed", OK, text)
    else:
        fix = f"Live sessions need {FPS}: use a GPU, or train with --config fast"
        yield Check("avatar's speed", WARNING, text, fix)


def _check_picture(image: np.ndarray, plate: np.ndarray) -> Check:
    """image, plate: uint8 [S, S, 3]."""
    import numpy as np

    changed = np.abs(image.astype(np.int16) - plate).max(-1) > DIFFERENCE
    if changed.mean() < SHARE:
        fix = "Train it again, or copy it again from where it was made"
        return Check("avatar's picture", FAILURE, "the frame shows no head", fix)
    return Check(
        "avatar's picture", OK, f"the head covers {100 * changed.mean():.0f} % of the frame"
    )


def _check_consent(consent: object) -> Check:
    statement = consent.get("statement", "") if isinstance(consent, dict) else ""
    if statement:
        return Check("avatar's consent", OK, f"{statement[:200]}")
    return Check(
        "avatar's consent",
        WARNING,
        "the person's consent is unconfirmed, and every video says so",
        "Make the dataset with: being preprocess VIDEO --consent TEXT",
    )


def _check_licence(encoder: str) -> Check:
    """Whether the speech encoder that the avatar needs may be used commercially."""
    from being.assets import registry
    from being.audio.encoder_names import EncoderName

    base = EncoderName.of(encoder).base
    asset = registry().get(base)
    name = "avatar's licences"
    if base == BUNDLED:
        return Check(name, OK, f"speech encoder {encoder}: Apache-2.0, as this package")
    if asset is not None and asset.commercial:
        return Check(
            name, OK, f"speech encoder {encoder}: {asset.licence}, commercial use is allowed"
        )
    known = asset.licence if asset is not None else "its licence is not known here"
    return Check(
        name,
        WARNING,
        f"speech encoder {encoder}: {known}",
        "Read its model's licence before commercial use, or train with data.encoder=hama",
    )
