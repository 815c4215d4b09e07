"""TensorRT-RTX: parses and builds a graph on any machine, also without a GPU.

An engine that builds proves that every operator and shape of the graph is one that NVIDIA's parser and builder take.
Its numbers are another matter: they need a GPU of a supported kind (compute capability 7.5, 8.x or 12.x).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bev._optional import require
from bev.deploy.export import ExportError

TARGETS = ("SM80", "SM86")


def build_engine(
    onnx_path: str | Path, engine_path: str | Path, targets: Sequence[str] = TARGETS, workspace_bytes: int = 2 << 30
) -> Path:
    """Parse an ONNX file and write an engine.

    Args:
        onnx_path: standard operators alone. Sizes that vary get one profile: batches of 1 to 4, pooling tables of 2 to
            400,000 rows.
        engine_path: to write.
        targets: compute capabilities that the engine shall run on.
        workspace_bytes: scratch memory that the builder may plan with.

    Raises:
        ExportError: the parser or the builder refuses; with their own words.
        ImportError: tensorrt_rtx is not installed.
    """
    require("tensorrt_rtx_libs", extra="tensorrt-rtx")  # its import makes the libraries known to the bindings
    rtx = require("tensorrt_rtx_bindings", extra="tensorrt-rtx")
    log = _Log(rtx)
    builder = rtx.Builder(log.logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log.logger)
    if not parser.parse(Path(onnx_path).read_bytes()):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"TensorRT-RTX cannot parse {onnx_path}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(rtx.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(rtx.ComputeCapability, target), index)
    _add_profile(builder, network, config)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError(f"TensorRT-RTX cannot build {onnx_path}: {log.last()}")
    path = Path(engine_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    temporary.write_bytes(bytes(engine))
    os.replace(temporary, path)
    return path


def _add_profile(builder: Any, network: Any, config: Any) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if not any(size < 0 for value in inputs for size in value.shape):
        return
    profile = builder.create_optimization_profile()
    for value in inputs:
        table = value.name.endswith(("pool_points", "pool_partial", "pool_rest"))
        sides = (2, 40_000, 400_000) if table else (1, 2, 4)
        shapes = [[size if size > 0 else side for size in value.shape] for side in sides]
        profile.set_shape(value.name, *shapes)
    config.add_optimization_profile(profile)


class _Log:
    """Keeps what the builder complains of."""

    def __init__(self, rtx: Any) -> None:
        errors: list[str] = []
        serious = (rtx.ILogger.Severity.ERROR, rtx.ILogger.Severity.INTERNAL_ERROR)

        class Keeper(rtx.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                rtx.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in serious:
                    errors.append(message)

        self.errors, self.logger = errors, Keeper()

    def last(self) -> str:
        """The last complaints."""
        return "; ".join(self.errors[-3:]) or "no reason given"
