"""Single pictures in, boxes out: an exported 2D detector."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.detection2d.letterbox import letterbox
from bev.data.detection2d.picture import PAD_VALUE
from bev.deploy.facts import ExportError, WrongKind
from bev.deploy.finish import picture_boxes_of
from bev.deploy.runtime import open_runner
from bev.io.images import read_image
from bev.structures import Boxes2D, ImageBatch

STAGES = ("prepare", "network", "finish")


class PicturePipeline:
    """A 2D detector as a graph or an engine.

    Args:
        path: ``*.onnx``, ``*.pt2``, ``*.aoti.pt2`` or ``*.engine`` of a 2D detector, written by ``tools/export.py``.
        threads: of onnxruntime.
        device: index of the GPU, for engines.

    Attributes:
        size_px: (H, W) of the network's pictures.
        classes: names of the labels; empty where the graph does not tell them.
        times_ms: of the last call by stage: ``prepare`` (scale and pad), ``network``, ``finish`` (suppression).

    Raises:
        ExportError: not a file of this library, one that cannot run here, or a graph of a rig's cameras (``Pipeline``).

    Example::

        pipeline = PicturePipeline("yolox.onnx")
        boxes = pipeline(picture)     # (h, w, 3) uint8 RGB -> Boxes2D in the picture's px
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: int = 0) -> None:
        self._run = open_runner(path, threads, device)
        self.facts = self._run.facts
        if self.facts.calibration is not None or self.facts.finish["kind"] != "dense":
            raise WrongKind(f"{path} is a graph of a rig's cameras: Pipeline runs it")
        if "score" not in self.facts.outputs:
            raise ExportError(f"{path} gives {', '.join(self.facts.outputs)}, but no boxes: call its runner instead")
        how: Mapping[str, Any] = self._run.more.get("picture") or {}
        size = how.get("size") or self.facts.shapes.get("images", [])[-2:]
        if not size:
            raise ExportError(f"{path} does not tell the size of its pictures: export it again")
        self.size_px = int(size[0]), int(size[1])
        self.place, self.pad_value = how.get("place", "corner"), int(how.get("pad_value", PAD_VALUE))
        self.classes = tuple(how.get("classes") or ())
        self.times_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @property
    def device_times_ms(self) -> dict[str, float]:
        """Of engines: the last call on the GPU's own clock; empty for others."""
        return dict(getattr(self._run, "times_ms", {}))

    def __call__(self, picture: np.ndarray) -> Boxes2D:
        """Boxes of one (h, w, 3) uint8 RGB picture, in its px, by falling score.

        Raises:
            ValueError: not such a picture.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (h, w, 3) RGB")
        start = time.perf_counter()
        scaled, matrix = letterbox(picture, self.size_px, self.pad_value, self.place)
        pixels = torch.from_numpy(scaled).permute(2, 0, 1)[None]
        batch = ImageBatch(pixels, torch.from_numpy(matrix)[None], [(picture.shape[0], picture.shape[1])], [""])
        self.times_ms["prepare"] = 1e3 * (time.perf_counter() - start)
        return self.predict(batch)[0]

    def predict(self, batch: ImageBatch) -> list[Boxes2D]:
        """Boxes of pictures at network size, as a detector's ``predict`` gives them: in the px of each file's picture,
        within it, by falling score."""
        start = time.perf_counter()
        outputs = self._run({"images": np.ascontiguousarray(batch.images.cpu().numpy())})
        done = time.perf_counter()
        boxes = picture_boxes_of(outputs, self.facts.finish, batch)
        self.times_ms |= {"network": 1e3 * (done - start), "finish": 1e3 * (time.perf_counter() - done)}
        return boxes


def network_pictures(paths: Sequence[str | Path], how: Mapping[str, Any]) -> torch.Tensor:
    """Picture files as a network sees them, (B, 3, H, W) uint8 RGB.

    Args:
        paths: files.
        how: of :func:`picture_of`.

    Raises:
        FileError: a file that is no picture.
    """
    size = int(how["size"][0]), int(how["size"][1])
    scaled = [letterbox(read_image(Path(path)), size, how["pad_value"], how["place"])[0] for path in paths]
    return torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2).contiguous()


def picture_of(config: Any, size_px: tuple[int, int]) -> dict[str, Any]:
    """How a configuration's test pictures come to the network, kept with a graph for :class:`PicturePipeline`.

    Args:
        config: its ``*_dataloader.dataset`` tells where the picture is and what is beside it, and the classes.
        size_px: (H, W) that the graph is written for.
    """
    found: dict[str, Any] = {"size": list(size_px), "place": "corner", "pad_value": PAD_VALUE, "classes": []}
    for stage in ("train", "val", "test"):
        node = (config.get(f"{stage}_dataloader") or {}).get("dataset") or {}
        if node.get("type") == "PictureDataset":
            found |= {name: node[name] for name in ("place", "pad_value") if name in node}
            found["classes"] = list((node.get("pictures") or {}).get("classes") or found["classes"])
    return found
