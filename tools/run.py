"""Detect with an exported graph or an engine and measure it: a rig's recordings in 3D; pictures or a video in 2D.

python tools/run.py GRAPH SOURCE --out DIR [--score-threshold 0.25] [--threads N] [--frames N]

GRAPH is what tools/export.py wrote (*.onnx, *.pt2, *.aoti.pt2, *.engine). SOURCE with a calib.json is a rig's folder
(docs/data.md, "Your own rig"); anything else is pictures. Writes detections.json and times.json, prints the times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bev.deploy import ExportError
from bev.deploy.loop import run_graph
from bev.engine import main
from bev.viz.arguments import score


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", help="file that tools/export.py wrote")
    parser.add_argument("source", help="a rig's folder, a picture, a folder of pictures or a video")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for detections, times and drawn pictures")
    parser.add_argument("--score-threshold", type=score, default=0.25, help="keep boxes from it on (0..1)")
    parser.add_argument("--threads", type=int, help="of onnxruntime (default: its own choice)")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="GPU that an engine runs on (default: 0)")
    parser.add_argument("--frames", type=int, metavar="N", help="of a rig's folder at most (default: all)")
    parser.add_argument("--warm-up", type=int, default=1, metavar="N", help="first frames without times (default: 1)")
    return parser.parse_args(arguments)


def run() -> int:
    args = parse()
    options = {"score_threshold": args.score_threshold, "threads": args.threads, "device": args.device}
    written, times = run_graph(
        args.graph, args.source, args.out, **options, limit=args.frames, warm_up=args.warm_up
    )
    print(times.text())
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ExportError, ImportError, OSError, ValueError)))
