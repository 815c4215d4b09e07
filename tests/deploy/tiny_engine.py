"""The tiny graph's engine, built with the stand-ins, for the tests of builder and runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bev.deploy.tensorrt import EngineOptions, build_engine
from bev.deploy.tensorrt_api import Library
from bev.deploy.tensorrt_runner import EngineRunner
from tests.deploy.standin_tensorrt import HostCuda, standin
from tests.deploy.tiny import write_tiny

TEN, ELEVEN = "10.16.1.11", "11.4.0.106"


def library_of(version: str, cuda: HostCuda) -> Library:
    """TensorRT's stand-in of a version."""
    return Library(standin(version, cuda), "tensorrt", version)


class Built:
    """The tiny graph's engine, and what it was built with."""

    def __init__(self, folder: Path, version: str = TEN, options: EngineOptions = EngineOptions()) -> None:
        self.cuda: Any = HostCuda()
        self.library = library_of(version, self.cuda)
        self.onnx = write_tiny(folder / "tiny.onnx")
        self.path = build_engine(self.onnx, folder / "tiny.engine", options, self.library, self.cuda)

    @property
    def config(self) -> Any:
        """The builder's, of the last build."""
        return self.library.module.calls[-1][1]

    def runner(self, **options: Any) -> EngineRunner:
        """Of the engine."""
        return EngineRunner(self.path, library=self.library, cuda=self.cuda, **options)


def inputs_of(batch: int = 1, rows: int = 3, memory: float = 0.0, continues: bool = False) -> dict[str, Any]:
    """Of the tiny graph."""
    return {
        "images": np.arange(4 * batch, dtype=np.uint8).reshape(batch, 4),
        "pool_points": np.zeros((rows, 8), np.int64),
        "state_memory": np.full((batch, 1), memory, np.float32),
        "state_continues": np.full(batch, continues),
    }
