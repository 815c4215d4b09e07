"""Is a written graph still the detector? Torch against a file, output by output and box by box; the proof of --check.

python tools/check_graph.py CONFIG CHECKPOINT FILE [--rig NPZ] [--pictures PATH ...] [--layers] [--float64]
                            [--fed ARRAY.npy]

FILE is what tools/export.py wrote: *.onnx, *.pt2, *.aoti.pt2 or *.engine. Frames are the first test frames of the
configuration, pictures those given. --fed is the images tensor that a deployed pipeline hands to the network for the
same frames: what differs is named (layout, channels, mean or scale, resize kernel). Exit status 1: something differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bev.deploy.build import Exportable, prepare_export
from bev.deploy.causes import diagnose
from bev.deploy.check import check_file
from bev.deploy.facts import ExportError
from bev.deploy.pictures import network_pictures
from bev.deploy.runtime import Runner, open_runner
from bev.engine import main


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="configuration file")
    parser.add_argument("checkpoint", help="its weights, or a work folder for its last ones")
    parser.add_argument("file", help="what tools/export.py wrote")
    parser.add_argument("--rig", metavar="NPZ", help="calibration (bev.deploy.save_rig); default: first test frame")
    parser.add_argument("--pictures", nargs="+", metavar="PATH", help="of 2D detectors (default: random numbers)")
    parser.add_argument("--layers", action="store_true", help="of ONNX graphs, also layer by layer")
    parser.add_argument("--float64", action="store_true", help="which is nearer to float64")
    parser.add_argument("--fed", metavar="NPY", help="images tensor of a deployed pipeline, to name what differs")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="GPU that an engine runs on (default: 0)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    return parser.parse_args(arguments)


def example_of(args: argparse.Namespace, runner: Runner) -> Exportable:
    """Detector and frames, as many as the file takes."""
    shape = runner.facts.shapes.get("images")
    if shape is None:
        raise ExportError(f"{args.file} does not tell the shape of its images: export it again")
    size_px = None if runner.facts.calibration is not None else (int(shape[-2]), int(shape[-1]))
    if args.pictures and size_px is None:
        raise ExportError("--pictures is for 2D detectors: frames of a rig come from the configuration's test set")
    batch = len(args.pictures) if args.pictures else int(shape[0])
    example = prepare_export(args.config, args.checkpoint, args.rig, batch, size_px, args.cfg_options)
    if not args.pictures:
        return example
    return replace(example, images=network_pictures(args.pictures, example.metadata["picture"]))


def run() -> int:
    args = parse()
    runner = open_runner(args.file, threads=1, device=args.device)
    example = example_of(args, runner)
    report = check_file(example, args.file, args.float64, args.layers, runner)
    print(report.text())
    causes = []
    if args.fed:
        causes = diagnose(example.images.numpy(), np.load(Path(args.fed), allow_pickle=False))
        lines = [f"fed images, {cause.name}: {cause.message}" for cause in causes]
        print("\n".join(lines) or "fed images: no difference")
    return 0 if report.passed and not causes else 1


if __name__ == "__main__":
    sys.exit(main(run, also=(ExportError, ImportError, OSError, ValueError)))
