"""StreamPETR: PETR whose best queries are remembered and carried along with the vehicle (arXiv 2303.11926)."""

from projects.streampetr.checkpoint import STREAMPETR_FILES
from projects.streampetr.denoising import BoxDenoising
from projects.streampetr.detector import StreamPETR
from projects.streampetr.focal_head import FocalHead
from projects.streampetr.head import StreamPETRHead

__all__ = ["STREAMPETR_FILES", "BoxDenoising", "FocalHead", "StreamPETR", "StreamPETRHead"]
