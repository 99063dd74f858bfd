"""Fits the linear bases of an avatar's offsets, and the net that gives their coefficients.

1. What a picture notices (`picture_weights`): each column of each Gaussian is weighted by how much
   the pixels change with it. So the variance that bases keep is, to first order, the squared change
   of the pixels that they keep: weights^2 = the diagonal of J^T J, where J is the derivative of the
   picture by the raw parameters. It is estimated by gradients of random +-1 sums of all pixels
   (Hutchinson 1989), over VIEWS frames.
2. Principal components of the weighted offsets over drawn frames (`train.driven_frames`), batch by
   batch (incremental SVD, Ross et al. 2008): memory holds MOST + BATCH rows, however many frames.
3. The number of bases: the fewest whose pictures are as good as ENOUGH_PSNR against those of the
   network, on held-out frames and with the best coefficients.
4. The coefficient net is fitted on frames of its own, weighted by the variance of each basis.

`train/bases_tuning.py` then tunes all of it on pictures. B frames, N Gaussians, K bases, S
harmonics, D = 14 N columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.console import Progress
from being.model.bases import (
    BASIS_WIDTH,
    FIELD_WIDTHS,
    NET_LAYERS,
    Bases,
    offsets_of,
)
from being.model.device import has_bfloat16
from being.model.gaussiantalker import Offsets
from being.model.talking_head import TalkingHead
from being.splat import Cameras, composite, rasterize
from being.splat.torch_rasterizer import SH_C0, sh_basis
from being.train.driven_frames import DrivenFrames, Frames

VIEWS, PROBES = 8, 4  # frames of `picture_weights`, and random sums of the pixels of each
LEAST_WEIGHT = 1e-3  # of a column, as a share of its field's root mean square
REFERENCE_FRAMES = 64  # whose mean gives the higher harmonics
SVD_FRAMES, NET_FRAMES = 320, 1536
BATCH = 16  # frames of a step of the SVD
MOST = 40  # components that the SVD keeps; more than the most bases, so that those are exact
COUNTS = (8, 12, 16, 20, 24, 32)  # numbers of bases that are tried
MEASURED_FRAMES, MEASURED_PICTURES = 64, 12  # held-out frames: of the variance, of the pictures
# dB of heads by K bases against those of the network. It is far more than what the network reaches
# against the footage (33 dB on the quick config), so the footage hardly tells them apart.
ENOUGH_PSNR = 46.0
HIDDEN = 128  # width of the coefficient net
NET_STEPS, NET_BATCH = 5000, 256
NET_RATES = (3e-3, 1e-5)  # at the start and at the end
LEAST_SCALE = 1e-4  # of an input of the net


@dataclass(frozen=True)
class Pictures:
    """Renders heads over one background image."""

    model: TalkingHead
    focal: float  # px
    size: int  # S, px
    background: Tensor  # [3, S, S] in [0, 1]

    def render(self, offsets: Offsets, world_to_camera: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] of heads with these offsets."""
        gaussians = self.model.gaussians.activate(offsets)
        cameras = Cameras(world_to_camera, self.focal, self.size, self.size)
        output = rasterize(gaussians, cameras, backend=self.model.backend)
        return composite(output, self.background[None].expand(len(world_to_camera), -1, -1, -1))


class NetworkOffsets:
    """The offsets of the network for any frames; the queries are computed once."""

    def __init__(self, model: TalkingHead, low_precision: bool = False):
        """low_precision: the network's products are in bfloat16, where the device has them."""
        self.network = model.network
        device = model.gaussians.means.device
        self._low_precision = low_precision and has_bfloat16(device)
        with torch.no_grad():
            self._queries = model.network.queries(model.gaussians.means)

    @torch.no_grad()
    def __call__(self, frames: Frames) -> Offsets:
        """Offsets of B frames."""
        network, device = self.network, frames.code.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._low_precision):
            return network.deform(self._queries, network.tokens(frames.conditions())).float()


@dataclass(frozen=True)
class Components:
    """Principal components of weighted offsets."""

    weights: Tensor  # [N, 14]
    rest: Tensor  # [N, 3 S - 3], mean offset of the higher harmonics
    mean: Tensor  # [D] weighted
    rows: Tensor  # [R, D] orthonormal, most variance first
    deviations: Tensor  # [R] standard deviation of each

    def basis(self, count: int) -> Tensor:
        """The first bases [count, N, 14], for coefficients of variance 1."""
        rows = self.rows[:count] * self.deviations[:count, None]
        return rows.view(count, -1, BASIS_WIDTH) / self.weights

    def mean_offset(self) -> Tensor:
        """The mean offset [N, 11 + 3 S]."""
        columns = self.mean.view(-1, BASIS_WIDTH) / self.weights
        return torch.cat([columns, self.rest], 1)

    def coefficients(self, weighted: Tensor, count: int) -> Tensor:
        """The best coefficients [B, count], of variance 1, for weighted offsets [B, D]."""
        return (weighted - self.mean) @ self.rows[:count].T / self.deviations[:count]


@dataclass(frozen=True)
class FittedBases:
    """Bases, and what they keep."""

    bases: Bases
    table: list[dict[str, Any]]  # a row (JSON types) for each number of bases
    variance: float  # share of the held-out frames' variance that they keep


def fit_bases(
    pictures: Pictures, frames: DrivenFrames, seed: int = 0, count: int | None = None
) -> FittedBases:
    """The bases of the network of `pictures.model`, not tuned on pictures yet.

    count: number of bases; default: the fewest of COUNTS that are good enough. The same seed gives
    the same bases on the same machine.
    """
    generator = torch.Generator().manual_seed(seed)
    network = NetworkOffsets(pictures.model)
    weights = picture_weights(pictures, network, frames.draw(VIEWS, generator), generator)
    rest = _mean_of_harmonics(network, frames.draw(REFERENCE_FRAMES, generator))
    # Rounding is noise that hundreds of frames average out.
    quick = NetworkOffsets(pictures.model, low_precision=True)
    columns = _Columns(pictures.model, quick, weights, rest)

    with Progress("bases", SVD_FRAMES, "frames") as progress:
        parts = _batches(frames.draw(SVD_FRAMES, generator))
        components = principal_components(columns, parts, weights, rest, progress.advance)

    measured = frames.held_out[_spread(len(frames.held_out), MEASURED_FRAMES)]
    table = measure_components(pictures, network, columns, components, measured)
    chosen = _enough(table) if count is None else min(count, len(components.rows))
    if chosen not in [row["count"] for row in table]:
        table += measure_components(pictures, network, columns, components, measured, [chosen])

    bases = _with_net(columns, components, chosen, frames, generator)
    variance = next(row["variance"] for row in table if row["count"] == chosen)
    return FittedBases(bases, table, variance)


def picture_weights(
    pictures: Pictures, network: NetworkOffsets, frames: Frames, generator: torch.Generator
) -> Tensor:
    """How much pixels change with each column: root mean square derivatives [N, 14].

    Every pixel and colour counts 1 in [0, 1]. Columns of one field share a weight, but those of the
    means, since a move towards the camera hardly shows. No weight is 0: LEAST_WEIGHT.
    """
    total: Tensor | None = None
    for k in range(len(frames)):
        frame = frames[slice(k, k + 1)]
        offsets = network(frame)
        fields = [offsets.means, offsets.log_scales, offsets.quaternions, offsets.opacity_logits]
        leaves = [part.detach().clone().requires_grad_() for part in (*fields, offsets.sh)]
        with torch.enable_grad():
            picture = pictures.render(Offsets(*leaves), frame.world_to_camera)
        for probe in range(PROBES):
            signs = torch.randint(2, picture.shape, generator=generator).to(picture) * 2 - 1
            found = torch.autograd.grad(picture, leaves, signs, retain_graph=probe + 1 < PROBES)
            squares = torch.cat([*(part[0] for part in found[:4]), found[4][0, :, 0]], 1) ** 2
            total = squares if total is None else total + squares
    assert total is not None
    total = total / (len(frames) * PROBES)

    weights = []
    for name, part in zip(FIELD_WIDTHS, total.split([*FIELD_WIDTHS.values()], 1), strict=True):
        shared = part if name == "means" else part.mean(1, keepdim=True).expand_as(part)
        least = LEAST_WEIGHT * shared.mean().sqrt()
        weights.append(shared.sqrt().clamp_min(float(least) or 1.0))
    return torch.cat(weights, 1)


def _mean_of_harmonics(network: NetworkOffsets, frames: Frames) -> Tensor:
    """The mean offset [N, 3 S - 3] of the higher harmonics."""
    total = sum(network(part).sh[:, :, 1:].sum(0) for part in _batches(frames))
    assert isinstance(total, Tensor)
    return total.flatten(1) / len(frames)


class _Columns:
    """Weighted offsets of the network, in the columns of the bases."""

    def __init__(self, model: TalkingHead, network: NetworkOffsets, weights: Tensor, rest: Tensor):
        """rest: [N, 3 S - 3], the offset of the higher harmonics that all frames share."""
        self._means, self._network = model.gaussians.means, network
        self._degree = model.network.config.sh_degree
        self._weights, self._rest = weights, rest.unflatten(1, (-1, 3))

    @torch.no_grad()
    def __call__(self, frames: Frames) -> Tensor:
        """Weighted offsets [B, D] of B frames."""
        offsets = self._network(frames)
        constant = torch.stack(
            [
                self._constant(means, sh, matrix)
                for means, sh, matrix in zip(
                    offsets.means, offsets.sh, frames.world_to_camera, strict=True
                )
            ]
        )
        fields = (
            offsets.means,
            offsets.log_scales,
            offsets.quaternions,
            offsets.opacity_logits,
            constant,
        )
        return (torch.cat(fields, -1) * self._weights).flatten(1)

    def _constant(self, offset: Tensor, sh: Tensor, world_to_camera: Tensor) -> Tensor:
        """The constant harmonic [N, 3] that has the colour of all, seen from this camera.

        offset [N, 3] of the means, sh [N, S, 3].
        """
        centre = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
        direction = F.normalize(self._means + offset - centre, dim=1)
        higher = sh_basis(direction, self._degree)[:, 1:]
        return sh[:, 0] + torch.einsum("nk,nkc->nc", higher, sh[:, 1:] - self._rest) / SH_C0


def principal_components(
    columns: Callable[[Frames], Tensor],
    batches: Iterator[Frames],
    weights: Tensor,
    rest: Tensor,
    on_frames: Callable[[int], None] = lambda count: None,
    most: int = MOST,
) -> Components:
    """The first `most` principal components of `columns` over all batches.

    Incremental SVD: rows of the components so far, scaled by their singular values, of the new
    frames, and of the move of the mean (Ross et al. 2008) are decomposed together, through the
    small matrix of their products.
    """
    total, mean, rows, values = 0, torch.zeros(0), torch.zeros(0), torch.zeros(0)
    for batch in batches:
        new = columns(batch)
        new_mean = new.mean(0)
        new -= new_mean
        parts = [new]
        if total:
            move = (total * len(new) / (total + len(new))) ** 0.5
            parts = [rows * values[:, None], new, move * (mean - new_mean)[None]]
            mean = mean + (new_mean - mean) * len(new) / (total + len(new))
        else:
            mean = new_mean
        total += len(new)
        rows, values = _decomposed(torch.cat(parts), most)
        on_frames(len(batch))
    return Components(weights, rest, mean, rows, values / max(total - 1, 1) ** 0.5)


def _decomposed(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Right singular vectors [R, D] and singular values [R] of a matrix with few rows [r, D]."""
    squares, vectors = torch.linalg.eigh((rows @ rows.T).double())
    # The largest come last. Values below the rounding of the products are noise.
    kept = min(most, int((squares > squares[-1] * 1e-7).sum()))
    values = squares[-kept:].flip(0).sqrt()
    vectors = vectors[:, -kept:].flip(1)
    return (vectors / values).T.to(rows) @ rows, values.to(rows)


@torch.no_grad()
def measure_components(
    pictures: Pictures,
    network: NetworkOffsets,
    columns: Callable[[Frames], Tensor],
    components: Components,
    frames: Frames,
    counts: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """A row for each number of bases: the variance of the held-out frames that they keep, and the
    PSNR of their heads against the network's. The coefficients are the best ones. counts: default
    COUNTS, as far as there are components.
    """
    most = len(components.rows)
    counts = [count for count in counts or COUNTS if count <= most] or [most]

    # Variance
    total, kept = 0.0, dict.fromkeys(counts, 0.0)
    for part in _batches(frames):
        moved = columns(part) - components.mean
        along = (moved @ components.rows.T).square().sum(0)
        total += float(moved.square().sum())
        for count in counts:
            kept[count] += float(along[:count].sum())

    # Pictures
    errors = dict.fromkeys(counts, 0.0)
    shown = frames[_spread(len(frames), MEASURED_PICTURES)]
    mean = components.mean_offset()
    area = 0.0
    for k in range(len(shown)):
        frame = shown[slice(k, k + 1)]
        true = pictures.render(network(frame), frame.world_to_camera).clamp(0, 1)
        area += head_area(true, pictures.background)
        best = components.coefficients(columns(frame), counts[-1])
        for count in counts:
            moved = torch.einsum("bk,knc->bnc", best[:, :count], components.basis(count))
            picture = pictures.render(offsets_of(mean, moved), frame.world_to_camera)
            errors[count] += float((picture.clamp(0, 1) - true).square().sum())
    return [
        {
            "count": count,
            "variance": round(kept[count] / max(total, 1e-30), 5),
            "psnr": round(_decibels(errors[count] / max(3 * area, 1.0)), 2),
        }
        for count in counts
    ]


@torch.no_grad()
def measure_bases(pictures: Pictures, bases: Bases, frames: Frames) -> float:
    """PSNR in dB of heads by bases and coefficient net against those of the network.

    frames: held out; MEASURED_PICTURES of them are rendered.
    """
    network, error, area = NetworkOffsets(pictures.model), 0.0, 0.0
    shown = frames[_spread(len(frames), MEASURED_PICTURES)]
    for k in range(len(shown)):
        frame = shown[slice(k, k + 1)]
        true = pictures.render(network(frame), frame.world_to_camera).clamp(0, 1)
        found = bases.coefficients(frame.code, frame.expression, frame.camera)
        picture = pictures.render(bases.offsets(found), frame.world_to_camera).clamp(0, 1)
        error += float((picture - true).square().sum())
        area += head_area(true, pictures.background)
    return _decibels(error / max(3 * area, 1.0))


def head_area(pictures: Tensor, background: Tensor) -> float:
    """Pixels of all pictures [B, 3, S, S] in which the background [3, S, S] is covered."""
    return float(((pictures - background).abs().amax(1) > 1 / 255).sum())


def _decibels(error: float) -> float:
    return float(-10 * torch.log10(torch.tensor(max(error, 1e-10))))


def _enough(table: list[dict[str, Any]]) -> int:
    """The fewest bases whose pictures are good enough; the most of the table where none are."""
    good = [row["count"] for row in table if row["psnr"] >= ENOUGH_PSNR]
    return good[0] if good else table[-1]["count"]


def _with_net(
    columns: Callable[[Frames], Tensor],
    components: Components,
    count: int,
    frames: DrivenFrames,
    generator: torch.Generator,
) -> Bases:
    """The first `count` bases, with a coefficient net fitted on drawn frames."""
    drawn = frames.draw(NET_FRAMES, generator)
    targets = []
    with Progress("coefficients", NET_FRAMES, "frames") as progress:
        for part in _batches(drawn):
            targets.append(components.coefficients(columns(part), count))
            progress.advance(len(part))
    inputs = drawn.inputs
    mean, scale = inputs.mean(0), inputs.std(0)
    scale = torch.where(scale > LEAST_SCALE, scale, torch.ones_like(scale))
    bases = Bases(
        components.mean_offset(),
        components.basis(count),
        mean,
        scale,
        _new_layers(inputs.shape[1], count, generator),
    ).to(inputs.device)
    fit_net(bases, drawn, torch.cat(targets), components.deviations[:count], generator)
    return bases


def _new_layers(
    inputs: int, outputs: int, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Untrained layers of a coefficient net."""
    sides = [inputs, *[HIDDEN] * (NET_LAYERS - 1), outputs]
    layers = []
    for side, following in zip(sides, sides[1:], strict=False):
        weight = torch.empty(following, side)
        nn.init.xavier_uniform_(weight, generator=generator)
        layers.append((weight, torch.zeros(following)))
    return layers


def fit_net(
    bases: Bases,
    frames: Frames,
    targets: Tensor,
    deviations: Tensor,
    generator: torch.Generator,
    steps: int = NET_STEPS,
) -> None:
    """Fit the coefficient net to give the coefficients [F, K] for `frames`, in place.

    deviations [K]: of the coefficients in weighted offsets; the error is that of the offsets.
    """
    share = deviations.square() / deviations.square().sum()
    parameters = list(bases.net.parameters())
    optimizer = torch.optim.Adam(parameters, NET_RATES[0])
    decay = (NET_RATES[1] / NET_RATES[0]) ** (1 / steps)
    with Progress("coefficient net", steps, "steps") as progress, torch.enable_grad():
        for _ in range(steps):
            index = torch.randint(len(frames), (NET_BATCH,), generator=generator)
            index = index.to(targets.device)
            part = frames[index]
            found = bases.coefficients(part.code, part.expression, part.camera)
            loss = ((found - targets[index]).square() * share).sum(1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= decay
            progress.advance()


def _batches(frames: Frames) -> Iterator[Frames]:
    for start in range(0, len(frames), BATCH):
        yield frames[slice(start, start + BATCH)]


def _spread(total: int, count: int) -> Tensor:
    """At most `count` numbers below `total`, evenly spaced."""
    return torch.linspace(0, total - 1, min(total, count)).round().long()
