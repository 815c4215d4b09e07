"""Detection heads."""

from bev.models.heads.bevformer_encoder import BEVFormerEncoder, BEVFormerLayer
from bev.models.heads.bevformer_head import BEVFormerHead
from bev.models.heads.bevformer_transformer import PerceptionTransformer
from bev.models.heads.center_head import CenterHead
from bev.models.heads.center_point_head import PUBLISHED_TASKS, CenterPointHead
from bev.models.heads.center_suppression import CircleSuppression, RotatedSuppression
from bev.models.heads.denoising import Denoising
from bev.models.heads.dense import DenseHead
from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_seeded import SeededDetr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.heads.image_center_head import ImageCenterHead
from bev.models.heads.image_supervision import ImageSupervision
from bev.models.heads.map_proposals import MapProposals
from bev.models.heads.query_head import QueryHead
from bev.models.heads.streaming_head import StreamingHead
from bev.models.heads.two_stage import TwoStageHead
from bev.models.motion import Motion

__all__ = [
    "BEVFormerEncoder",
    "BEVFormerHead",
    "BEVFormerLayer",
    "CenterHead",
    "CenterPointHead",
    "CircleSuppression",
    "Denoising",
    "DenseHead",
    "Detr3DHead",
    "Detr3DTransformer",
    "ImageCenterHead",
    "ImageSupervision",
    "MapProposals",
    "Motion",
    "PUBLISHED_TASKS",
    "PerceptionTransformer",
    "QueryHead",
    "RotatedSuppression",
    "SeededDetr3DHead",
    "StreamingHead",
    "TwoStageHead",
]
