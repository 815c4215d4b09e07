"""BEVFormer: a bird's-eye-view map that remembers, and object queries that read it."""

from __future__ import annotations

from torch import Tensor

from bev.models.detectors.base import State
from bev.models.detectors.streaming import StreamingDetector
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class BEVFormer(StreamingDetector):
    """BEVFormer (Li et al., ECCV 2022, arXiv 2203.17270); parameter names are those of the published checkpoints.

    The head is a ``BEVFormerHead``. Earlier frames of a training sample are run in evaluation mode and without
    gradients, as published.
    """

    def remember(self, images: Tensor, rig: CameraRig, state: State | None = None) -> State:
        """The map alone: neither queries nor what seeds them are needed."""
        features = self.extract_features(images)
        hints = self.hints(features, rig) if self.pts_bbox_head.reads_depth else {}
        return self.pts_bbox_head.remember(features, rig, state, **hints)
