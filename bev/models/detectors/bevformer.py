"""BEVFormer: a bird's-eye-view map that remembers, and object queries that read it."""

from __future__ import annotations

from bev.models.detectors.streaming import StreamingDetector
from bev.registry import MODELS


@MODELS.register_module()
class BEVFormer(StreamingDetector):
    """BEVFormer (Li et al., ECCV 2022, arXiv 2203.17270); parameter names are those of the published checkpoints.

    The head is a ``BEVFormerHead``. Earlier frames of a training sample are run in evaluation mode and without
    gradients, as published.
    """
