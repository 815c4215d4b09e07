"""Heads."""

from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer

__all__ = ["Detr3DHead", "Detr3DTransformer"]
