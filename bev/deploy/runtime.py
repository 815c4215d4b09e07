"""Running a written graph: onnxruntime, or torch for an exported program. No detector is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev._optional import require
from bev.deploy.export import METADATA, ExportError, described

Arrays = dict[str, np.ndarray]


class OnnxRunner:
    """A graph in onnxruntime on the CPU.

    Args:
        path: ``*.onnx`` of this library.
        threads: of one operator; None for onnxruntime's choice.

    Attributes:
        facts: what the graph is (``GraphFacts``).
        more: what else was kept with it.

    Raises:
        ExportError: no such file, or not a graph of this library.
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        runtime = require("onnxruntime", extra="export")
        if not Path(path).is_file():
            raise ExportError(f"{path} does not exist")
        options = runtime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception class for every status, with no common name
            raise ExportError(f"{path} cannot be run: {error}") from error
        notes = self.session.get_modelmeta().custom_metadata_map
        if METADATA not in notes:
            raise ExportError(f"{path} is not a graph of this library: it has no {METADATA!r} description")
        self.facts, self.more = described(notes[METADATA], path)

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name.

        Raises:
            ValueError: an input is missing.
        """
        missing = [name for name in self.facts.inputs if name not in inputs]
        if missing:
            raise ValueError(f"the graph needs the inputs {missing}")
        kept = {value.name for value in self.session.get_inputs()}  # an input that nothing depends on is dropped
        values = self.session.run(None, {name: np.asarray(inputs[name]) for name in self.facts.inputs if name in kept})
        return dict(zip([value.name for value in self.session.get_outputs()], values))


class ProgramRunner:
    """A torch exported program (``*.pt2``); as :class:`OnnxRunner`."""

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise ExportError(f"{path} does not exist")
        notes = {METADATA: ""}
        try:
            self.module = torch.export.load(path, extra_files=notes).module()
        except Exception as error:  # whatever the archive's bytes lead torch's reader to
            raise ExportError(f"{path} is not an exported program ({type(error).__name__}: {error})") from error
        self.facts, self.more = described(notes[METADATA], path)

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name."""
        with torch.no_grad():
            found = self.module(*(torch.as_tensor(np.asarray(inputs[name])) for name in self.facts.inputs))
        return {name: value.numpy() for name, value in zip(self.facts.outputs, found)}
