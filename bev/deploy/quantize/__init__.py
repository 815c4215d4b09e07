"""Fewer bits: half precision, int8 as QDQ nodes, and both mixed by what each layer costs."""

from bev.deploy.quantize.equalize import equalize
from bev.deploy.quantize.frames import GraphFrames
from bev.deploy.quantize.half import to_half
from bev.deploy.quantize.mixed import Choice, mixed_graph, within_drop, within_size
from bev.deploy.quantize.network import Layer, Network
from bev.deploy.quantize.qdq import Quantized, Recipe
from bev.deploy.quantize.score import score_graph
from bev.deploy.quantize.sensitivity import OutputError, Sensitivity, sensitivities, write_sensitivities
from bev.deploy.quantize.whole import Placement, WholeInteger, quantize_graph

__all__ = [
    "Choice",
    "GraphFrames",
    "Layer",
    "Network",
    "OutputError",
    "Placement",
    "Quantized",
    "Recipe",
    "Sensitivity",
    "WholeInteger",
    "equalize",
    "mixed_graph",
    "quantize_graph",
    "score_graph",
    "sensitivities",
    "to_half",
    "within_drop",
    "within_size",
    "write_sensitivities",
]
