"""Pictures and a calibration in, boxes out: an exported graph, an engine, or a checkpoint with its configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.data.transforms.image import ImageTransform
from bev.deploy.calibration import facts_of
from bev.deploy.facts import ExportError, GraphFacts, WrongKind
from bev.deploy.finish import boxes3d_of
from bev.deploy.graph import DetectorGraph
from bev.deploy.memory import FrameMemory
from bev.deploy.runtime import Arrays, Runner, open_runner
from bev.engine.config import load_config
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.registry import MODELS, TRANSFORMS, ConfigError
from bev.structures import Boxes3D, CameraRig

STAGES = ("prepare", "calibrate", "network", "finish")
GRAPHS = (".onnx", ".pt2", ".engine")


class Pipeline:
    """Multi-camera detection with as little around the network as possible.

    Args:
        path: ``*.onnx``, ``*.pt2``, ``*.aoti.pt2`` or ``*.engine`` written by ``tools/export.py``, or a checkpoint.
        config: configuration of a checkpoint; exported graphs bring all that is needed.
        threads: of onnxruntime.
        device: index of the GPU, for engines.
        longest_gap_s: temporal detectors forget the past where two frames lie further apart.

    Attributes:
        times_ms: of the last call by stage: ``prepare`` (resize and stack), ``calibrate`` (near 0 while the rig stays
            the same), ``network``, ``finish`` (suppression).
        facts: what the graph is; of a checkpoint known after the first call.
        image: the image transform from a camera's picture to the network's; None: pictures are taken as they are.
        continued: whether the last frame continued the one before (temporal detectors).

    Raises:
        ExportError: not a file of this library, one that cannot run here, or a graph of single pictures
            (``PicturePipeline`` runs those).
        ConfigError: a checkpoint without a configuration.

    Example::

        pipeline = Pipeline("bevdet.onnx")
        boxes = pipeline(pictures, rig)     # pictures: six (h, w, 3) uint8 RGB arrays
        pipeline = Pipeline("bevformer.onnx")
        boxes = pipeline(pictures, rig, global_from_ref=pose, timestamp_us=time, scene="monday")
    """

    def __init__(
        self,
        path: str | Path,
        config: str | Path | None = None,
        threads: int | None = None,
        device: int = 0,
        longest_gap_s: float = 2.0,
    ) -> None:
        self._run: Runner | None = None
        self._model: nn.Module | None = None
        self._memory: FrameMemory | None = None
        self._kept: tuple[CameraRig, Arrays] | None = None
        self._longest_gap_s = longest_gap_s
        self.facts: GraphFacts | None = None
        self.times_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        if Path(path).suffix in GRAPHS:
            self._run = open_runner(path, threads, device)
            image = self._run.more.get("image")
            self._take(self._run.facts, path)
        else:
            if config is None:
                raise ConfigError(f"{path} is no exported graph: a checkpoint needs its configuration")
            settings = load_config(config)
            self._model = MODELS.build(settings.model).eval()
            load_weights(self._model, weights_of(load_checkpoint(path), path), path)
            image = image_of(settings)
        self.image: dict[str, Any] | None = image
        self._transform: ImageTransform | None = None if image is None else TRANSFORMS.build(dict(image))

    def __call__(
        self,
        pictures: Sequence[np.ndarray],
        rig: CameraRig,
        global_from_ref: Any = None,
        timestamp_us: int | None = None,
        scene: str = "",
    ) -> Boxes3D:
        """Detect in one frame.

        Args:
            pictures: (h, w, 3) uint8 RGB of every camera in the rig's order, as the cameras gave them.
            rig: of those pictures, without batch axis.
            global_from_ref: (4, 4) m, where the rig's reference frame is; detectors with a memory need it.
            timestamp_us: of the frame; likewise.
            scene: name of the recording; where it changes the past is forgotten.

        Returns:
            Boxes in the rig's reference frame, by falling score.

        Raises:
            ValueError: pictures and rig disagree, the graph is made for another rig, or a detector with a memory is not
                told where and when the frame is.
        """
        with self._timed("prepare"):
            images, network_rig = self._prepare(pictures, rig)
        return self.detect(images, network_rig, global_from_ref, timestamp_us, scene)

    def detect(
        self,
        images: np.ndarray,
        rig: CameraRig,
        global_from_ref: Any = None,
        timestamp_us: int | None = None,
        scene: str = "",
    ) -> Boxes3D:
        """As a call, for (1, N, 3, H, W) uint8 RGB images at network size and their rig with batch axis."""
        with self._timed("calibrate"):
            inputs = self._calibrate(images, rig)
            state = self._state(global_from_ref, timestamp_us, scene)
        with self._timed("network"):
            assert self._run is not None
            outputs = self._run({"images": images, **inputs, **state})
            if self._memory is not None:
                self._memory.leave(outputs)
        with self._timed("finish"):
            assert self.facts is not None
            return boxes3d_of({n: v for n, v in outputs.items() if not n.startswith("next_")}, self.facts.finish)[0]

    def reset(self) -> None:
        """Forget the past: the next frame begins a recording."""
        if self._memory is not None:
            self._memory.reset()

    @property
    def continued(self) -> bool:
        """Whether the last frame continued the one before."""
        return self._memory is not None and self._memory.continued

    @property
    def device_times_ms(self) -> dict[str, float]:
        """Of engines: the last call on the GPU's own clock; empty for others."""
        return dict(getattr(self._run, "times_ms", {}))

    def stream(self, frames: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Boxes3D, dict]]:
        """Detect frame after frame (arguments of a call each); boxes and the stage times of each."""
        for frame in frames:
            yield self(*frame), dict(self.times_ms)

    def _take(self, facts: GraphFacts, source: str | Path) -> None:
        if facts.calibration is None:
            raise WrongKind(f"{source} is a graph of single pictures, which has no rig: PicturePipeline runs it")
        if "score" not in facts.outputs or facts.finish["kind"] == "cells":
            raise ExportError(f"{source} gives {', '.join(facts.outputs)}, but no boxes: call its runner instead")
        if facts.memory is None and any(name.startswith("state_") for name in facts.inputs):
            raise ExportError(f"{source} does not tell how its state follows from the motion: export it again")
        self.facts = facts
        self._memory = None if facts.memory is None else FrameMemory(facts.memory, self._longest_gap_s)

    def _state(self, global_from_ref: Any, timestamp_us: int | None, scene: str) -> Arrays:
        if self._memory is None:
            return {}
        if global_from_ref is None or timestamp_us is None:
            raise ValueError("this detector has a memory: tell it global_from_ref and timestamp_us of every frame")
        return self._memory.enter(scene, timestamp_us, global_from_ref)

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
            graph = _graph_of(self._model, torch.from_numpy(images), rig)
            self._take(graph.facts, type(graph.model).__name__)
            self._model, self._run = None, _TorchRunner(graph)
        assert self.facts is not None and self.facts.calibration is not None
        if self._kept is not None and _same(self._kept[0], rig):
            return self._kept[1]
        self.facts.calibration.check(rig)
        inputs: Arrays = {}
        if not self.facts.baked:
            found = facts_of(rig, self.facts.calibration)
            inputs = {name: value.numpy() for name, value in found.items() if name in self.facts.inputs}
        self._kept = rig, inputs
        return inputs

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.times_ms[stage] = 1e3 * (time.perf_counter() - start)


def _graph_of(model: nn.Module, images: Tensor, rig: CameraRig) -> DetectorGraph:
    """A checkpoint's detector as the graph that an export would write, to be run in torch itself."""
    from bev.deploy.build import Exportable, as_batch
    from bev.models.detectors.temporal import TemporalDetector

    if isinstance(model, TemporalDetector) and model.remembers:
        return Exportable.streaming(model, as_batch(images, rig), {}).graph()
    return DetectorGraph(model, images, rig)


class _TorchRunner:
    """A graph in torch itself; see ``bev.deploy.runtime.Runner``."""

    def __init__(self, graph: DetectorGraph) -> None:
        self.graph, self.facts = graph, graph.facts
        self.more: dict[str, Any] = {}

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
