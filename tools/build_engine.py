"""Build an engine from an exported ONNX file, on the machine that will run it; torch is not needed.

python tools/build_engine.py GRAPH.onnx [--out FILE.engine] [--library tensorrt] [--engine-batch MIN USUAL MAX] [...]

TensorRT (10 or 11) builds on its GPU and keeps the timings of kernels beside the engine. TensorRT-RTX builds without a
GPU, for the compute capabilities named by --targets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bev.deploy.engine_arguments import add_engine_arguments, engine_options
from bev.deploy.facts import ExportError
from bev.deploy.tensorrt import build_engine
from bev.deploy.tensorrt_file import read_notes


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", help="file that tools/export.py wrote")
    parser.add_argument("--out", metavar="FILE", help="engine to write (default: the ONNX file's name)")
    kinds = ("tensorrt", "tensorrt-rtx")
    parser.add_argument("--library", choices=kinds, default="tensorrt", help="(default: tensorrt)")
    add_engine_arguments(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 with one line where the engine cannot be built."""
    args = parse(arguments)
    out = Path(args.out) if args.out else Path(args.onnx).with_suffix(".engine")
    try:
        build_engine(args.onnx, out, engine_options(args), args.library)
    except (ExportError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    notes = read_notes(out)
    where = f"on {notes.device}" if notes.device else f"for {', '.join(notes.options['targets'])}"
    size_mb = out.stat().st_size / 1e6
    print(f"wrote {out}: {notes.kind} {notes.version} {where}, {size_mb:.1f} MB, {notes.build_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
