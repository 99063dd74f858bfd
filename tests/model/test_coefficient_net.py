"""The coefficient net in numpy is that of the bases, and what is sent draws the same frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from web_avatar import write_web_avatar

from being.api.packets import Flag, pack_coefficients, unpack, unpack_coefficients
from being.data.cameras import camera_vector
from being.data.mouth import code_rows
from being.inference.engine import Engine
from being.model.bases import Bases
from being.model.coefficient_net import CoefficientNet, quantised

FRAMES = 3


def test_frames_drawn_from_what_is_sent_are_those_of_the_engine(tmp_path: Path) -> None:
    avatar = write_web_avatar(tmp_path / "web", gaussians=300)
    assert avatar.bases is not None
    net = CoefficientNet.of(avatar.bases, camera_vector(avatar.world_to_camera.numpy()))
    rng = np.random.default_rng(0)
    poses = np.array([0, 7, 19])
    expression = (0.5 * rng.random((FRAMES, avatar.expression.shape[1]))).astype(np.float32)
    codes = rng.normal(0, 0.7, (FRAMES, net.code_width - expression.shape[1])).astype(np.float32)

    made = net.coefficients(codes, expression, poses)
    camera = torch.from_numpy(net.cameras[poses])
    with torch.no_grad():
        expected = avatar.bases.coefficients(
            torch.from_numpy(codes), torch.from_numpy(expression), camera
        )
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-5)

    # As a client reads it.
    numbers, steps = quantised(made)
    frames = [(int(p), float(s), n) for p, s, n in zip(poses, steps, numbers, strict=True)]
    packet, payload = unpack(pack_coefficients(Flag.SPEECH, 3, 960, frames))
    received = unpack_coefficients(packet, payload)
    assert [pose for pose, _ in received] == poses.tolist()

    def picture(engine: Engine, k: int) -> np.ndarray:
        rows = engine.track(torch.from_numpy(code_rows(codes[k : k + 1])))
        with rows as track:
            features = track.rows(np.zeros(1, np.int64))
            pending = engine.submit(features, poses[k : k + 1], expression[k : k + 1])
            return pending.images()[0].astype(np.float64)

    by_bases = Engine(avatar, "float32", deform="bases")
    for k, (_, coefficients) in enumerate(received):
        # Bases whose net says what was sent, whatever it is asked.
        *first, (weight, _) = avatar.bases.layers()
        layers = [*first, (torch.zeros_like(weight), torch.from_numpy(coefficients))]
        own = avatar.bases
        fixed = Bases(own.mean, own.basis, own.input_mean, own.input_scale, layers)
        sent = Engine(replace(avatar, bases=fixed.requires_grad_(False)), "float32", deform="bases")
        want, got = picture(by_bases, k), picture(sent, k)
        error = ((want - got) ** 2).mean()
        assert error < 255**2 * 10**-5.0, error  # 50 dB
        assert want.std() > 5
