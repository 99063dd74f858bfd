"""The facts of the avatar that an engine renders."""

from __future__ import annotations

import numpy as np

from being.conventions import FEATURE_WINDOW, SAMPLE_RATE
from being.data.cameras import camera_vector
from being.inference.engine import Engine
from being.inference.live_look import FILMED, LiveLook, live_look
from being.model.coefficient_net import CoefficientNet
from being.provenance.mark import Mark
from being.provenance.watermark import Watermark
from being.session.avatar_facts import AvatarFacts
from being.session.motion import AvatarMotion

SILENCE_S = 3.0  # of silence from whose middle the features of silence are taken


def avatar_facts(
    engine: Engine, name: str, watermark: Watermark | None = None, look: LiveLook | None = None
) -> AvatarFacts:
    """The facts of an engine's avatar. Raises as `Engine.check_encoder`.

    watermark: of its pictures. look: whose avatar the engine renders; default: as filmed.
    """
    look = look or live_look(engine.avatar, FILMED)
    avatar = engine.avatar
    stream = engine.feature_stream()
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
    rows = np.concatenate([stream.push(silence), stream.finish()])
    silent_row = rows[len(rows) // 2].astype(np.float32)
    assert silent_row.shape[0] == FEATURE_WINDOW, silent_row.shape
    net = None
    if avatar.bases is not None and look.name == FILMED:
        net = CoefficientNet.of(avatar.bases, camera_vector(avatar.world_to_camera.cpu().numpy()))
    return AvatarFacts(
        name,
        avatar.size,
        avatar.live_encoder,
        silent_row,
        AvatarMotion(look.poses, avatar.channels, engine.expression[: look.poses]),
        avatar.manifest.get("consent"),
        avatar.consent_note,
        avatar.voice if avatar.live_voice is None else avatar.live_voice,
        mark=Mark.of({**avatar.manifest, "name": name}, watermark).facts(),
        look=look.name,
        shown=(look.width, look.height),
        matte=look.matte,
        net=net,
    )
