"""Check data and conventions before training: ``python tools/check_data.py CONFIG``.

Counts, histograms, a round trip of the ground truth through the evaluator, pictures with boxes, and warnings that name
the known silent mistakes (docs/data.md). Exits with 1 where it finds one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bev.engine import load_config, main
from bev.engine.check_data import check_data
from bev.viz import RenderError


def count(text: str) -> int:
    """A whole number of at least 0; raises ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of frames")
    return int(text)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="configuration file")
    parser.add_argument("--out", metavar="DIR", help="for report and pictures (default: work_dirs/check_data/NAME)")
    parser.add_argument("--frames", type=count, default=4, help="frames of each data set to draw (default 4; 0: none)")
    parser.add_argument("--predictions", metavar="JSON", help="a submission whose mistakes are looked for, too")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    return parser.parse_args(arguments)


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out or Path("work_dirs/check_data") / Path(args.config).stem)
    return 1 if check_data(cfg, out, args.frames, args.predictions) else 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError, OSError, RenderError)))
