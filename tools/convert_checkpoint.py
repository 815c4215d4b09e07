"""Published weights as a checkpoint of this library: ``python tools/convert_checkpoint.py SRC DST [--from FAMILY]``.

SRC is a file of DETR3D, BEVDet, BEVDepth, BEVFormer, PETR or StreamPETR (the authors' or mmdet3d 1.x's), or of YOLOX
(``.pth`` or its ``.onnx`` export); the configuration is found among the published ones or given. Everything must fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # projects are beside tools, not installed

from bev.engine import main  # noqa: E402
from bev.engine.conversion import MMDET3D, convert_file, convert_onnx  # noqa: E402
from bev.models.checkpoints import FAMILIES  # noqa: E402
from bev.registry import ConfigError  # noqa: E402

for path in sorted(ROOT.glob("projects/*/checkpoint.py")):  # each makes its method's files known
    import_module(f"projects.{path.parent.name}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Convert published weights.")
    parser.add_argument("source", metavar="SRC", help="published checkpoint")
    parser.add_argument("destination", metavar="DST", help="checkpoint to write")
    families = (*sorted(FAMILIES), MMDET3D)
    parser.add_argument("--from", dest="family", choices=families, help="whose file it is (default: told by its names)")
    parser.add_argument("--config", help="configuration of the network (default: the published one that fits)")
    parser.add_argument("--boxes", choices=("mmdet3d_v0", "mmdet3d_v1"), help="box code of SRC: mmdet3d < 1.0, >= 1.0")
    parser.add_argument("--allow-partial", action="store_true", help="write what fits, although not all does")
    parser.add_argument("--no-ema", action="store_true", help="the plain weights, although SRC has a moving average")
    return parser.parse_args(arguments)


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    if args.source.endswith(".onnx"):
        if args.config is None:
            raise ConfigError("an ONNX file needs --config, e.g. configs/yolox/yolox_nano_coco.py")
        print(convert_onnx(args.source, args.destination, args.config))
    else:
        options = dict(boxes=args.boxes, partial=args.allow_partial, plain=args.no_ema, root=ROOT)
        done = convert_file(args.source, args.destination, args.family, args.config, **options)
        print(*done.lines, sep="\n")
    print(f"wrote {args.destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
