"""The torch rasterizer: slow and readable; the fast backends are tested against it.

Rules (those of the diff-gaussian-rasterization family, Kerbl et al. 2023):
- A Gaussian is blended in the 16x16 tiles that a square around its centre meets; the square reaches
  ceil(3 sqrt(largest eigenvalue)) px to each side.
- Gaussians are blended front to back by view-space z.
- alpha = min(0.99, opacity exp(power)); an alpha below 1/255 is skipped.
- Blending stops before the transmittance would fall under 1e-4.

Constants are in `being.conventions`. Gradients are those of the formulas; where alpha is limited to
0.99, its gradient is zero. Letters: n drawable Gaussians, P pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from being.conventions import ALPHA_MAX, ALPHA_MIN, LOW_PASS, NEAR_PLANE, TILE, TRANSMITTANCE_MIN

DEVICE = "any device"
# x/z and y/z in the Jacobian are clamped to this times the tangent of half the field of view.
FIELD_OF_VIEW_MARGIN = 1.3
EIGENVALUE_FLOOR = 0.1  # px^4 under the root of the eigenvalue formula
QUATERNION_MIN = 1e-10  # length below which a rotation is undefined and the Gaussian is skipped
SCREEN_MAX = 1e9  # px; centres and radii beyond are skipped

SH_C0 = 0.28209479177387814
SH_C1 = 0.4886025119029199
SH_C2 = (
    1.0925484305920792,
    -1.0925484305920792,
    0.31539156525252005,
    -1.0925484305920792,
    0.5462742152960396,
)
SH_C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)


class Projected(NamedTuple):
    """Gaussians of one frame on the screen."""

    centres: Tensor  # [n, 2] px
    covariances: Tensor  # [n, 4] xx, xy, yy in px^2, low-pass included; the determinant in px^4
    depths: Tensor  # [n] view-space z
    opacities: Tensor  # [n]
    colours: Tensor  # [n, 3] >= 0
    radii: Tensor  # [n] px, whole numbers


def status() -> str:
    """Return "OK (detail)": every machine can use this backend."""
    return "OK (torch: slow, any device)"


def supports(tensor: Tensor) -> bool:
    """Return True: every device and float type will do."""
    return True


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    world_to_camera: Tensor,
    focal: Tensor,
    width: int,
    height: int,
    sh_degree: int,
    screen_offsets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb [B, 3, H, W], alpha [B, 1, H, W], depth [B, 1, H, W] and radii [B, N].

    Arguments as in `api.rasterize`.
    """
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    frames = max(tensor.shape[0] for tensor in fields)
    out = []
    for b in range(frames):
        frame = [tensor[b if tensor.shape[0] > 1 else 0] for tensor in fields]
        offsets = torch.zeros_like(frame[0][:, :2]) if screen_offsets is None else screen_offsets[b]
        out.append(_render_frame(frame, offsets, width, height, sh_degree))
    rgb, alpha, depth, radii = (torch.stack(parts) for parts in zip(*out, strict=True))
    return rgb, alpha, depth, radii


def _render_frame(
    frame: list[Tensor], offsets: Tensor, width: int, height: int, sh_degree: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb [3, H, W], alpha [1, H, W], depth [1, H, W], radii [N] of one frame."""
    *gaussians, world_to_camera, focal = frame

    # Find the Gaussians that can be drawn, by depth. The others may hold NaN, so they must not be
    # part of the autograd graph.
    with torch.no_grad():
        everything = project(gaussians, world_to_camera, focal, offsets, width, height, sh_degree)
        tiles = tile_rectangles(everything, width, height)
        keep = _drawable(everything, gaussians[1]) & ((tiles[:, 2:] - tiles[:, :2]).amin(1) > 0)
        index = keep.nonzero()[:, 0]
        index = index[torch.sort(everything.depths[index], stable=True).indices]
        tiles = tiles[index]

    # Project these again, with gradients. Depth and a constant 1 (for alpha) are blended like
    # colours.
    kept = [field[index] for field in gaussians]
    splats = project(kept, world_to_camera, focal, offsets[index], width, height, sh_degree)
    features = torch.cat(
        [splats.colours, splats.depths[:, None], torch.ones_like(splats.depths[:, None])], 1
    )

    # Blend tile by tile and put the tiles together.
    rows = []
    for top in range(0, height, TILE):
        row = []
        for left in range(0, width, TILE):
            pixels = _pixels(left, top, width, height, focal)
            row.append(_render_tile(splats, features, tiles, left, top, pixels))
        rows.append(torch.cat(row, 2))
    image = torch.cat(rows, 1)
    radii = torch.where(keep, everything.radii, 0).to(torch.int32)
    return image[:3], image[4:], image[3:4], radii


def project(
    gaussians: Sequence[Tensor],
    world_to_camera: Tensor,
    focal: Tensor,
    offsets: Tensor,
    width: int,
    height: int,
    sh_degree: int,
) -> Projected:
    """Return the EWA projection (Zwicker et al. 2001) of Gaussians into one camera.

    gaussians: means [n, 3], quaternions [n, 4], scales [n, 3], opacities [n], sh [n, K, 3];
    offsets [n, 2] px is added to the centres.
    """
    means, quaternions, scales, opacities, sh = gaussians

    # Centres on the screen.
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    x, y, z = (means @ rotation.T + translation).unbind(1)
    size = torch.tensor([width, height], dtype=means.dtype, device=means.device)
    centres = focal * torch.stack([x / z, y / z], 1) + (size - 1) / 2 + offsets

    # The covariance on the screen: J W R S (J W R S)^T, with J the Jacobian of the projection.
    limit = FIELD_OF_VIEW_MARGIN * size / (2 * focal)
    slope_x, slope_y = (x / z).clamp(-limit[0], limit[0]), (y / z).clamp(-limit[1], limit[1])
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [focal / z, zero, -focal * slope_x / z, zero, focal / z, -focal * slope_y / z], 1
    )
    factor = jacobian.view(-1, 2, 3) @ rotation @ rotation_matrices(quaternions) * scales[:, None]
    covariance = factor @ factor.transpose(1, 2)
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    area = torch.linalg.cross(factor[:, 0], factor[:, 1]).square().sum(1)  # Cauchy-Binet
    determinant = area + LOW_PASS * (xx + yy) + LOW_PASS**2
    xx, yy = xx + LOW_PASS, yy + LOW_PASS

    # Colour as seen from the camera's centre, which is -R^T t.
    direction = torch.nn.functional.normalize(means + rotation.T @ translation, dim=1)
    colours = (evaluate_sh(sh, direction, sh_degree) + 0.5).clamp_min(0)

    # The radius from the larger eigenvalue of the covariance.
    with torch.no_grad():
        middle = (xx + yy) / 2
        largest = middle + (middle**2 - determinant).clamp_min(EIGENVALUE_FLOOR).sqrt()
        radii = (3 * largest.sqrt()).ceil()
    return Projected(
        centres, torch.stack([xx, xy, yy, determinant], 1), z, opacities, colours, radii
    )


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Return the rotation matrices [n, 3, 3] of quaternions [n, 4], w first, of any length."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(1)
    entries = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(entries, 1).view(-1, 3, 3)


def sh_basis(direction: Tensor, degree: int) -> Tensor:
    """Return the real spherical harmonics [n, (degree+1)^2] at unit directions [n, 3].

    The signs are those of the diff-gaussian-rasterization family.
    """
    x, y, z = direction.unbind(1)
    basis = [torch.full_like(x, SH_C0)]
    if degree > 0:
        basis += [-SH_C1 * y, SH_C1 * z, -SH_C1 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            SH_C2[0] * x * y,
            SH_C2[1] * y * z,
            SH_C2[2] * (2 * zz - xx - yy),
            SH_C2[3] * x * z,
            SH_C2[4] * (xx - yy),
        ]
    if degree > 2:
        basis += [
            SH_C3[0] * y * (3 * xx - yy),
            SH_C3[1] * x * y * z,
            SH_C3[2] * y * (4 * zz - xx - yy),
            SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            SH_C3[4] * x * (4 * zz - xx - yy),
            SH_C3[5] * z * (xx - yy),
            SH_C3[6] * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, 1)


def evaluate_sh(sh: Tensor, direction: Tensor, degree: int) -> Tensor:
    """Return the values [n, 3] of coefficients [n, K, 3] at unit directions [n, 3].

    Only degrees 0 to `degree` count.
    """
    basis = sh_basis(direction, degree)
    return torch.einsum("nk,nkc->nc", basis, sh[:, : basis.shape[1]])


def tile_rectangles(splats: Projected, width: int, height: int) -> Tensor:
    """Return the tiles that each Gaussian's square meets: [n, 4] int64 left, top, right, bottom.

    Right and bottom are past the end.
    """
    count = torch.tensor([-(-width // TILE), -(-height // TILE)], device=splats.centres.device)
    radii = splats.radii[:, None]
    first = (
        ((splats.centres - radii) / TILE)
        .floor()
        .nan_to_num(0)
        .clamp(-1, int(count.max()) + 1)
        .long()
    )
    last = (
        ((splats.centres + radii + TILE - 1) / TILE)
        .floor()
        .nan_to_num(0)
        .clamp(-1, int(count.max()) + 1)
        .long()
    )
    return torch.cat([first.clamp_min(0).minimum(count), last.clamp_min(0).minimum(count)], 1)


def _drawable(splats: Projected, quaternions: Tensor) -> Tensor:
    """Return a mask [N]: in front of the near plane, finite, on screen, with a valid rotation."""
    values = torch.cat(
        [
            splats.centres,
            splats.covariances,
            splats.depths[:, None],
            splats.opacities[:, None],
            splats.colours,
            splats.radii[:, None],
        ],
        1,
    )
    on_screen = (splats.centres.abs() < SCREEN_MAX).all(1) & (splats.radii < SCREEN_MAX)
    rotated = quaternions.norm(dim=1) >= QUATERNION_MIN
    return values.isfinite().all(1) & on_screen & rotated & (splats.depths > NEAR_PLANE)


def _pixels(left: int, top: int, width: int, height: int, like: Tensor) -> Tensor:
    """Return the pixel centres [h, w, 2] of one tile, cut at the image's edge."""
    xs = torch.arange(left, min(left + TILE, width), dtype=like.dtype, device=like.device)
    ys = torch.arange(top, min(top + TILE, height), dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), 2)


def _render_tile(
    splats: Projected, features: Tensor, tiles: Tensor, left: int, top: int, pixels: Tensor
) -> Tensor:
    """Return the blended features [5, h, w] of one tile.

    The backward pass computes the intermediate values again, to save memory.
    """
    # The Gaussians whose squares meet the tile.
    tile_x, tile_y = left // TILE, top // TILE
    touched = (
        (tiles[:, 0] <= tile_x)
        & (tile_x < tiles[:, 2])
        & (tiles[:, 1] <= tile_y)
        & (tile_y < tiles[:, 3])
    )
    index = touched.nonzero()[:, 0]
    h, w = pixels.shape[:2]
    if not len(index):
        return pixels.new_zeros(features.shape[1], h, w)
    inputs = (
        splats.centres[index],
        splats.covariances[index],
        splats.opacities[index],
        features[index],
    )
    positions = pixels.reshape(-1, 2)
    if torch.is_grad_enabled():
        blended = checkpoint(
            _blend, *inputs, positions, use_reentrant=False, preserve_rng_state=False
        )
    else:  # the first call of checkpoint imports torch's compiler, which takes seconds
        blended = _blend(*inputs, positions)
    return blended.T.reshape(-1, h, w)


def _blend(
    centres: Tensor, covariances: Tensor, opacities: Tensor, features: Tensor, pixels: Tensor
) -> Tensor:
    """Return features [P, 5] of depth-sorted Gaussians [n, ...] blended at pixels [P, 2]."""
    alpha = _blend_alpha(centres, covariances, opacities, pixels)
    after = (1 - alpha).cumprod(0)  # transmittance behind each Gaussian [n, P]
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weights = torch.where(after >= TRANSMITTANCE_MIN, alpha * before, 0)
    return weights.T @ features


def _blend_alpha(centres: Tensor, covariances: Tensor, opacities: Tensor, pixels: Tensor) -> Tensor:
    """Return alpha [n, P], zero where the Gaussian is skipped."""
    xx, xy, yy, determinant = covariances[:, :, None].unbind(1)
    dx, dy = (centres[:, None] - pixels).unbind(2)
    power = (xy * dx * dy - (yy * dx * dx + xx * dy * dy) / 2) / determinant
    alpha = (opacities[:, None] * power.clamp_max(0).exp()).clamp_max(ALPHA_MAX)
    return torch.where((power <= 0) & (alpha >= ALPHA_MIN), alpha, 0)
