"""TensorRT-RTX: parses and builds a graph on any machine, also without a GPU.

An engine that builds proves that every operator and shape of the graph is one that NVIDIA's parser and builder take.
Its numbers are another matter: they need a GPU of a supported kind (compute capability 7.5, 8.x or 12.x).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bev.deploy.tensorrt import EngineOptions
from bev.deploy.tensorrt import build_engine as build

TARGETS = ("SM80", "SM86")


def build_engine(
    onnx_path: str | Path, engine_path: str | Path, targets: Sequence[str] = TARGETS, workspace_bytes: int = 2 << 30
) -> Path:
    """Parse an ONNX file and write an engine of TensorRT-RTX: :func:`bev.deploy.tensorrt.build_engine` for RTX.

    Args:
        onnx_path: standard operators alone.
        engine_path: to write.
        targets: compute capabilities that the engine shall run on.
        workspace_bytes: scratch memory that the builder may plan with.

    Raises:
        ExportError: the parser or the builder refuses; with their own words.
        ImportError: tensorrt_rtx is not installed.
    """
    options = EngineOptions(targets=tuple(targets), workspace_bytes=workspace_bytes)
    return build(onnx_path, engine_path, options, "tensorrt-rtx")
