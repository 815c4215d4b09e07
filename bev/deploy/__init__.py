"""Deployment: detectors as graphs, proof that they are still the detectors, and running them.

Names are imported when they are asked for: running a graph or an engine needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bev.deploy.build import Exportable, load_rig, prepare_export, save_rig
    from bev.deploy.causes import Cause, diagnose
    from bev.deploy.check import Report, check_file, check_graph
    from bev.deploy.export import write_aoti, write_onnx, write_program
    from bev.deploy.facts import ExportError
    from bev.deploy.graph import DetectorGraph
    from bev.deploy.memory import FrameMemory
    from bev.deploy.pictures import PicturePipeline
    from bev.deploy.pipeline import Pipeline
    from bev.deploy.runtime import AotiRunner, OnnxRunner, ProgramRunner, open_runner
    from bev.deploy.surgery import Surgery
    from bev.deploy.tensorrt import EngineOptions, build_engine
    from bev.deploy.tensorrt_runner import EngineRunner

_MODULES = {
    "build": ("Exportable", "load_rig", "prepare_export", "save_rig"),
    "causes": ("Cause", "diagnose"),
    "check": ("Report", "check_file", "check_graph"),
    "export": ("write_aoti", "write_onnx", "write_program"),
    "facts": ("ExportError",),
    "graph": ("DetectorGraph",),
    "memory": ("FrameMemory",),
    "pictures": ("PicturePipeline",),
    "pipeline": ("Pipeline",),
    "runtime": ("AotiRunner", "OnnxRunner", "ProgramRunner", "open_runner"),
    "surgery": ("Surgery",),
    "tensorrt": ("EngineOptions", "build_engine"),
    "tensorrt_runner": ("EngineRunner",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AotiRunner",
    "Cause",
    "DetectorGraph",
    "EngineOptions",
    "EngineRunner",
    "ExportError",
    "Exportable",
    "FrameMemory",
    "OnnxRunner",
    "PicturePipeline",
    "Pipeline",
    "ProgramRunner",
    "Report",
    "Surgery",
    "build_engine",
    "check_file",
    "check_graph",
    "diagnose",
    "load_rig",
    "open_runner",
    "prepare_export",
    "save_rig",
    "write_aoti",
    "write_onnx",
    "write_program",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
