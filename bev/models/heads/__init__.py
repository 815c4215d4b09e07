"""Detection heads."""

from bev.models.heads.center_head import CenterHead
from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer

__all__ = ["CenterHead", "Detr3DHead", "Detr3DTransformer"]
