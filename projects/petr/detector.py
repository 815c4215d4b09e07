"""PETR as a detector."""

from __future__ import annotations

from bev.models.detectors import QueryDetector
from bev.registry import MODELS


@MODELS.register_module()
class PETR(QueryDetector):
    """PETR (Liu et al., ECCV 2022, arXiv 2203.05625); parameter names are those of the published checkpoints."""
