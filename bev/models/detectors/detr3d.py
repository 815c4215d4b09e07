"""DETR3D: backbone, pyramid and a set-prediction head that samples the pyramid at projected points."""

from __future__ import annotations

from bev.models.detectors.query import QueryDetector
from bev.registry import MODELS


@MODELS.register_module()
class Detr3D(QueryDetector):
    """DETR3D (Wang et al., CoRL 2021, arXiv 2110.06922); parameter names are those of the published checkpoints."""
