"""Draws scenes with Open3D in a process of its own; started by :mod:`bev.viz.renderer` as a file of its own.

Filament, Open3D's renderer, ends the whole process where a driver is missing, and writes to standard output. Here this
harms nobody. Messages are pickles over standard input and output, both ends of which belong to the same program.
This file imports nothing of the library, so that the process starts in the time of Open3D's own import.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Seen from above, each layer is lifted over the one before: with parallel rays this changes nothing but the order.
_LAYER_STEP_M = 200.0


def _geometry(o3d: Any, shape: dict[str, Any], lift_m: float = 0.0) -> Any:
    """Points or a mesh, always with texture coordinates, all zero.

    Without them Open3D (0.20) hands uninitialised ones to its unlit shader, which samples a white texture by them: not
    to be seen, but a software driver then filters over any number of texels, up to a minute a picture. Point clouds
    get zeros in Open3D's tensor class only.
    """
    xyz = np.ascontiguousarray(shape["xyz_m"], np.float64) + [0.0, 0.0, lift_m]
    color = np.ascontiguousarray(shape["color"], np.float64) / 255
    if shape["triangles"] is None:
        cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(xyz.astype(np.float32)))
        cloud.point.colors = o3d.core.Tensor(color.astype(np.float32))
        return cloud
    geometry = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(xyz), o3d.utility.Vector3iVector(np.ascontiguousarray(shape["triangles"], np.int32))
    )
    geometry.vertex_colors = o3d.utility.Vector3dVector(color)
    geometry.triangle_uvs = o3d.utility.Vector2dVector(np.zeros((3 * len(shape["triangles"]), 2)))
    return geometry


def _material(rendering: Any, point_size_px: float) -> Any:
    material = rendering.MaterialRecord()
    material.shader = "defaultUnlit"
    material.point_size = point_size_px
    return material


def _linear(color: tuple[int, int, int]) -> np.ndarray:
    """The background, unlike vertex colours, is taken as linear light: so sRGB's curve (IEC 61966-2-1) is undone."""
    value = np.asarray(color) / 255
    curve = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.array([*curve, 1.0], np.float32)


class OffScreen:
    """One square off-screen renderer, made anew where the size changes."""

    def __init__(self, o3d: Any) -> None:
        self.o3d, self.side_px = o3d, 0
        self.renderer: Any = None

    def render(self, job: dict[str, Any]) -> np.ndarray:
        """(side, side, 3) uint8 picture of a scene from above, or as its camera sees it."""
        rendering = self.o3d.visualization.rendering
        if self.renderer is None or self.side_px != job["side_px"]:
            self.renderer = None  # two of them at a time are not allowed
            self.renderer, self.side_px = rendering.OffscreenRenderer(job["side_px"], job["side_px"]), job["side_px"]
        scene = self.renderer.scene
        scene.clear_geometry()
        scene.set_background(_linear(job["background"]))
        scene.view.set_post_processing(False)  # tone mapping would change the colours
        material = _material(rendering, job["point_size_px"])
        for i, (name, shape) in enumerate(job["layers"]):
            if len(shape["xyz_m"]):
                lift_m = 0.0 if job["camera"] else i * _LAYER_STEP_M
                scene.add_geometry(name, _geometry(self.o3d, shape, lift_m), material)
        if job["camera"]:
            self._look_freely(scene.camera, rendering, job["camera"], job["range_m"])
        else:
            self._look_down(scene.camera, rendering, job["range_m"], job["up_xy"], len(job["layers"]))
        return np.asarray(self.renderer.render_to_image()).copy()

    def _look_down(self, camera: Any, rendering: Any, range_m: float, up_xy: tuple[float, float], layers: int) -> None:
        height_m = (layers + 1) * _LAYER_STEP_M
        r = range_m
        camera.set_projection(rendering.Camera.Projection.Ortho, -r, r, -r, r, 0.1, height_m + 2 * _LAYER_STEP_M)
        camera.look_at([0, 0, 0], [0, 0, height_m], [*up_xy, 0])

    def _look_freely(self, camera: Any, rendering: Any, view: dict[str, Any], range_m: float) -> None:
        vertical = rendering.Camera.FovType.Vertical
        camera.set_projection(float(np.degrees(view["fov_rad"])), 1.0, 0.5, 6 * range_m, vertical)
        camera.look_at(view["target_m"], view["eye_m"], [0, 0, 1])


def _sibling(name: str) -> Any:
    """A file beside this one as a module, without the package around it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def show(o3d: Any, job: dict[str, Any]) -> None:
    """A window that plays a list of scenes; blocks until it is closed."""
    app = o3d.visualization.gui.Application.instance
    app.initialize()
    player = _sibling("player").Player(len(job["frames"]))
    material = _material(o3d.visualization.rendering, 2.0)
    # Kept by its name: Open3D's own reference to it is not enough for Python's callbacks.
    window = _sibling("open3d_window").SceneWindow(
        o3d, job, player, _geometry, material, _linear(job["background"])
    )
    app.run()
    del window


def _answer(off_screen: OffScreen, o3d: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        if job["task"] == "render":
            return {"picture": off_screen.render(job)}
        show(o3d, job)
        return {}
    except Exception as error:  # any failure of the renderer is told to the other side, which raises it
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    def send(message: dict[str, Any]) -> None:
        pickle.dump(message, sink, protocol=5)
        sink.flush()

    try:
        import open3d as o3d
    except Exception as error:
        send({"error": f"open3d cannot be imported: {error}"})
        return
    send({"version": o3d.__version__})
    off_screen = OffScreen(o3d)
    while True:
        try:
            job = pickle.load(source)
        except EOFError:
            return
        send(_answer(off_screen, o3d, job))


def main() -> None:
    """Serve until standard input is closed, then end at once: tearing Filament down may crash."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, sink)
    sink.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
