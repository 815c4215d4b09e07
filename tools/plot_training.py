"""Plot a run's losses, learning rate, gradients and scores: `python tools/plot_training.py WORK_DIR --out run.png`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bev.engine import main
from bev.engine.hooks.scalars import FILE
from bev.viz.plots import training_curves


def run() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help=f"a work folder, or its {FILE}")
    parser.add_argument("--out", type=Path, default=Path("training.png"))
    args = parser.parse_args()
    data = training_curves(args.run / FILE if args.run.is_dir() else args.run)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError,)))
