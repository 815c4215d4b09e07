"""Open3D in a process of its own: a renderer that cannot take the program down with it."""

from __future__ import annotations

import atexit
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from bev.viz.palette import GROUND
from bev.viz.scene import Mesh, Points, Scene
from bev.viz.text import Picture

SYSTEM_PACKAGES = "libegl1 libgl1 libidn2-0 libudev1 libusb-1.0-0 libvulkan1 libx11-6 mesa-vulkan-drivers"
_WORKER = Path(__file__).with_name("open3d_worker.py")
# Rendered at this multiple of the picture's size and averaged.
_SUPERSAMPLING = 2
# Generous: a software renderer on a busy machine takes minutes for its first picture.
_TIMEOUT_S = 900.0


class RenderError(RuntimeError):
    """Open3D cannot draw on this machine; the message says why and what to install."""


class BEVRenderer:
    """Pictures of scenes from above, off screen; one process for any number of pictures.

    The process starts with the first picture (about two seconds) and is started again should it ever die.

    Raises:
        ImportError: open3d is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("open3d") is None:
            raise ImportError("open3d is not installed; install it with: pip install 'bevstack[viz]'")
        self._worker: _Worker | None = None

    def start(self) -> None:
        """Start the process, unless it runs, without waiting for it."""
        if self._worker is None:
            self._worker = _Worker()

    def render(self, scene: Scene, side_px: int) -> Picture:
        """(side_px, side_px, 3) uint8 RGB: x and y within ``scene.range_m`` of the origin, ``scene.up_xy`` up; or what
        ``scene.camera`` sees.

        Raises:
            RenderError: Open3D cannot draw.
        """
        job = {
            "task": "render",
            "side_px": side_px * _SUPERSAMPLING,
            "point_size_px": max(side_px * _SUPERSAMPLING / 700, 1.0),
            "background": tuple(GROUND),
            **_packed(scene),
        }
        picture = self._ask(job, _TIMEOUT_S)["picture"]
        return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA))

    def show(self, scenes: Sequence[Scene], titles: Sequence[str]) -> None:
        """A window on the scenes, one at a time; returns when it is closed.

        Raises:
            RenderError: there is no display, or Open3D cannot draw.
        """
        check_display()
        frames = [
            {"title": title, "labels": [(label.text, label.xyz_m) for label in scene.labels], **_packed(scene)}
            for scene, title in zip(scenes, titles)
        ]
        self._ask({"task": "show", "frames": frames, "background": tuple(GROUND)}, None)

    def close(self) -> None:
        """End the process; a later picture starts it again."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> BEVRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, job: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        self.start()
        assert self._worker is not None
        try:
            return self._worker.ask(job, timeout_s)
        except RenderError:
            self.close()
            raise


def check_display() -> None:
    """Raise RenderError where no window can open: asked before the frames of one are prepared."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise RenderError("a window needs a display (DISPLAY is not set); pictures can be written without one")


def _packed(scene: Scene) -> dict[str, Any]:
    """A scene in plain types: the worker knows none of ours."""
    layers = [(layer.name, _packed_shape(layer.shape)) for layer in scene.layers]
    camera = None if scene.camera is None else asdict(scene.camera)
    return {"layers": layers, "up_xy": scene.up_xy, "range_m": scene.range_m, "camera": camera}


def _packed_shape(shape: Points | Mesh) -> dict[str, Any]:
    triangles = shape.triangles if isinstance(shape, Mesh) else None
    return {"xyz_m": shape.xyz_m, "color": shape.color, "triangles": triangles}


class _Worker:
    """The process and its two pipes; its chatter goes to a file that is quoted when it fails."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()
        # Not `python FILE`: that would put this folder first on the path, and `text`, `style` ... over other modules.
        code = f"import runpy; runpy.run_path({str(_WORKER)!r}, run_name='__main__')"
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._greeted = False

    def ask(self, job: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
        """Send a job and wait for the answer; raises RenderError where there is none."""
        assert self._process.stdin is not None
        if not self._greeted:  # not on the start: meanwhile the caller had other things to do
            self._receive(_TIMEOUT_S)
            self._greeted = True
        try:
            pickle.dump(job, self._process.stdin, protocol=5)
            self._process.stdin.flush()
        except OSError:  # it has died: what it said is more telling than the broken pipe
            raise self._error("its process has ended") from None
        return self._receive(timeout_s)

    def _receive(self, timeout_s: float | None) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = None if timeout_s is None else threading.Timer(timeout_s, self._process.kill)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            answer: dict[str, Any] = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError, OSError):
            late = "" if timeout_s is None else f" or gave no answer within {timeout_s:g} s"
            raise self._error(f"its process ended{late}") from None
        finally:
            if timer is not None:
                timer.cancel()
        if "error" in answer:
            raise self._error(answer["error"])
        return answer

    def _error(self, what: str) -> RenderError:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = f" (it said: {' | '.join(line.strip() for line in lines[-12:])})" if lines else ""
        return RenderError(
            f"Open3D cannot draw: {what}{said}\nOn Debian or Ubuntu without a GPU it needs: "
            f"apt-get install --no-install-recommends {SYSTEM_PACKAGES}"
        )

    def close(self) -> None:
        """End the process; safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # unsent bytes to a dead process
                pass
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


_shared: BEVRenderer | None = None


def shared_renderer() -> BEVRenderer:
    """The renderer of this program, made on first use, closed at its end."""
    global _shared
    if _shared is None:
        _shared = BEVRenderer()
        atexit.register(_shared.close)
    return _shared
