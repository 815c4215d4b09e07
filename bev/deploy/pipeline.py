"""Pictures and a calibration in, boxes out: an exported graph, or a checkpoint with its configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.data.transforms.image import ImageTransform
from bev.deploy.calibration import facts_of
from bev.deploy.export import ExportError
from bev.deploy.finish import boxes3d_of
from bev.deploy.graph import DetectorGraph, GraphFacts
from bev.deploy.runtime import Arrays, OnnxRunner, ProgramRunner
from bev.engine.config import load_config
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.registry import MODELS, TRANSFORMS, ConfigError
from bev.structures import Boxes3D, CameraRig

STAGES = ("prepare", "calibrate", "network", "finish")


class Pipeline:
    """Multi-camera detection with as little around the network as possible.

    Args:
        path: ``*.onnx`` or ``*.pt2`` written by ``tools/export.py``, or a checkpoint.
        config: configuration of a checkpoint; exported graphs bring all that is needed.
        threads: of onnxruntime.

    Attributes:
        times_ms: of the last call by stage: ``prepare`` (resize and stack), ``calibrate`` (near 0 while the rig stays
            the same), ``network``, ``finish`` (suppression).

    Raises:
        ExportError: not a file of this library, a graph of single pictures, or one that has a temporal state (call its
            runner with the state instead, see docs/deployment.md).
        ConfigError: a checkpoint without a configuration.

    Example::

        pipeline = Pipeline("bevdet.onnx")
        boxes = pipeline(pictures, rig)     # pictures: six (h, w, 3) uint8 RGB arrays
    """

    def __init__(self, path: str | Path, config: str | Path | None = None, threads: int | None = None) -> None:
        self._run: Callable[[Mapping[str, Any]], Arrays] | None = None
        self._model: nn.Module | None = None
        self._facts: GraphFacts | None = None
        self._kept: tuple[CameraRig, Arrays] | None = None
        self.times_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        if Path(path).suffix in (".onnx", ".pt2"):
            runner = OnnxRunner(path, threads) if Path(path).suffix == ".onnx" else ProgramRunner(path)
            self._run, image = runner, runner.more.get("image")
            self._take(runner.facts, path)
        else:
            if config is None:
                raise ConfigError(f"{path} is no exported graph: a checkpoint needs its configuration")
            settings = load_config(config)
            self._model = MODELS.build(settings.model).eval()
            load_weights(self._model, weights_of(load_checkpoint(path), path), path)
            image = image_of(settings)
        self._transform: ImageTransform | None = None if image is None else TRANSFORMS.build(dict(image))

    def __call__(self, pictures: Sequence[np.ndarray], rig: CameraRig) -> Boxes3D:
        """Detect in one frame.

        Args:
            pictures: (h, w, 3) uint8 RGB of every camera in the rig's order, as the cameras gave them.
            rig: of those pictures, without batch axis.

        Returns:
            Boxes in the rig's reference frame, by falling score.

        Raises:
            ValueError: pictures and rig disagree, or the graph is made for another rig.
        """
        with self._timed("prepare"):
            images, network_rig = self._prepare(pictures, rig)
        with self._timed("calibrate"):
            facts = self._calibrate(images, network_rig)
        with self._timed("network"):
            assert self._run is not None
            outputs = self._run({"images": images, **facts})
        with self._timed("finish"):
            assert self._facts is not None
            return boxes3d_of(outputs, self._facts.finish)[0]

    def stream(self, frames: Iterator[tuple[Sequence[np.ndarray], CameraRig]]) -> Iterator[tuple[Boxes3D, dict]]:
        """Detect frame after frame; boxes and the stage times of each."""
        for pictures, rig in frames:
            yield self(pictures, rig), dict(self.times_ms)

    def _take(self, facts: GraphFacts, source: str | Path) -> None:
        if facts.calibration is None:
            raise ExportError(f"{source} is a graph of single pictures: it has no rig")
        if any(name.startswith("state_") for name in facts.inputs):
            raise ExportError(f"{source} has a temporal state: call its runner with the state instead")
        self._facts = facts

    def _prepare(self, pictures: Sequence[np.ndarray], rig: CameraRig) -> tuple[np.ndarray, CameraRig]:
        """(1, N, 3, H, W) uint8 and the rig at network size, with batch axis."""
        if len(pictures) != rig.num_cameras:
            raise ValueError(f"{len(pictures)} pictures for {rig.num_cameras} cameras {rig.names}")
        for name, picture in zip(rig.names, pictures):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"{name}: picture is {picture.dtype} {picture.shape}, expected uint8 (h, w, 3) RGB")
        if self._transform is None:
            images, matrices, size = list(pictures), [np.eye(3)] * len(pictures), pictures[0].shape[:2]
        else:
            images, matrices = map(list, zip(*(self._transform(picture) for picture in pictures)))
            size = self._transform.size
        stacked = np.stack([image.transpose(2, 0, 1) for image in images])[None]
        network_from_image = torch.from_numpy(np.stack(matrices))
        network_rig = rig.augment_images(network_from_image, (int(size[0]), int(size[1])))
        return np.ascontiguousarray(stacked), CameraRig.stack([network_rig])

    def _calibrate(self, images: np.ndarray, rig: CameraRig) -> Arrays:
        """Inputs that follow from the rig; computed once while it stays the same."""
        if self._model is not None:
            graph = DetectorGraph(self._model, torch.from_numpy(images), rig)
            self._model, self._run = None, _TorchRunner(graph)
            self._take(graph.facts, type(graph.model).__name__)
        assert self._facts is not None and self._facts.calibration is not None
        if self._kept is not None and _same(self._kept[0], rig):
            return self._kept[1]
        self._facts.calibration.check(rig)
        facts: Arrays = {}
        if not self._facts.baked:
            found = facts_of(rig, self._facts.calibration)
            facts = {name: value.numpy() for name, value in found.items() if name in self._facts.inputs}
        self._kept = rig, facts
        return facts

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.times_ms[stage] = 1e3 * (time.perf_counter() - start)


class _TorchRunner:
    """A graph in torch itself."""

    def __init__(self, graph: DetectorGraph) -> None:
        self.graph = graph

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        with torch.inference_mode():
            found = self.graph(*(torch.as_tensor(inputs[name]) for name in self.graph.facts.inputs))
        return {name: value.numpy() for name, value in zip(self.graph.facts.outputs, found)}


def image_of(config: Any) -> dict[str, Any] | None:
    """The image transform of a configuration's test frames; None where it has none."""
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    node = None if loader is None else loader.dataset.get("image")
    return None if node is None else node.to_dict()


def _same(a: CameraRig, b: CameraRig) -> bool:
    if a.names != b.names or a.image_size_px != b.image_size_px:
        return False
    pairs: list[tuple[Tensor, Tensor]] = [(getattr(a, n), getattr(b, n)) for n in ("intrinsics", "cam_from_ref")]
    return all(torch.equal(x, y) for x, y in [*pairs, (a.image_aug, b.image_aug)])
