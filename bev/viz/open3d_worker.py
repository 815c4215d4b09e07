"""Draws scenes with Open3D in a process of its own; started by :mod:`bev.viz.renderer` as a file, not as a module.

Filament, Open3D's renderer, ends the whole process where a driver is missing, and writes to standard output. Here this
harms nobody. Messages are pickles over standard input and output, both ends of which belong to the same program.
This file imports nothing of the library, so that the process starts in the time of Open3D's own import.

On Linux every picture is drawn by a fork that has its own Filament. On Mesa's software driver (22.3, Open3D 0.20) the
first picture of a process takes 0.3 s; any later one with new geometry takes 5 to 30 s of both cores, even by a new
OffscreenRenderer. Open3D is imported once, before the forks, and starts no threads until it draws.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np


def _geometry(o3d: Any, shape: dict[str, Any]) -> Any:
    xyz = np.ascontiguousarray(shape["xyz_m"], np.float64)
    color = np.ascontiguousarray(shape["color"], np.float64) / 255
    if shape["triangles"] is None:
        geometry = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz))
        geometry.colors = o3d.utility.Vector3dVector(color)
        return geometry
    geometry = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(xyz), o3d.utility.Vector3iVector(np.ascontiguousarray(shape["triangles"], np.int32))
    )
    geometry.vertex_colors = o3d.utility.Vector3dVector(color)
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


def render(o3d: Any, job: dict[str, Any]) -> np.ndarray:
    """(side, side, 3) uint8 picture of a mesh from above; vertices lie below ``height_m``."""
    rendering, side, r = o3d.visualization.rendering, job["side_px"], job["range_m"]
    renderer = rendering.OffscreenRenderer(side, side)
    scene = renderer.scene
    scene.set_background(_linear(job["background"]))
    scene.view.set_post_processing(False)  # tone mapping would change the colours
    if len(job["mesh"]["triangles"]):
        scene.add_geometry("scene", _geometry(o3d, job["mesh"]), _material(rendering, 1.0))
    far_m = 2 * job["height_m"]
    scene.camera.set_projection(rendering.Camera.Projection.Ortho, -r, r, -r, r, 0.1, far_m)
    scene.camera.look_at([0, 0, 0], [0, 0, job["height_m"]], [*job["up_xy"], 0])
    return np.asarray(renderer.render_to_image()).copy()


def in_fork(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer of ``work``, done by a fork of this process that ends at once afterwards."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        with os.fdopen(sink, "wb") as pipe:
            pickle.dump(work(), pipe, protocol=5)
        os._exit(0)  # tearing Filament down may crash
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0 or not data:
        return {"error": f"its process ended with status {status}"}
    answer: dict[str, Any] = pickle.loads(data)
    return answer


def show(o3d: Any, job: dict[str, Any]) -> None:
    """A window on a list of scenes; blocks until it is closed. Left and right arrow keys (N, P) step through them."""
    from open3d.visualization import gui

    app = gui.Application.instance
    app.initialize()
    window = o3d.visualization.O3DVisualizer(job["frames"][0]["title"], 1440, 1000)
    window.show_settings = True
    window.show_skybox(False)
    window.set_background(np.array([*(np.asarray(job["background"]) / 255), 1.0], np.float32), None)
    state = {"at": 0}

    def put(step: int) -> None:
        previous = job["frames"][state["at"]]
        state["at"] = (state["at"] + step) % len(job["frames"])
        _put_frame(o3d, window, previous if step else None, job["frames"][state["at"]])

    put(0)
    first = job["frames"][0]
    back = -0.55 * first["range_m"] * np.array([*first["up_xy"], 0])
    eye = np.asarray(back + [0, 0, 0.4 * first["range_m"]], np.float32)
    window.setup_camera(60.0, np.asarray(-0.35 * back, np.float32), eye, np.array([0, 0, 1], np.float32))
    if len(job["frames"]) > 1:
        window.add_action("Next frame", lambda _: put(1))
        window.add_action("Previous frame", lambda _: put(-1))
    app.add_window(window)
    app.run()


def _put_frame(o3d: Any, window: Any, previous: dict[str, Any] | None, frame: dict[str, Any]) -> None:
    if previous is not None:
        for name, shape in previous["layers"]:
            if len(shape["xyz_m"]):
                window.remove_geometry(name)
        window.clear_3d_labels()
    material = _material(o3d.visualization.rendering, 2.0)
    for name, shape in frame["layers"]:
        if len(shape["xyz_m"]):
            window.add_geometry(name, _geometry(o3d, shape), material)
    for text, place in frame["labels"]:
        window.add_3d_label(place, text)
    window.title = frame["title"]


def _answer(o3d: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        if job["task"] == "render":
            return {"picture": render(o3d, job)}
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
    while True:
        try:
            job = pickle.load(source)
        except EOFError:
            return
        # Elsewhere forks are missing (Windows) or not safe (macOS).
        forks = job["task"] == "render" and sys.platform == "linux"
        send(in_fork(lambda: _answer(o3d, job)) if forks else _answer(o3d, job))


def main() -> None:
    """Serve until standard input is closed, then end at once: tearing Filament down may crash."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, sink)
    sink.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
