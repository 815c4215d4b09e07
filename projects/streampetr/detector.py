"""StreamPETR as a detector."""

from __future__ import annotations

from bev.models.detectors import StreamingDetector
from bev.registry import MODELS


@MODELS.register_module()
class StreamPETR(StreamingDetector):
    """StreamPETR (Wang et al., ICCV 2023, arXiv 2303.11926); parameter names are those of the published checkpoints.

    Its state goes through the interface of ``bev.models.detectors.temporal``, as BEVFormer's does.
    """
