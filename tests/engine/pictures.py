"""Small pictures of coloured squares, as a VOC folder, and a configuration that trains on them in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from bev.engine import load_config
from tests.paths import REPO_ROOT

CONFIG = REPO_ROOT / "tests/engine/squares_config.py"


def write_squares(root: Path, count: int = 8, broken: bool = False) -> Path:
    """A VOC folder with the split ``all``; with ``broken`` one picture is cut short."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    names = [f"p{number}" for number in range(count)]
    (root / "ImageSets/Main/all.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        picture, objects = np.full((64, 64, 3), 128, np.uint8), ""
        for index in range(2):
            side = int(rng.integers(14, 24))
            left, top = int(rng.integers(0, 8)) + 32 * index, int(rng.integers(0, 40))
            color, label = ((0, 0, 255), "red") if rng.random() < 0.5 else ((255, 0, 0), "blue")  # cv2 writes BGR
            picture[top : top + side, left : left + side] = color
            corners = (left, top, left + side - 1, top + side - 1)
            box = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), corners))
            objects += f"<object><name>{label}</name><bndbox>{box}</bndbox></object>"
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{objects}</annotation>")
        path = root / f"JPEGImages/{name}.png"
        assert cv2.imwrite(str(path), picture)
        if broken and number == 0:
            path.write_bytes(path.read_bytes()[:60])
    return root


def squares_config(root: Path) -> Config:
    """The configuration, on a folder of :func:`write_squares`."""
    return load_config(CONFIG, [f"{name}_dataloader.dataset.pictures.root={root}" for name in ("train", "val", "test")])
