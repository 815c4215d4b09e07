"""Fewer bits: half precision, int8 as QDQ nodes, and both mixed by what each layer costs."""

from bev.deploy.quantize.frames import GraphFrames
from bev.deploy.quantize.half import to_half
from bev.deploy.quantize.network import Layer, Network
from bev.deploy.quantize.qdq import Quantized, Recipe
from bev.deploy.quantize.score import score_graph
from bev.deploy.quantize.sensitivity import OutputError, Sensitivity, sensitivities, write_sensitivities

__all__ = [
    "GraphFrames",
    "Layer",
    "Network",
    "OutputError",
    "Quantized",
    "Recipe",
    "Sensitivity",
    "score_graph",
    "sensitivities",
    "to_half",
    "write_sensitivities",
]
