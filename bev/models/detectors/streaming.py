"""Detectors of an image encoder and a set-prediction head with memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.detectors.base import State, ground_truth
from bev.models.detectors.frame_stream import FrameStream
from bev.models.detectors.query import ImageEncoder
from bev.models.detectors.temporal import TemporalDetector
from bev.models.heads.streaming_head import StreamingHead
from bev.models.motion import Motion
from bev.structures import Batch, Boxes3D, CameraRig


class StreamingDetector(ImageEncoder, TemporalDetector):
    """Image encoder and a head with memory: what BEVFormer and StreamPETR share.

    ``loss`` and ``predict`` run ``batch.previous``, oldest first, to have a state; a longer past is carried by
    ``FrameStream``. Arguments as of ``ImageEncoder``.
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
        features = self.extract_features(images)
        return self.pts_bbox_head(features, rig, state, **self.hints(features, rig))

    def remember(self, images: Tensor, rig: CameraRig, state: State | None = None) -> State:
        """The memory alone."""
        features = self.extract_features(images)
        return self.pts_bbox_head.remember(features, rig, state, **self.hints(features, rig))

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the head counts, ``boxes`` at least; with image supervision what that counts."""
        return {**self.pts_bbox_head.target_counts(ground_truth(batch)), **self.image_counts(batch)}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Terms of the head for the present frame; earlier frames give a state and no gradient."""
        return self.stream_loss(batch, self.recall(batch), avg_factors)[0]

    def stream_loss(
        self, batch: Batch, state: State, avg_factors: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """See ``TemporalDetector``."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        features = self.extract_features(batch.images)
        maps = self.image_maps(features, batch.rig)
        hints = self.hints(features, batch.rig, maps)
        if "depth" in hints and self.image_supervision is not None:
            hints["depth"] = self.image_supervision.told_depth(hints["depth"], batch)
        losses, outputs = self.pts_bbox_head.train_frame(
            features, batch.rig, state, ground_truth(batch), factors, **hints
        )
        return {**losses, **self.image_losses(features, maps, batch, factors)}, outputs["state"]

    def recall(self, batch: Batch) -> State:
        """State for the present frame from ``batch.previous``, run as in inference and without gradients."""
        stream = FrameStream(self)
        # Row by row: two frames of one scene, mirrored or not, must not be taken for each other's past.
        row_by_row = torch.zeros(len(batch), dtype=torch.bool)
        with _inference(self), torch.no_grad():
            for earlier in batch.previous:
                stream.remember(replace(earlier, starts=row_by_row))
        return stream.enter(replace(batch, starts=row_by_row))

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score."""
        return self.decode(self(batch.images, batch.rig, self.recall(batch)))

    def decode(self, outputs: dict[str, Any]) -> list[Boxes3D]:
        """Outputs of :meth:`forward` -> boxes, one entry a frame."""
        return self.pts_bbox_head.decode(outputs)


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
