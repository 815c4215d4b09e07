"""Anchor sizes for a configuration's training pictures: ``python tools/anchors.py CONFIG [--count 9]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bev.data.detection2d.anchors import box_sizes, fit_anchors
from bev.engine import load_config, main
from bev.engine.data import picture_dataset
from bev.registry import ConfigError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="k-means with 1 - IoU over the boxes of the training pictures.")
    parser.add_argument("config", help="configuration file with a PictureDataset in train_dataloader")
    parser.add_argument("--count", type=int, default=9, help="number of anchors")
    parser.add_argument("--levels", type=int, default=3, help="levels that they are divided among, evenly")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the network (default: the data's)")
    parser.add_argument("--ratio", type=float, default=4.0, help="bound of the sides' ratios, for the recall")
    parser.add_argument("--seed", type=int, default=0, help="of the starting points")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    args = parser.parse_args(arguments)
    if args.count < 1 or args.levels < 1 or args.count % args.levels:
        parser.error(f"--count {args.count} cannot be divided among --levels {args.levels}")
    return args


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    dataset = picture_dataset(load_config(args.config, args.cfg_options), "train")
    size = tuple(args.size) if args.size else dataset.sizes[0]
    left_out: list[str] = []
    sizes = box_sizes(dataset.pictures, size, left_out if dataset.on_error == "skip" else None)
    if left_out:
        print(f"{len(left_out)} pictures that cannot be used are left out (first: {left_out[0]})", file=sys.stderr)
    try:
        fit = fit_anchors(sizes, args.count, args.seed, ratio=args.ratio)
    except ValueError as error:
        raise ConfigError(f"{dataset.pictures.source}: {error}") from error
    print(f"{len(sizes)} boxes at {size[0]}x{size[1]} px (H x W)")
    print(f"mean IoU {fit.mean_iou:.3f}, sides within a factor of {args.ratio:g}: {fit.recall:.1%}")
    per_level = args.count // args.levels
    rounded = [tuple(max(1, round(side)) for side in pair) for pair in fit.sizes_px.tolist()]
    levels = [tuple(rounded[i : i + per_level]) for i in range(0, args.count, per_level)]
    print(f"sizes_px={tuple(levels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
