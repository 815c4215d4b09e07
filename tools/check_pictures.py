"""What is in a configuration's pictures, what is wrong with them, and how they look:

python tools/check_pictures.py CONFIG [--stage train] [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bev.data import Draw
from bev.data.detection2d.check import check_pictures
from bev.engine import load_config, main
from bev.engine.data import picture_dataset
from bev.structures import collate_images
from bev.viz.boxes2d import batch_sheet, write_picture


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Check a data set of pictures, and draw what the network will see.")
    parser.add_argument("config", help="configuration file with a PictureDataset")
    parser.add_argument("--stage", choices=("train", "val", "test"), default="train", help="whose data loader")
    parser.add_argument("--out", metavar="DIR", type=Path, help="draw sheets of augmented pictures with labels into it")
    parser.add_argument("--sheets", type=int, default=2, help="of sixteen pictures each")
    parser.add_argument("--no-read", action="store_true", help="look at annotations alone, decode no picture")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    return parser.parse_args(arguments)


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    dataset = picture_dataset(load_config(args.config, args.cfg_options), args.stage, on_error="skip")
    report = check_pictures(dataset.pictures, read=not args.no_read)
    print(*report.lines(), sep="\n")
    for number in range(args.sheets if args.out else 0):
        first = 16 * number
        draws = [Draw(i % len(dataset), (0, i), (0, number)) for i in range(first, first + min(16, len(dataset)))]
        batch = collate_images([dataset[draw] for draw in draws])
        path = args.out / f"{args.stage}_{number}.png"
        write_picture(path, batch_sheet(batch, batch.boxes or [], dataset.pictures.classes, with_scores=False))
        print(path)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(run))
