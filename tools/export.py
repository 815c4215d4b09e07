"""Export a detector: ``python tools/export.py CONFIG CHECKPOINT --format onnx --out DIR [--check]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bev.deploy.build import Exportable, prepare_export
from bev.deploy.check import check_file, check_graph
from bev.deploy.cuda import CudaError
from bev.deploy.dataset import compare_on_dataset
from bev.deploy.engine_arguments import add_engine_arguments, engine_options
from bev.deploy.export import ExportError, example_arrays, write_aoti, write_onnx, write_program
from bev.deploy.graph import DetectorGraph
from bev.deploy.quantize.command import add_arguments, check_arguments, reduce_file
from bev.deploy.surgery import Surgery
from bev.deploy.surgery_report import surgery_report, table
from bev.deploy.tensorrt import build_engine
from bev.engine import load_config, main

ENGINES = ("tensorrt", "tensorrt-rtx")
SUFFIX = {"onnx": ".onnx", "torch-export": ".pt2", "aoti": ".aoti.pt2", **dict.fromkeys(ENGINES, ".engine")}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a detector as one graph: uint8 images in, boxes out.")
    parser.add_argument("config", help="configuration file")
    parser.add_argument("checkpoint", help="its weights, or a work folder for its last ones; *.onnx: official YOLOX")
    parser.add_argument("--format", choices=tuple(SUFFIX), default="onnx", help="what to write (default: onnx)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the graph")
    parser.add_argument("--rig", metavar="NPZ", help="calibration (bev.deploy.save_rig); default: first test frame")
    parser.add_argument("--bake", action="store_true", help="make the calibration a constant of the graph")
    parser.add_argument("--batch", type=int, default=1, help="frames of a fixed batch")
    parser.add_argument("--dynamic-batch", action="store_true", help="let the batch vary")
    parser.add_argument("--outputs", choices=("boxes", "raw", "both"), default="boxes", help="(default: boxes)")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="px of pictures (2D detectors)")
    parser.add_argument("--plugins", action="store_true", help="fused operators as TensorRT plugins (onnx, tensorrt)")
    parser.add_argument("--check", action="store_true", help="compare with torch, output by output and box by box")
    parser.add_argument("--layers", action="store_true", help="with --check: also layer by layer")
    parser.add_argument("--dataset", action="store_true", help="score torch and the file on the test split (onnx)")
    parser.add_argument("--float64", action="store_true", help="with --check: which is nearer to float64")
    parser.add_argument("--surgery-report", action="store_true", help="table of what each change before export gains")
    parser.add_argument("--pools-as-convs", action="store_true", help="average pooling as depthwise convolution (onnx)")
    add_arguments(parser)
    add_engine_arguments(parser)
    return parser.parse_args(arguments)


def write(args: argparse.Namespace, example: Exportable, path: Path) -> int:
    """Write the graph and report on it; the process's exit status."""
    surgery = Surgery(pools_as_convs=args.pools_as_convs)
    graph, passed = example.graph(args.bake, args.outputs, args.plugins, surgery), True
    if args.format in ("torch-export", "aoti"):
        write_as = write_program if args.format == "torch-export" else write_aoti
        write_as(graph, path, args.dynamic_batch, example.metadata)
        passed = proven(args, example, path) if args.check else True
    else:
        path, passed = write_standard(args, example, graph, path)
    if args.surgery_report:
        print(table(surgery_report(example, args.bake, args.pools_as_convs)))
    if passed:
        print(f"wrote {path}: inputs {', '.join(graph.facts.inputs)}; outputs {', '.join(graph.facts.outputs)}")
    return 0 if passed else 1


def write_standard(
    args: argparse.Namespace, example: Exportable, graph: DetectorGraph, path: Path
) -> tuple[Path, bool]:
    """ONNX in the precision asked for, and an engine of it; what was written, and whether the proof passed.

    What is compared with torch is the graph in float32 and, where it can run, its engine; what a precision costs is for
    ``--dataset`` to say.
    """
    exact = onnx_path = path.with_suffix(".onnx")
    exported = write_onnx(graph, exact, args.dynamic_batch, example.metadata)
    if args.precision != "fp32":
        onnx_path = reduce_file(args, exact, example.model, example_arrays(graph))
        path = path.with_name(f"{path.stem}_{args.precision}{path.suffix}")
    if args.format in ENGINES:
        build_engine(onnx_path, path, engine_options(args), args.format)
    if args.check:
        report = check_graph(example, graph, exact, exported if args.layers else None, args.float64)
        print(report.text())
        if not report.passed or not engine_proven(args, example, path):
            return path, False
    if args.dataset:
        print(compare_on_dataset(load_config(args.config), args.checkpoint, onnx_path, args.out).text())
    return path, True


def proven(args: argparse.Namespace, example: Exportable, path: Path) -> bool:
    """Compare a file with torch, print the report, and tell whether it passed."""
    report = check_file(example, path, args.float64)
    print(report.text())
    return report.passed


def engine_proven(args: argparse.Namespace, example: Exportable, path: Path) -> bool:
    """The same for an engine in full float32; True where there is none, or none that can run here, which is said."""
    if args.format not in ENGINES:
        return True
    if args.precision != "fp32" or args.tf32:
        print("the engine rounds more than float32 does: it was not compared with torch")
        return True
    try:
        return proven(args, example, path)
    except (CudaError, ImportError) as error:
        print(f"the engine was not run: {error}")
        return True


def run() -> int:
    args = parse()
    if args.plugins and (args.format not in ("onnx", "tensorrt") or args.check):
        raise ExportError("--plugins is for --format onnx or tensorrt; onnxruntime has no such nodes: --check cannot")
    if args.dataset and (args.format != "onnx" or args.plugins or args.outputs == "raw"):
        raise ExportError("--dataset scores the boxes of an ONNX graph of standard operators")
    check_arguments(args)
    engine_options(args)  # a wrong value is told before anything is written
    batch = max(args.batch, 2) if args.dynamic_batch else args.batch
    size = None if args.size is None else (args.size[0], args.size[1])
    example = prepare_export(args.config, args.checkpoint, args.rig, batch, size, args.cfg_options)
    return write(args, example, Path(args.out) / f"{Path(args.config).stem}{SUFFIX[args.format]}")


if __name__ == "__main__":
    sys.exit(main(run, (ExportError, ImportError, ValueError)))
