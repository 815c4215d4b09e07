"""Deployment: detectors as graphs, proof that they are still the detectors, and running them."""

from bev.deploy.build import Exportable, load_rig, prepare_export, save_rig
from bev.deploy.causes import Cause, diagnose
from bev.deploy.check import Report, check_graph
from bev.deploy.export import ExportError, write_aoti, write_onnx, write_program
from bev.deploy.graph import DetectorGraph
from bev.deploy.pipeline import Pipeline
from bev.deploy.runtime import OnnxRunner, ProgramRunner
from bev.deploy.surgery import Surgery

__all__ = [
    "Cause",
    "DetectorGraph",
    "ExportError",
    "Exportable",
    "OnnxRunner",
    "Pipeline",
    "ProgramRunner",
    "Report",
    "Surgery",
    "check_graph",
    "diagnose",
    "load_rig",
    "prepare_export",
    "save_rig",
    "write_aoti",
    "write_onnx",
    "write_program",
]
