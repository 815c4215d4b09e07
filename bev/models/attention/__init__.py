"""Attention among queries, and from queries to cameras, to maps and to the past."""

from bev.models.attention.bev_cross_attention import BEVCrossAttention
from bev.models.attention.camera_cross_attention import CameraCrossAttention
from bev.models.attention.decoder_layer import DetrDecoderLayer, FeedForward, SelfAttention
from bev.models.attention.global_decoder import GlobalDecoderLayer, GlobalTransformer, Tokens
from bev.models.attention.ray_cross_attention import RayCrossAttention
from bev.models.attention.spatial_cross_attention import SpatialCrossAttention
from bev.models.attention.temporal_self_attention import TemporalSelfAttention

__all__ = [
    "BEVCrossAttention",
    "CameraCrossAttention",
    "DetrDecoderLayer",
    "FeedForward",
    "GlobalDecoderLayer",
    "GlobalTransformer",
    "RayCrossAttention",
    "SelfAttention",
    "SpatialCrossAttention",
    "TemporalSelfAttention",
    "Tokens",
]
