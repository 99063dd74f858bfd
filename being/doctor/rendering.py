"""Checks of the native libraries and of every rasterizer, held against the torch rasterizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from being.doctor.check import FAILURE, OK, WARNING, Check, of_status

if TYPE_CHECKING:
    import torch

    from being.splat import Cameras, Gaussians

SIDE = 64  # px
GAUSSIANS = 60
# Largest difference of a colour or alpha from the torch rasterizer's; gsplat draws by rules of its
# own (being/splat/gsplat.py).
TOLERANCE = 5e-3
TOLERANCES = {"gsplat": 0.1}
REFERENCE = "reference"


def check_native() -> Iterator[Check]:
    """The native libraries, with the instruction set that was chosen for this processor."""
    from being.inference import i420
    from being.inference.backends.cpu import head
    from being.splat import cpu

    for name, door in (("rasterizer", cpu), ("renderer", head), ("picture converter", i420)):
        yield of_status(f"native {name}", door.status(), WARNING)


def check_rasterizers() -> Iterator[Check]:
    """Every rasterizer that can run here renders a small picture as the torch rasterizer does."""
    import torch

    from being.splat import available_backends, select_backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with warnings.catch_warnings():  # about the slow rasterizer: the native library's line says it
        warnings.simplefilter("ignore")
        chosen = select_backend("auto", device)
    for name, status in available_backends().items():
        title = f"rasterizer {name}"
        if not status.startswith("OK"):
            yield Check(title, OK, f"cannot be used here: {status.partition(';')[0]}")
            continue
        check = _rendered_check(title, name)
        if name == chosen and check.level == OK:
            check = Check(title, OK, f"{check.what}; chosen on this machine")
        yield check


def _rendered_check(title: str, name: str) -> Check:
    import torch

    from being.splat import rasterize
    from being.splat.api import BACKENDS

    device = torch.device("cpu")
    if not BACKENDS[name].supports(torch.empty(0)):
        device = torch.device("cuda")
    fix = f"Do not use --splat {name}; report it with this output"
    gaussians, cameras = _scene(device)
    try:
        with torch.no_grad():
            expected = rasterize(gaussians, cameras, backend=REFERENCE)
            drawn = rasterize(gaussians, cameras, backend=name)
    except Exception as error:  # a backend of others raises what it likes
        lines = str(error).splitlines() or [type(error).__name__]
        return Check(title, FAILURE, f"cannot render: {lines[0]}", fix)
    found = torch.cat([drawn.rgb, drawn.alpha], 1)
    if not found.isfinite().all() or found[:, 3].max() < 0.5:
        return Check(title, FAILURE, "renders an empty picture", fix)
    difference = float((found - torch.cat([expected.rgb, expected.alpha], 1)).abs().max())
    if difference > TOLERANCES.get(name, TOLERANCE):
        text = f"renders a picture that differs by {difference:.3f} from the torch rasterizer's"
        return Check(title, FAILURE, text, fix)
    return Check(title, OK, f"renders rightly (difference {difference:.0e})")


def _scene(device: torch.device) -> tuple[Gaussians, Cameras]:
    """Gaussians in a ball and a camera that looks at it, always the same."""
    import torch

    from being.splat import Cameras, Gaussians

    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, GAUSSIANS, *shape, generator=random)

    gaussians = Gaussians(
        means=(0.6 * normal(3)).to(device),
        quaternions=normal(4).to(device),
        scales=(0.15 * torch.exp(0.5 * normal(3))).to(device),
        opacities=torch.sigmoid(2 * normal()).to(device),
        sh=(0.4 * normal(4, 3)).to(device),
    )
    matrix = torch.eye(4, device=device)[None].clone()
    matrix[:, 2, 3] = 4
    return gaussians, Cameras(matrix, 1.6 * SIDE, SIDE, SIDE)
