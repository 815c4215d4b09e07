"""The command line of tools/visualize.py, and the types of its arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from bev.viz.movie import FILM_SUFFIXES
from bev.viz.options import POINT_COLORS, DrawOptions

PICTURE_SUFFIXES = (".png", ".jpg")
# Outputs that show frames one after the other, so that they get a whole scene.
SCENE_SUFFIXES = (*FILM_SUFFIXES, ".html", ".rrd")


def positive_int(text: str) -> int:
    """A whole number of at least 1; raises ArgumentTypeError."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # false for NaN, too
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} in {low:g}..{high:g}")
    return value


def score(text: str) -> float:
    """A number in 0..1; raises ArgumentTypeError."""
    return _number(text, 0, 1, "a number")


def _range(text: str) -> float:
    return _number(text, 5, 500, "a distance (m)")


def _degrees(text: str) -> float:
    return _number(text, -360, 360, "an angle (degrees)")


def _fps(text: str) -> float:
    return _number(text, 0.1, 120, "a rate")


def _place(text: str) -> float:
    return _number(text, -500, 500, "a place (m)")


def parser(description: str | None) -> argparse.ArgumentParser:
    """All arguments of the command."""
    made = argparse.ArgumentParser(description=description)
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument("--results", metavar="JSON", help="a submission; needs --root, --version, --split")
    source.add_argument("--tracks", metavar="JSON", help="a tracking submission; needs the same")
    source.add_argument("--truth", action="store_true", help="ground truth alone; needs the same")
    source.add_argument("--config", help="configuration whose test frames are predicted; needs --checkpoint")
    source.add_argument("--frame", metavar="DIR", help="a folder with one key frame: info pickle, images, LiDAR")
    made.add_argument("--checkpoint", help="checkpoint file or work folder")
    made.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    made.add_argument("--root", help="nuScenes folder that --results was made on")
    made.add_argument("--version", default="v1.0-trainval")
    made.add_argument("--split", default="val", help="of --results, which may have a part of it (default val)")
    _add_choice(made)
    _add_look(made)
    made.add_argument("--out-dir", default="pictures", help="folder for a PNG a frame")
    made.add_argument("--out", type=Path, help="or one file: .png .jpg (one frame), .mp4 .gif .html .rrd (a scene)")
    made.add_argument("--fps", type=_fps, default=4.0, help="frames a second of a film (default 4)")
    made.add_argument("--window", action="store_true", help="an Open3D window that plays the scene instead of files")
    return made


def _add_choice(made: argparse.ArgumentParser) -> None:
    choice = made.add_argument_group("frames")
    choice.add_argument("--scene", metavar="NAME", help="all frames of a scene; films default to the first one")
    choice.add_argument("--tokens", nargs="+", help="sample tokens to draw")
    choice.add_argument("--frames", type=positive_int, default=6, help="or how many, spread evenly (default 6)")


def _add_look(made: argparse.ArgumentParser) -> None:
    look = made.add_argument_group("look")
    look.add_argument("--score-threshold", type=score, default=0.25, help="draw predictions from it on (0..1)")
    look.add_argument("--points", choices=POINT_COLORS, default="height", help="what the points' colours mean")
    look.add_argument("--view", choices=("bev", "free"), default="bev", help="from above, or in perspective")
    look.add_argument("--azimuth", type=_degrees, default=0.0, help="turn the free view, degrees")
    look.add_argument("--range", type=_range, default=55.0, help="of the bird's-eye view to each side, m (default 55)")
    look.add_argument("--lidar", action="store_true", help="a sheet of what the LiDAR tools make of one frame; --out")
    look.add_argument("--map", action="store_true", help="the map's drivable area on the ground")
    look.add_argument("--show", nargs="+", choices=("depth", "bev"), default=[], help="heat maps of --config's model")
    look.add_argument(
        "--query", nargs=2, type=_place, metavar=("X", "Y"), help="where the model looks for this place (m, reference)"
    )


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The command line; exits with one line where it makes no sense."""
    made = parser(description)
    args = made.parse_args(arguments)
    on_root = "--results" if args.results else "--tracks" if args.tracks else "--truth" if args.truth else ""
    if on_root and not args.root:
        made.error(f"{on_root} needs --root, the nuScenes folder that it was made on")
    if args.config and not args.checkpoint:
        made.error("--config needs --checkpoint")
    if (args.show or args.query) and not args.config:
        made.error("--show and --query look into a model: they need --config and --checkpoint")
    if args.scene and args.tokens:
        made.error("--scene and --tokens are two ways to choose frames: give one")
    known = (*PICTURE_SUFFIXES, *SCENE_SUFFIXES)
    if args.out and args.out.suffix not in known:
        made.error(f"--out: {args.out} is none of {' '.join(known)}")
    if args.lidar and (args.window or not (args.frame or args.out) or args.out and args.out.suffix in SCENE_SUFFIXES):
        made.error("--lidar draws one frame: it needs --out with a .png or .jpg")
    args.scenic = args.window or bool(args.out and args.out.suffix in SCENE_SUFFIXES)
    return args


def options_of(args: argparse.Namespace) -> DrawOptions:
    """What the command line says about the look of a picture."""
    return DrawOptions(
        score_threshold=args.score_threshold,
        range_m=args.range,
        point_color=args.points,
        view=args.view,
        azimuth_rad=math.radians(args.azimuth),
    )
