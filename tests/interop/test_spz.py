"""Gaussians as .spz: sizes and rounding, and what the reader gsply finds in the file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from program import being, refused

from being.errors import BeingError, InputRejected
from being.interop.export_files import MARK
from being.interop.spz import DEGREES, SPZ_FILE, write_spz
from being.model.gaussians import CanonicalGaussians

COUNT = 40


def gaussians(coefficients: int = 15) -> CanonicalGaussians:
    """Random Gaussians of usual values; quaternions of any length and sign."""
    random = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(COUNT, *shape, generator=random)

    return CanonicalGaussians(
        0.8 * normal(3),
        normal(3) - 4,
        3 * normal(4),
        2 * normal(1),
        0.8 * normal(1, 3),
        0.2 * normal(coefficients, 3),
    )


@pytest.mark.parametrize("coefficients", list(DEGREES))
def test_header_and_sizes(coefficients: int, tmp_path: Path) -> None:
    write_spz(tmp_path / "a.spz", gaussians(coefficients))
    packed = (tmp_path / "a.spz").read_bytes()
    content = gzip.decompress(packed)
    assert content[:4] == b"NGSP" and MARK.encode() in packed
    header = struct.unpack("<IIIBBBB", content[:16])
    assert header[1:] == (3, COUNT, DEGREES[coefficients], 12, 0, 0)
    assert len(content) == 16 + COUNT * (9 + 1 + 3 + 3 + 4 + 3 * coefficients)
    write_spz(tmp_path / "b.spz", gaussians(coefficients))
    assert (tmp_path / "b.spz").read_bytes() == packed


def test_what_the_format_cannot_hold_and_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    far = gaussians()
    with torch.no_grad():
        far.means[3, 1] = 3000
    with pytest.raises(InputRejected, match="2047 units"):
        write_spz(tmp_path / "a.spz", far)
    assert not (tmp_path / "a.spz").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BeingError, match="cannot write"):
        write_spz(tmp_path / "file/a.spz", gaussians())


def test_the_command_writes_it(run: Path, tmp_path: Path) -> None:
    result = being("export", run, "--spz", "--ply", "--out", tmp_path / "made")
    assert result.exit_code == 0, result.stderr
    spz, ply = tmp_path / "made" / SPZ_FILE, tmp_path / "made/point_cloud.ply"
    assert 0 < spz.stat().st_size < ply.stat().st_size / 4
    assert being("export", run, "--spz", "--out", tmp_path / "made").exit_code == 0
    spz.write_bytes(b"of somebody else")
    refused(1, "was not made by being", "export", run, "--spz", "--out", tmp_path / "made")


@pytest.mark.slow  # the reader compiles its code at first use
def test_another_reader_finds_the_same_gaussians(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    own = gaussians()
    write_spz(tmp_path / "a.spz", own)
    found = gsply.read_spz(tmp_path / "a.spz")
    assert np.abs(found.means - own.means.detach().numpy()).max() <= 1 / 8192 + 1e-6
    assert np.abs(found.scales - own.log_scales.detach().numpy()).max() <= 1 / 32 + 1e-5
    alpha = 1 / (1 + np.exp(-np.asarray(found.opacities).ravel()))
    assert np.abs(alpha - torch.sigmoid(own.opacity_logits).detach().numpy().ravel()).max() < 0.003
    dc = own.sh_dc.detach().numpy()[:, 0]
    assert np.abs(found.sh0.reshape(COUNT, 3) - dc).max() <= 0.5 / 38.25 + 1e-4
    rest = own.sh_rest.detach().numpy()
    error = np.abs(found.shN.reshape(rest.shape) - rest)
    assert error[:, :3].max() <= 4.6 / 128 and error[:, 3:].max() <= 8.6 / 128
    # The same rotation: unit quaternions, w first, up to the sign of the whole.
    wanted = torch.nn.functional.normalize(own.quaternions.detach(), dim=1).numpy()
    assert (np.abs((found.quats * wanted).sum(1)) > 0.99999).all()
