"""What a view shows: Gaussians, face mesh, camera path and pictures of one avatar or dataset.

N Gaussians, V mesh vertices, T triangles, P poses. Everything is in head space
(`being/conventions.py`): one unit is about 10 cm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from being.media.writing import FileMarks
from being.splat import Gaussians
from being.splat.torch_rasterizer import evaluate_sh, rotation_matrices

# The most that is shown of each part, so that the page stays small (docs/view.md).
GAUSSIANS_MAX = 100_000
TRIANGLES_MAX = 60_000
POSES_MAX = 2_000


@dataclass(frozen=True)
class Cloud:
    """Gaussians under a name; arrays are float32."""

    name: str
    gaussians: Gaussians  # [1, N, ...] on the CPU
    colours: np.ndarray  # [N, 3] in [0, 1], as the middle camera of the clip sees them
    left_out: int = 0  # Gaussians beyond GAUSSIANS_MAX

    @classmethod
    def of(cls, name: str, gaussians: Gaussians, eye: np.ndarray) -> Cloud:
        """The cloud of Gaussians [1, N, ...] with the colours that are seen from `eye` [3].

        Of more than GAUSSIANS_MAX those with the largest opacity times area are kept.
        """
        parts = [value.detach().float().cpu() for value in gaussians.fields()]
        weight = parts[3][0] * parts[2][0].sort(dim=-1).values[:, 1:].prod(-1)
        left_out = max(len(weight) - GAUSSIANS_MAX, 0)
        if left_out:
            kept = weight.topk(GAUSSIANS_MAX).indices.sort().values
            parts = [value[:, kept] for value in parts]
        means, _, _, _, sh = parts

        direction = torch.nn.functional.normalize(means[0] - torch.from_numpy(eye).float(), dim=-1)
        degree = round(sh.shape[2] ** 0.5) - 1
        colours = (evaluate_sh(sh[0], direction, degree) + 0.5).clamp(0, 1).numpy()
        return cls(name, Gaussians(*parts), colours, left_out)

    def __len__(self) -> int:
        return len(self.colours)

    @property
    def means(self) -> np.ndarray:
        """Centres [N, 3]."""
        return self.gaussians.means[0].numpy()

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations [N, 3] along the Gaussian's own axes."""
        return self.gaussians.scales[0].numpy()

    @property
    def opacities(self) -> np.ndarray:
        """Opacities [N] in [0, 1]."""
        return self.gaussians.opacities[0].numpy()

    @property
    def quaternions(self) -> np.ndarray:
        """Rotations [N, 4], w first, length 1."""
        return torch.nn.functional.normalize(self.gaussians.quaternions[0], dim=-1).numpy()

    @property
    def rotations(self) -> np.ndarray:
        """The same as matrices [N, 3, 3]."""
        return rotation_matrices(self.gaussians.quaternions[0]).numpy()


@dataclass(frozen=True)
class Mesh:
    """A face mesh under a name."""

    name: str
    vertices: np.ndarray  # float32 [V, 3]
    triangles: np.ndarray  # int64 [T, 3]

    @classmethod
    def of(cls, name: str, vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
        """The mesh; of more than TRIANGLES_MAX triangles, every few are kept."""
        step = -(-len(triangles) // TRIANGLES_MAX)
        return cls(name, vertices.astype(np.float32), triangles[::step])

    @property
    def edges(self) -> np.ndarray:
        """Pairs of vertices int64 [E, 2], each once."""
        sides = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        return np.unique(np.sort(sides, axis=1), axis=0)


@dataclass(frozen=True)
class CameraPath:
    """The cameras of a clip, relative to the head."""

    world_to_camera: np.ndarray  # float32 [P, 4, 4]
    focal: float  # px
    width: int  # px
    height: int  # px
    # Poses at which the clip has a cut, ascending: no line is drawn across one.
    breaks: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        matrices: np.ndarray,
        focal: float,
        size: tuple[int, int],
        breaks: tuple[int, ...] = (),
    ) -> CameraPath:
        """The path of matrices [P, 4, 4]; of more than POSES_MAX poses, every few are kept."""
        step = -(-len(matrices) // POSES_MAX)
        kept = tuple(sorted({-(-at // step) for at in breaks}))
        return cls(matrices[::step].astype(np.float32), focal, *size, kept)

    @property
    def centres(self) -> np.ndarray:
        """Centres of projection float32 [P, 3]."""
        rotation, shift = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return -np.einsum("pji,pj->pi", rotation, shift)

    @property
    def middle(self) -> int:
        """The pose that is nearest to the mean of all centres."""
        centres = self.centres
        return int(((centres - centres.mean(0)) ** 2).sum(-1).argmin())

    @property
    def lines(self) -> list[np.ndarray]:
        """The path as centres [k, 3] of each part between cuts."""
        return [part for part in np.split(self.centres, self.breaks) if len(part)]

    def frustum(self, pose: int, depth: float) -> np.ndarray:
        """Centre and the four corners of the picture float32 [5, 3] at `depth` head units."""
        x, y = 0.5 * self.width / self.focal, 0.5 * self.height / self.focal
        corners = [[0, 0, 0], [-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1]]
        rotation, shift = self.world_to_camera[pose, :3, :3], self.world_to_camera[pose, :3, 3]
        return ((np.array(corners) * depth - shift) @ rotation).astype(np.float32)


@dataclass(frozen=True)
class Picture:
    """A picture with its label."""

    label: str
    pixels: np.ndarray  # uint8 [H, W, 3] RGB


@dataclass(frozen=True)
class Content:
    """Everything that a view of one avatar or dataset shows."""

    kind: str  # "avatar" or "dataset"
    name: str
    source: Path
    consent_note: str
    facts: list[str]
    cameras: CameraPath
    clouds: list[Cloud] = field(default_factory=list)
    mesh: Mesh | None = None
    planes: list[list[Picture]] = field(default_factory=list)  # a row for each resolution
    frames: list[Picture] = field(default_factory=list)
    # The marks of files of a generated person; None: nothing that is shown is generated.
    marks: FileMarks | None = None

    @property
    def generated(self) -> bool:
        """Whether a trained model made what is shown."""
        return self.marks is not None

    @property
    def points(self) -> np.ndarray:
        """Points [n, 3] that the view is fitted to: Gaussians that can be seen, or the mesh."""
        if self.clouds:
            cloud = self.clouds[0]
            seen = cloud.means[cloud.opacities > 0.1]
            return seen if len(seen) else cloud.means
        assert self.mesh is not None, self.kind
        return self.mesh.vertices

    @property
    def centre(self) -> np.ndarray:
        """Middle [3] of the head, head units."""
        low, high = np.quantile(self.points, (0.01, 0.99), axis=0)
        return ((low + high) / 2).astype(np.float32)

    @property
    def radius(self) -> float:
        """Radius of the sphere round the head's middle that holds almost all points, head units."""
        distance = np.linalg.norm(self.points - self.centre, axis=-1)
        return max(float(np.quantile(distance, 0.98)), 1e-3)
