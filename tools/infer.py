"""Detect in your own data: a rig's recordings in 3D; a picture, a folder of pictures or a video in 2D.

python tools/infer.py CONFIG CHECKPOINT SOURCE --out DIR [--score-threshold 0.25] [--device cuda] [--track]

SOURCE with a calib.json is a rig's folder (docs/data.md, "Your own rig"); anything else is pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from bev.engine import load_config, main
from bev.engine.infer import infer
from bev.engine.view_arguments import add_view_arguments, views_of
from bev.viz import RenderError
from bev.viz.arguments import score


def device(text: str) -> str:
    """A device of torch that is there; raises ArgumentTypeError."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {reason}") from error
    return text


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="configuration file of the detector")
    parser.add_argument("checkpoint", help="checkpoint file, or a work folder for its last one")
    parser.add_argument("source", help="a rig's folder, a picture, a folder of pictures or a video")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the detections (JSON) and pictures")
    parser.add_argument("--score-threshold", type=score, default=0.25, help="keep boxes from it on (0..1)")
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=device, default=usual, help=f"of torch (default here: {usual})")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    parser.add_argument("--track", action="store_true", help="number the objects of a video")
    add_view_arguments(parser)
    return parser.parse_args(arguments)


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    cfg = load_config(args.config, args.cfg_options)
    options = {"score_threshold": args.score_threshold, "device": args.device, "follow": args.track}
    print(infer(cfg, args.checkpoint, args.source, args.out, views=views_of(args), **options))
    return 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError, OSError, RenderError)))
