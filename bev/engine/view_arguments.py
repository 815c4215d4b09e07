"""Command-line arguments that say which views of a picture a 2D detector looks at."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from bev.engine.views import Merge


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """--flip, --scales, --tiles and what belongs to them; see :class:`bev.engine.views.PictureViews`."""
    group = parser.add_argument_group("views of a picture (2D detectors), merged into one list of boxes")
    group.add_argument("--flip", action="store_true", help="look at every view mirrored, too")
    group.add_argument("--scales", nargs="+", type=float, metavar="S", help="of the network's size, e.g. 0.83 1 1.2")
    group.add_argument(
        "--tiles", nargs="+", type=int, metavar="PX", help="overlapping tiles for small objects: a side, or H W, px"
    )
    group.add_argument("--overlap", type=float, help="share of a tile that its neighbour sees too (default 0.2)")
    group.add_argument("--tiles-only", action="store_true", help="leave out the whole picture beside its tiles")
    group.add_argument("--merge", choices=get_args(Merge), help="default: hull with tiles, else fusion")
    group.add_argument("--merge-threshold", type=float, help="default: nms .65, fusion .55, hull .5")
    group.add_argument("--view-batch", type=int, help="views that the network sees at a time (default 4)")


def views_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """What the command line says; None where it says nothing."""
    tiles = args.tiles[0] if args.tiles is not None and len(args.tiles) == 1 else args.tiles
    given = {
        **{"flip": args.flip or None, "scales": args.scales, "tile_px": tiles, "overlap": args.overlap},
        **{"whole": False if args.tiles_only else None, "merge": args.merge, "threshold": args.merge_threshold},
        "batch_size": args.view_batch,
    }
    return {name: value for name, value in given.items() if value is not None} or None
