"""LPIPS: as its published package, zero for equal images, symmetric, growing with noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from needs import load_or_skip

from being.eval.lpips import Lpips

# From the package lpips 0.1.4 (net="alex", its own v0.1 heads) on the pictures of `pair`.
PUBLISHED = 0.103344180


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    return load_or_skip(Lpips)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures [1, 3, 96, 80] of one formula: waves, a sawtooth and a cone; the other with
    channels reversed.
    """
    y, x = np.mgrid[:96, :80]
    one = np.stack(
        [
            0.5 + 0.5 * np.sin(x / 7) * np.cos(y / 5),
            (x * 3 + y * 5) % 64 / 63,
            np.hypot(x - 40, y - 48) / 63,
        ]
    ).clip(0, 1)
    other = one[::-1] * 0.8
    return torch.from_numpy(one.copy()).float()[None], torch.from_numpy(other.copy()).float()[None]


def test_it_equals_the_published_package(lpips):
    assert float(lpips(*pair())) == pytest.approx(PUBLISHED, abs=1e-5)


def test_equal_pictures_have_no_distance_and_order_does_not_matter(lpips):
    one, other = pair()
    assert float(lpips(one, one)) == 0
    assert torch.equal(lpips(one, other), lpips(other, one))


def test_it_grows_with_noise(lpips):
    one, _ = pair()
    noise = torch.randn(one.shape, generator=torch.Generator().manual_seed(0))
    distances = [
        float(lpips(one, (one + level * noise).clamp(0, 1))) for level in (0, 0.02, 0.05, 0.1, 0.2)
    ]
    assert distances == sorted(distances) and distances[-1] > 0.1


def test_a_batch_is_its_pictures_one_by_one_and_a_small_picture_is_enlarged(lpips):
    one, other = pair()
    both = lpips(torch.cat([one, other]), torch.cat([other, other]))
    assert both.tolist() == pytest.approx([float(lpips(one, other)), 0], abs=1e-6)
    assert float(lpips(one[..., :20, :30], other[..., :20, :30])) > 0
