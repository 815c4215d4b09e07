"""A written graph behind the doors of a detector, so that whatever scores detectors scores the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.deploy.calibration import facts_of
from bev.deploy.export import ExportError
from bev.deploy.finish import boxes3d_of, picture_boxes_of
from bev.deploy.graph import NEXT, STATE
from bev.deploy.runtime import Arrays, OnnxRunner
from bev.models.detectors.base import Detector, State
from bev.models.detectors.frame_stream import FrameStream
from bev.models.detectors.temporal import TemporalDetector
from bev.models.motion import Motion
from bev.structures import Batch, CameraRig, ImageBatch


class GraphDetector(Detector):
    """Predicts with an ONNX file; it cannot learn.

    Args:
        path: of a graph whose calibration is an input.
        threads: of onnxruntime.

    Raises:
        ExportError: no graph of this library, or one with a baked calibration, which is right for one rig alone.
    """

    def __init__(self, path: str | Path, threads: int | None = 1) -> None:
        super().__init__()
        self.runner, self.path = OnnxRunner(path, threads), str(path)
        if self.runner.facts.baked:
            raise ExportError(f"{path} has its calibration baked in: it cannot be scored on other rigs")
        self.size: int | str = self.runner.session.get_inputs()[0].shape[0]
        # Whoever asks a detector where it is looks at its parameters.
        self.device_mark = nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(self, images: Tensor, rig: CameraRig | None = None, state: State | None = None) -> dict[str, Any]:
        """Outputs of the graph by name, as tensors, and ``state`` where it has one."""
        batch, parts = len(images), []
        size = self.size if isinstance(self.size, int) else batch
        for first in range(0, batch, size):  # the last part is filled up with the last frame
            rows = torch.arange(first, first + size).clamp(max=batch - 1)
            found = self._run(images[rows], None if rig is None else _picked(rig, rows), _at(state or {}, rows))
            parts.append({name: value[: batch - first] for name, value in found.items()})
        joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        memory = {name.removeprefix(NEXT): value for name, value in joined.items() if name.startswith(NEXT)}
        rest = {name: value for name, value in joined.items() if not name.startswith(NEXT)}
        return {**rest, **({"state": memory} if memory else {})}

    def _run(self, images: Tensor, rig: CameraRig | None, state: Mapping[str, Tensor]) -> Arrays:
        inputs: dict[str, Tensor] = {"images": images, **self._memory(state, len(images))}
        spec = self.runner.facts.calibration
        if rig is not None and spec is not None:
            inputs |= facts_of(rig, spec)
        return self.runner({name: inputs[name].numpy() for name in self.runner.facts.inputs})

    def _memory(self, state: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
        """A first frame has zeros, which the graph does not look at."""
        described = {value.name: value for value in self.runner.session.get_inputs()}
        found = {}
        for name in self.runner.facts.inputs:
            if not name.startswith(STATE):
                continue
            value = state.get(name.removeprefix(STATE))
            if value is None:
                kind = torch.bool if "bool" in described[name].type else torch.float32
                value = torch.zeros([batch, *described[name].shape[1:]], dtype=kind)
            found[name] = value.float() if value.is_floating_point() else value
        return found

    def predict(self, batch: Batch | ImageBatch) -> list[Any]:  # type: ignore[override]
        """As the detector's own ``predict``."""
        if isinstance(batch, ImageBatch):
            self._check_size(batch.images)
            return picture_boxes_of(self(batch.images), self.runner.facts.finish, batch)
        return self.decode(self(batch.images, batch.rig))

    def _check_size(self, images: Tensor) -> None:
        wanted = tuple(self.runner.session.get_inputs()[0].shape[-2:])
        if wanted != tuple(images.shape[-2:]):
            raise ExportError(
                f"{self.path} is made for pictures of {wanted} px, got {tuple(images.shape[-2:])}: export with --size"
            )

    def decode(self, outputs: Mapping[str, Any]) -> list[Any]:
        """Boxes of every frame; probabilities of cells where the graph gives these."""
        if self.runner.facts.finish["kind"] == "cells":
            return list(outputs["probability"])
        arrays = {name: value for name, value in outputs.items() if name != "state"}
        return list(boxes3d_of(arrays, self.runner.facts.finish))

    def loss(self, batch: Any, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Raises ExportError: a written graph does not learn."""
        raise ExportError(f"{self.path} is a written graph: it has no losses")

    def target_counts(self, batch: Any) -> dict[str, Tensor]:
        """None, as there is nothing to learn."""
        return {}


def _picked(rig: CameraRig, rows: Tensor) -> CameraRig:
    """The calibration of some frames of a batch."""
    parts = {name: getattr(rig, name)[rows] for name in ("intrinsics", "cam_from_ref", "image_aug", "timestamp_us")}
    return replace(rig, **parts)


def _at(state: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in state.items()}


class TemporalGraphDetector(GraphDetector, TemporalDetector):
    """A graph with a state; ``FrameStream`` carries it from frame to frame.

    Args:
        path, threads: as of :class:`GraphDetector`.
        told: the detector that says what the graph is told of the motion.
    """

    def __init__(self, path: str | Path, told: TemporalDetector, threads: int | None = 1) -> None:
        super().__init__(path, threads)
        self._told = (told,)  # in a tuple: its parameters are not of this one

    def motion_inputs(self, motion: Motion) -> State:
        """See ``TemporalDetector``."""
        return self._told[0].motion_inputs(motion)

    def predict(self, batch: Any) -> list[Any]:  # type: ignore[override]
        """A frame alone, or after those of ``batch.previous``."""
        stream = FrameStream(self)
        for earlier in batch.previous:
            stream.forward(earlier)
        return self.decode(stream.forward(batch))

    def stream_loss(self, batch: Batch, state: State, avg_factors: Any = None) -> Any:
        """Raises ExportError: a written graph does not learn."""
        raise ExportError(f"{self.path} is a written graph: it has no losses")
