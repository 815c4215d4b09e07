"""Detection heads."""

from bev.models.heads.center_head import CenterHead
from bev.models.heads.denoising import Denoising
from bev.models.heads.dense import DenseHead
from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_seeded import SeededDetr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.heads.image_center_head import ImageCenterHead

__all__ = [
    "CenterHead",
    "Denoising",
    "DenseHead",
    "Detr3DHead",
    "Detr3DTransformer",
    "ImageCenterHead",
    "SeededDetr3DHead",
]
