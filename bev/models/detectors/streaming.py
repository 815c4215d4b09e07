"""Temporal detectors: one state interface, explicit in and out.

A state is a mapping of tensors with the batch axis first. What the previous frame's ``forward`` returned under
``"state"``, joined with ``motion_inputs`` of the way since then, is what the present frame's ``forward`` takes. Nothing
is kept in the model: :class:`FrameStream` carries the state through a recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.detectors.base import Detector, State, ground_truth
from bev.models.detectors.query import ImageEncoder
from bev.models.heads.streaming_head import Motion, StreamingHead
from bev.structures import Batch, Boxes3D, CameraRig


class StreamingDetector(ImageEncoder, Detector):
    """Image encoder and a head with memory: what BEVFormer and StreamPETR share.

    ``loss`` and ``predict`` run ``batch.previous``, oldest first, to have a state; a longer past is carried by
    :class:`FrameStream`. Arguments as of ``ImageEncoder``.
    """

    pts_bbox_head: StreamingHead

    def motion_inputs(self, motion: Motion) -> State:
        """The part of :meth:`forward`'s state that does not come from the previous frame's result."""
        return self.pts_bbox_head.motion_inputs(motion)

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Detect.

        Args:
            images: (B, N, 3, H, W) uint8 or float 0..255, RGB.
            rig: calibration with the batch axis.
            state: ``{**motion_inputs(motion), **previous["state"]}``; without a previous frame the motion alone, or
                None for a first frame at the origin.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes), ``box_code`` (layers, B, Q, 10) and ``state``.
        """
        return self.pts_bbox_head(self.extract_features(images), rig, state)

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """``boxes``: pairs that matching will make."""
        return {"boxes": self.pts_bbox_head.count_targets(ground_truth(batch))}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Terms of ``QueryHead.loss`` for the present frame; earlier frames give a state and no gradient."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        state = self.recall(batch)
        outputs = self(batch.images, batch.rig, state)
        return self.pts_bbox_head.loss(outputs, ground_truth(batch), factors["boxes"])

    def recall(self, batch: Batch) -> State:
        """State for the present frame from ``batch.previous``, run as in inference and without gradients."""
        stream = FrameStream(self)
        with _inference(self), torch.no_grad():
            for earlier in batch.previous:
                stream.forward(earlier)
        return stream.enter(batch)

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score."""
        return self.decode(self(batch.images, batch.rig, self.recall(batch)))

    def decode(self, outputs: dict[str, Any]) -> list[Boxes3D]:
        """Outputs of :meth:`forward` -> boxes, one entry a frame."""
        return self.pts_bbox_head.decode(outputs)


@dataclass(frozen=True, eq=False)
class _Past:
    """The last frame that a stream has seen."""

    scenes: list[str]
    timestamp_us: Tensor
    global_from_ref: Tensor
    memory: State


class FrameStream:
    """Carries a temporal detector's state through recordings, frame by frame.

    Every frame continues the frame of its own scene in the last batch, wherever it was there, if that one is earlier;
    otherwise it begins anew. So a batch may hold several recordings, and recordings may end at any time.

    Args:
        detector: whose ``forward`` takes the state.
    """

    def __init__(self, detector: StreamingDetector) -> None:
        self.detector = detector
        self._past: _Past | None = None

    def reset(self) -> None:
        """Forget everything."""
        self._past = None

    def enter(self, batch: Batch) -> State:
        """State with which ``detector.forward`` must be called for this batch."""
        if self._past is None:
            return self.detector.motion_inputs(Motion.first(batch))
        rows, past = self._rows(batch), self._past
        device = batch.global_from_ref.device
        row, continues = torch.tensor(rows, device=device).clamp(min=0), torch.tensor(rows, device=device) >= 0
        elapsed_s = (batch.timestamp_us - past.timestamp_us[row]).double() * 1e-6
        motion = Motion.first(batch).since(continues, past.global_from_ref.double()[row], elapsed_s)
        same = rows == list(range(len(past.scenes)))
        memory = past.memory if same else {name: value[row] for name, value in past.memory.items()}
        return {**memory, **self.detector.motion_inputs(motion)}

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Outputs of ``detector.forward`` for this batch, whose state is kept (detached) for the next."""
        outputs = self.detector(batch.images, batch.rig, self.enter(batch))
        memory = {name: value.detach() for name, value in outputs["state"].items()}
        self._past = _Past(batch.scenes, batch.timestamp_us, batch.global_from_ref, memory)
        return outputs

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes of this batch, one entry a frame."""
        return self.detector.decode(self.forward(batch))

    def _rows(self, batch: Batch) -> list[int]:
        """Row of the last batch that each frame continues, -1 for none."""
        assert self._past is not None
        now, then = batch.timestamp_us.tolist(), self._past.timestamp_us.tolist()
        rows = []
        for scene, time in zip(batch.scenes, now):
            earlier = [i for i, known in enumerate(self._past.scenes) if known == scene and then[i] < time]
            rows.append(max(earlier, key=lambda i: then[i], default=-1))
        return rows


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within; afterwards every submodule is as it was (a frozen backbone stays frozen)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
