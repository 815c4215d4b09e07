"""Command-line arguments of building an engine, shared by the tools that do."""

from __future__ import annotations

import argparse

from bev.deploy.tensorrt import EngineOptions
from bev.deploy.tensorrt_api import HARDWARE

_PLAIN = EngineOptions()


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """How an engine is built; see :class:`bev.deploy.tensorrt.EngineOptions`."""
    group = parser.add_argument_group("engines")
    group.add_argument(
        "--engine-batch", nargs=3, type=int, metavar=("MIN", "USUAL", "MAX"), default=list(_PLAIN.batch),
        help="batches of a graph whose batch varies (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--level", type=int, default=_PLAIN.level, help="0, fast build, to 5, fast engine (default: 3)")
    group.add_argument("--workspace-mb", type=int, help="scratch memory to plan with (default: all there is)")
    group.add_argument("--hardware", choices=tuple(HARDWARE), default=_PLAIN.hardware, help="other GPUs it runs on")
    group.add_argument("--version-compatible", action="store_true", help="runs with later versions of TensorRT, too")
    group.add_argument("--tf32", action="store_true", help="round products of float32 as TF32 does")
    group.add_argument("--targets", nargs="+", default=list(_PLAIN.targets), help="GPUs of TensorRT-RTX engines")


def engine_options(args: argparse.Namespace) -> EngineOptions:
    """Of the parsed arguments.

    Raises:
        ExportError: a value outside its range.
    """
    low, usual, high = args.engine_batch
    memory = None if args.workspace_mb is None else args.workspace_mb << 20
    compatible, targets = args.version_compatible, tuple(args.targets)
    return EngineOptions((low, usual, high), memory, args.level, args.hardware, compatible, args.tf32, targets)
