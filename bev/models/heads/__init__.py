"""Detection heads."""

from bev.models.heads.bevformer_encoder import BEVFormerEncoder, BEVFormerLayer
from bev.models.heads.bevformer_head import BEVFormerHead
from bev.models.heads.bevformer_transformer import PerceptionTransformer
from bev.models.heads.center_head import CenterHead
from bev.models.heads.center_point_head import PUBLISHED_TASKS, CenterPointHead
from bev.models.heads.center_suppression import CircleSuppression, RotatedSuppression
from bev.models.heads.denoising import Denoising
from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_seeded import SeededDetr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.heads.image_center_head import ImageCenterHead
from bev.models.heads.query_head import QueryHead
from bev.models.heads.streaming_head import Motion, StreamingHead

__all__ = [
    "BEVFormerEncoder",
    "BEVFormerHead",
    "BEVFormerLayer",
    "CenterHead",
    "CenterPointHead",
    "CircleSuppression",
    "Denoising",
    "Detr3DHead",
    "Detr3DTransformer",
    "ImageCenterHead",
    "Motion",
    "PUBLISHED_TASKS",
    "PerceptionTransformer",
    "QueryHead",
    "RotatedSuppression",
    "SeededDetr3DHead",
    "StreamingHead",
]
