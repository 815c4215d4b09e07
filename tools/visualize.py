"""Draw frames: cameras with boxes and the bird's-eye view, from results, a checkpoint or a key frame's folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bev.data import NuScenesDataset
from bev.data.infos.dataset import load_frame
from bev.engine import load_config, main, prepare
from bev.structures import Boxes3D
from bev.viz import DrawOptions, RenderError, draw_frame, draw_results, show_results
from bev.viz.arguments import positive_int, score
from bev.viz.sources import predicted, submitted


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; exits with one line where it makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--results", metavar="JSON", help="a submission; needs --root, --version, --split")
    source.add_argument("--config", help="configuration whose test frames are predicted; needs --checkpoint")
    source.add_argument("--frame", metavar="DIR", help="a folder with one key frame: info pickle, images, LiDAR")
    parser.add_argument("--checkpoint", help="checkpoint file or work folder")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    parser.add_argument("--root", help="nuScenes folder that --results was made on")
    parser.add_argument("--version", default="v1.0-trainval")
    parser.add_argument("--split", default="val", help="of --results, which may have a part of it (default val)")
    parser.add_argument("--tokens", nargs="+", help="sample tokens to draw")
    parser.add_argument("--frames", type=positive_int, default=6, help="or how many, spread evenly (default 6)")
    parser.add_argument("--score-threshold", type=score, default=0.25, help="draw predictions from it on (0..1)")
    parser.add_argument("--out-dir", default="pictures")
    parser.add_argument("--out", default="frame.png", help="picture of --frame")
    parser.add_argument("--window", action="store_true", help="an interactive Open3D window instead of files")
    args = parser.parse_args(arguments)
    if args.results and not args.root:
        parser.error("--results needs --root, the nuScenes folder that it was made on")
    if args.config and not args.checkpoint:
        parser.error("--config needs --checkpoint")
    return args


def source(args: argparse.Namespace) -> tuple[Any, list[int], Mapping[str, Boxes3D] | None]:
    """A data set, positions of the frames to draw, and their predictions by token."""
    if args.frame:
        return [load_frame(args.frame)], [0], None
    if args.results:
        frames = NuScenesDataset(args.root, args.version, args.split, load_points=True)
        return frames, *submitted(args.results, frames, args.tokens, args.frames)
    cfg = prepare(load_config(args.config, args.cfg_options))
    return predicted(cfg, args.checkpoint, args.tokens, args.frames)


def run() -> int:
    args = parse()
    options = DrawOptions(score_threshold=args.score_threshold)
    frames, positions, predictions = source(args)
    if args.window:
        show_results(frames, predictions, positions, options)
    elif args.frame:
        print(draw_frame(frames[0], None, args.out, options))
    else:
        print(*draw_results(frames, predictions, args.out_dir, positions, options), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError, RenderError)))
