"""Running a written graph, by the program that its file is for. No detector is built; ONNX and engines need no torch.

Every runner has ``facts`` and ``more`` of its graph and maps arrays by input name to arrays by output name. Those that
``next_*`` names are fit to be the ``state_*`` of the next call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bev._optional import require
from bev.deploy.facts import METADATA, ExportError, GraphFacts, described

Arrays = dict[str, Any]  # numpy arrays; state may stay on a device, see bev.deploy.tensorrt_runner


class Runner(Protocol):
    """What runs a graph.

    Attributes:
        facts: what the graph is.
        more: what else was kept with it.
    """

    facts: GraphFacts
    more: dict[str, Any]

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name; raises ValueError where an input is missing or amiss."""


def open_runner(path: str | Path, threads: int | None = None, device: int = 0) -> Runner:
    """The runner of a file: ``*.onnx``, ``*.pt2`` (exported program), ``*.aoti.pt2``, ``*.engine``.

    Args:
        path: written by ``tools/export.py``.
        threads: of onnxruntime.
        device: index of the GPU, for engines.

    Raises:
        ExportError: another suffix; or as the runners.
    """
    name = Path(path).name
    if name.endswith(".onnx"):
        return OnnxRunner(path, threads)
    if name.endswith(".aoti.pt2"):
        return AotiRunner(path)
    if name.endswith(".pt2"):
        return ProgramRunner(path)
    if name.endswith(".engine"):
        from bev.deploy.tensorrt_runner import EngineRunner

        return EngineRunner(path, device)
    raise ExportError(f"{path} is no graph: *.onnx, *.pt2, *.aoti.pt2 and *.engine are")


def check_names(facts: GraphFacts, inputs: Mapping[str, Any]) -> None:
    """Raises ValueError where an input is missing."""
    missing = [name for name in facts.inputs if name not in inputs]
    if missing:
        raise ValueError(f"the graph needs the inputs {missing}")


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
            ValueError: an input is missing, or of a shape that the graph was not written for.
        """
        check_names(self.facts, inputs)
        # An input that nothing depends on is dropped from the file.
        given = {value.name: np.asarray(inputs[value.name]) for value in self.session.get_inputs()}
        for value in self.session.get_inputs():
            shape = given[value.name].shape
            fits = len(shape) == len(value.shape) and all(
                not isinstance(wanted, int) or wanted == size for wanted, size in zip(value.shape, shape)
            )
            if not fits:
                raise ValueError(f"{value.name} has shape {shape}, the graph is written for {tuple(value.shape)}")
        values = self.session.run(None, given)
        return dict(zip([value.name for value in self.session.get_outputs()], values))


class ProgramRunner:
    """A torch exported program (``*.pt2``) on the CPU; as :class:`OnnxRunner`."""

    def __init__(self, path: str | Path) -> None:
        import torch

        if not Path(path).is_file():
            raise ExportError(f"{path} does not exist")
        notes = {METADATA: ""}
        try:
            self.module: Any = torch.export.load(path, extra_files=notes).module()
        except Exception as error:  # whatever the archive's bytes lead torch's reader to
            raise ExportError(f"{path} is not an exported program ({type(error).__name__}: {error})") from error
        self.facts, self.more = described(notes[METADATA], path)

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name."""
        check_names(self.facts, inputs)
        return _run_in_torch(self.module, self.facts, inputs, "cpu")


class AotiRunner:
    """An AOTInductor package (``*.aoti.pt2`` with its ``.json`` beside it), on the device it was compiled for.

    The package is native code: it is loaded as a library is, so load only what you trust.
    """

    def __init__(self, path: str | Path) -> None:
        import torch

        if not Path(path).is_file():
            raise ExportError(f"{path} does not exist")
        notes = Path(f"{path}.json")
        if not notes.is_file():
            raise ExportError(f"{path} has no description beside it ({notes.name})")
        self.facts, self.more = described(notes.read_text(), notes)
        self.device = "cpu"
        try:
            self.module: Any = torch._inductor.aoti_load_package(os.fspath(path))
            self.device = self.module.get_metadata().get("AOTI_DEVICE_KEY", "cpu")
        except Exception as error:  # whatever the package's bytes lead torch's loader to
            raise ExportError(f"{path} cannot be loaded ({type(error).__name__}: {error})") from error

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name."""
        check_names(self.facts, inputs)
        return _run_in_torch(self.module, self.facts, inputs, self.device)


def _run_in_torch(module: Any, facts: GraphFacts, inputs: Mapping[str, Any], device: str) -> Arrays:
    import torch

    given = [torch.as_tensor(np.asarray(inputs[name])).to(device) for name in facts.inputs]
    with torch.no_grad():
        found = module(*given)
    return {name: value.cpu().numpy() for name, value in zip(facts.outputs, found)}
