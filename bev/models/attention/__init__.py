"""Attention among queries and from queries to cameras."""

from bev.models.attention.camera_cross_attention import CameraCrossAttention
from bev.models.attention.decoder_layer import DetrDecoderLayer, FeedForward, SelfAttention
from bev.models.attention.ray_cross_attention import RayCrossAttention

__all__ = ["CameraCrossAttention", "DetrDecoderLayer", "FeedForward", "RayCrossAttention", "SelfAttention"]
