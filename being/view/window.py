"""The open3d window of a view; the one door to open3d (the extra `view`).

`display.KEYS` says what its keys do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from being.errors import EnvironmentFault
from being.view.content import CameraPath, Cloud, Content, Mesh
from being.view.display import FILES_INSTEAD, check_window
from being.view.drawing import BACKDROP, MESH_COLOUR, PATH_END, PATH_START
from being.view.shapes import OPACITY_LEAST, ellipsoids

WIDTH, HEIGHT = 1280, 960  # px
POINT_PX = 4.0
OBLIQUE = (0.7, 0.35, 0.62)  # from where the camera path is looked at
FRUSTA, FRUSTUM_DEPTH = 12, 1.2  # pyramids, and their depth in radii of the head


def show(content: Content, as_ellipsoids: bool = False) -> None:
    """Show the content in a window until it is closed.

    Raises EnvironmentFault as `check_window`, and where open3d cannot open the window.
    """
    check_window()
    window = Window(content, as_ellipsoids)
    window.run()


class Window:
    """An open3d window with layers that keys switch."""

    def __init__(self, content: Content, as_ellipsoids: bool = False, visible: bool = True):
        """Open it. Raises EnvironmentFault where open3d cannot be loaded or has no graphics."""
        self._o3d = load_open3d()
        self._content = content
        self._as_ellipsoids = as_ellipsoids
        self._cloud = 0
        self._with_mesh, self._with_path = not content.clouds, False
        self._shown: list[Any] = []
        self._made: dict[tuple[str, int], Any] = {}
        self._visualizer = self._o3d.visualization.VisualizerWithKeyCallback()
        title = f"being view: {content.name}"
        opened = self._visualizer.create_window(title, WIDTH, HEIGHT, visible=visible)
        options = self._visualizer.get_render_option() if opened else None
        if options is None:
            self._visualizer.destroy_window()
            raise EnvironmentFault(
                "open3d cannot open a window", "the display has no OpenGL", FILES_INSTEAD
            )
        options.background_color = np.array(BACKDROP) / 255
        options.point_size = POINT_PX
        options.mesh_shade_option = self._o3d.visualization.MeshShadeOption.Color
        options.mesh_show_back_face = True
        for key, action in self._actions().items():
            self._visualizer.register_key_callback(ord(key), action)
        self._refresh()
        self.front()

    def run(self) -> None:
        """Wait until the window is closed."""
        try:
            self._visualizer.run()
        finally:
            self._visualizer.destroy_window()

    def picture(self) -> np.ndarray:
        """What the window shows, uint8 [H, W, 3]."""
        values = np.asarray(self._visualizer.capture_screen_float_buffer(do_render=True))
        return (values * 255).round().astype(np.uint8)

    def press(self, key: str) -> None:
        """Do what the key does."""
        self._actions()[key](self._visualizer)

    def close(self) -> None:
        """Close the window."""
        self._visualizer.destroy_window()

    def front(self) -> None:
        """Look at the head from the side of the clip's cameras."""
        content = self._content
        offset = content.cameras.centres[content.cameras.middle] - content.centre
        control = self._visualizer.get_view_control()
        control.set_lookat(content.centre.astype(np.float64))
        control.set_front(offset / np.linalg.norm(offset))
        control.set_up([0.0, 1.0, 0.0])
        control.set_zoom(0.7)

    def _actions(self) -> dict[str, Callable[[Any], bool]]:
        def next_head(_: Any) -> bool:
            self._cloud = (self._cloud + 1) % (len(self._content.clouds) + 1)
            return self._refresh()

        def other_shape(_: Any) -> bool:
            self._as_ellipsoids = not self._as_ellipsoids
            return self._refresh()

        def mesh(_: Any) -> bool:
            self._with_mesh = not self._with_mesh
            return self._refresh()

        def path(_: Any) -> bool:
            self._with_path = not self._with_path
            self._refresh()
            if self._with_path:
                self._visualizer.reset_view_point(True)
                self._visualizer.get_view_control().set_front(OBLIQUE)
            else:
                self.front()
            return True

        def front(_: Any) -> bool:
            self.front()
            return True

        return {"G": next_head, "E": other_shape, "M": mesh, "C": path, "V": front}

    def _refresh(self) -> bool:
        """Show the layers that are switched on; the view stays where it is."""
        content, first = self._content, not self._shown
        wanted = []
        if self._cloud < len(content.clouds):
            shape = "ellipsoids" if self._as_ellipsoids else "points"
            wanted.append((shape, self._cloud))
        if self._with_mesh and content.mesh is not None:
            wanted.append(("mesh", 0))
        if self._with_path:
            wanted.append(("path", 0))
        for geometry in self._shown:
            self._visualizer.remove_geometry(geometry, reset_bounding_box=False)
        self._shown = [self._geometry(*layer) for layer in wanted]
        for geometry in self._shown:
            self._visualizer.add_geometry(geometry, reset_bounding_box=first)
        return True

    def _geometry(self, layer: str, number: int) -> Any:
        """The geometry of a layer, made once."""
        if (layer, number) not in self._made:
            content = self._content
            if layer == "points":
                made = point_cloud(self._o3d, content.clouds[number])
            elif layer == "ellipsoids":
                made = ellipsoid_mesh(self._o3d, content.clouds[number])
            elif layer == "mesh":
                assert content.mesh is not None, content.kind
                made = mesh_lines(self._o3d, content.mesh)
            else:
                made = path_lines(self._o3d, content.cameras, FRUSTUM_DEPTH * content.radius)
            self._made[layer, number] = made
        return self._made[layer, number]


def load_open3d() -> Any:
    """The module open3d. Raises EnvironmentFault where it or one of its libraries is missing."""
    try:
        import open3d
    except ImportError as error:
        raise EnvironmentFault(
            "open3d cannot be loaded",
            str(error),
            "apt-get install libusb-1.0-0 libgl1 libegl1 libx11-6 libudev1, "
            f"and pip install 'being[view]'. {FILES_INSTEAD}",
        ) from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def point_cloud(o3d: Any, cloud: Cloud) -> Any:
    """The centres of the Gaussians that are not almost transparent, as a point cloud."""
    shown = cloud.opacities >= OPACITY_LEAST
    points = o3d.geometry.PointCloud()
    points.points = o3d.utility.Vector3dVector(cloud.means[shown].astype(np.float64))
    points.colors = o3d.utility.Vector3dVector(cloud.colours[shown].astype(np.float64))
    return points


def ellipsoid_mesh(o3d: Any, cloud: Cloud) -> Any:
    """The Gaussians as a triangle mesh of ellipsoids."""
    vertices, triangles, colours = ellipsoids(cloud)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(triangles)
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colours)
    mesh.compute_vertex_normals()
    return mesh


def mesh_lines(o3d: Any, mesh: Mesh) -> Any:
    """The edges of the face mesh as a line set."""
    edges = mesh.edges
    return _line_set(
        o3d, mesh.vertices, edges, np.tile(np.array(MESH_COLOUR) / 255, (len(edges), 1))
    )


def path_lines(o3d: Any, cameras: CameraPath, depth: float) -> Any:
    """The camera path, blue to red, with some cameras as pyramids `depth` head units deep."""
    centres = cameras.centres
    steps = np.array([[k - 1, k] for k in range(1, len(centres)) if k not in cameras.breaks])
    share = steps.reshape(-1, 2)[:, 1:] / max(len(centres), 1)
    colours = [(1 - share) * np.array(PATH_START) / 255 + share * np.array(PATH_END) / 255]
    points, lines = [centres], [steps.reshape(-1, 2)]
    sides = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
    for pose in np.unique(np.linspace(0, len(centres) - 1, FRUSTA).round().astype(int)):
        lines.append(sides + sum(map(len, points)))
        points.append(cameras.frustum(int(pose), depth))
        colours.append(np.full((len(sides), 3), 0.4))
    return _line_set(o3d, np.concatenate(points), np.concatenate(lines), np.concatenate(colours))


def _line_set(o3d: Any, points: np.ndarray, lines: np.ndarray, colours: np.ndarray) -> Any:
    made = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(points.astype(np.float64)),
        o3d.utility.Vector2iVector(lines.astype(np.int32)),
    )
    made.colors = o3d.utility.Vector3dVector(colours.astype(np.float64))
    return made
