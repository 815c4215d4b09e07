"""A window of Open3D that plays a scene; loaded by open3d_worker.py alone, in its process, as a file."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

_BAR_EM = 2.6


class SceneWindow:
    """The scene above, a bar with play, steps, a slider and the layers below.

    Args:
        o3d: the module.
        job: ``frames``, each with ``title``, ``layers``, ``labels``, ``up_xy``, ``range_m``; ``background``.
        player: a :class:`bev.viz.player.Player` of as many frames.
        geometry, material: make Open3D's shapes and materials of a layer, as in open3d_worker.py.
        background: the background's colour as Open3D takes it.
    """

    def __init__(self, o3d: Any, job: dict[str, Any], player: Any, geometry: Any, material: Any, background: Any):
        self.o3d, self.frames, self.player, self.geometry = o3d, job["frames"], player, geometry
        gui, rendering = o3d.visualization.gui, o3d.visualization.rendering
        self.gui = gui
        self.hidden: set[str] = set()
        self.window = gui.Application.instance.create_window(self.frames[0]["title"], 1440, 1000)
        self.view = gui.SceneWidget()
        self.view.scene = rendering.Open3DScene(self.window.renderer)
        self.view.scene.set_background(background)
        self.view.scene.view.set_post_processing(False)  # tone mapping would change the colours
        self.material = material
        self.labels: list[Any] = []
        self.bar = self._bar()
        self.window.add_child(self.view)
        self.window.add_child(self.bar)
        self.window.set_on_layout(self._layout)
        self.window.set_on_key(self._on_key)
        self.window.set_on_tick_event(self._on_tick)
        self._look()
        self._show()

    def _bar(self) -> Any:
        em, gui = self.window.theme.font_size, self.gui
        bar = gui.Horiz(0.5 * em, gui.Margins(em, 0.3 * em, em, 0.3 * em))
        self.play = self._button("play", lambda: self.player.toggle(time.monotonic()))
        for button in (self._button("<", lambda: self.player.step(-1)), self.play):
            bar.add_child(button)
        bar.add_child(self._button(">", lambda: self.player.step(1)))
        self.slider = gui.Slider(gui.Slider.INT)
        self.slider.set_limits(0, max(len(self.frames) - 1, 1))
        self.slider.set_on_value_changed(self._on_slider)
        bar.add_child(self.slider)
        for name in dict.fromkeys(name for frame in self.frames for name, _ in frame["layers"]):
            box = gui.Checkbox(name)
            box.checked = True
            box.set_on_checked(lambda on, name=name: self._on_layer(name, on))
            bar.add_child(box)
        return bar

    def _button(self, text: str, act: Any) -> Any:
        button = self.gui.Button(text)

        def clicked() -> None:
            act()
            self._show()

        button.set_on_clicked(clicked)
        return button

    def _layout(self, _: Any) -> None:
        area, tall = self.window.content_rect, int(_BAR_EM * self.window.theme.font_size)
        self.view.frame = self.gui.Rect(area.x, area.y, area.width, area.height - tall)
        self.bar.frame = self.gui.Rect(area.x, area.get_bottom() - tall, area.width, tall)

    def _on_key(self, event: Any) -> bool:
        """Takes the keys of the player; all others go on to the view."""
        if event.type != self.gui.KeyEvent.Type.DOWN:
            return False
        known = self.gui.KeyName
        names = {known.SPACE: "space", known.RIGHT: "right", known.LEFT: "left", known.HOME: "home"}
        names |= {known.END: "end", known.UP: "up", known.DOWN: "down"}
        taken = bool(self.player.key(names.get(event.key, ""), time.monotonic()))
        if taken:
            self._show()
        return taken

    def _on_tick(self) -> bool:
        came = bool(self.player.tick(time.monotonic()))
        if came:
            self._show()
        return came

    def _on_slider(self, value: float) -> None:
        self.player.seek(value)
        self._show()

    def _on_layer(self, name: str, on: bool) -> None:
        (self.hidden.discard if on else self.hidden.add)(name)
        self.view.scene.show_geometry(name, on)

    def _look(self) -> None:
        """From behind and above; dragging and the wheel move on from there."""
        first = self.frames[0]
        reach = first["range_m"]
        bounds = self.o3d.geometry.AxisAlignedBoundingBox([-reach] * 3, [reach] * 3)
        self.view.setup_camera(60.0, bounds, [0, 0, 0])
        back = -0.55 * reach * np.array([*first["up_xy"], 0])
        self.view.look_at(-0.35 * back, back + [0, 0, 0.4 * reach], [0, 0, 1])

    def _show(self) -> None:
        frame = self.frames[self.player.at]
        scene = self.view.scene
        scene.clear_geometry()
        for name, shape in frame["layers"]:
            if len(shape["xyz_m"]):
                scene.add_geometry(name, self.geometry(self.o3d, shape), self.material)
                scene.show_geometry(name, name not in self.hidden)
        for label in self.labels:
            self.view.remove_3d_label(label)
        self.labels = [self.view.add_3d_label(np.asarray(place, np.float32), text) for text, place in frame["labels"]]
        for label in self.labels:  # black by default, which nobody reads on this ground
            label.color = self.gui.Color(0.59, 0.63, 0.69)
        self.window.title = f"{frame['title']}   {self.player.at + 1} / {self.player.count}"
        self.slider.int_value = self.player.at
        self.play.text = "pause" if self.player.playing else "play"
        self.window.post_redraw()
