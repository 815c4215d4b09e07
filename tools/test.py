"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--out JSON] [--report DIR] [--show-dir DIR]``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from bev.engine import load_config, main, prepare, test
from bev.engine.view_arguments import add_view_arguments, views_of
from bev.registry import DATASETS, ConfigError
from bev.viz import draw_results
from bev.viz.boxes2d import draw_found
from bev.viz.sources import full_size
from projects.mmdet3d import run as openmmlab


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a checkpoint on the test frames of a configuration.")
    parser.add_argument("config", help="configuration file, also of mmdet and mmdet3d (mmdet3d::FOLDER/NAME.py)")
    parser.add_argument("checkpoint", help="checkpoint file, or a work folder for its last one")
    parser.add_argument("--out", metavar="JSON", help="write the predictions (nuScenes submission, COCO results)")
    parser.add_argument("--report", metavar="DIR", help="write report.html and report.md with plots into this folder")
    parser.add_argument("--show-dir", metavar="DIR", help="draw every frame into this folder")
    parser.add_argument("--work-dir", help="where the log goes (default: work_dirs/<config name>)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch under torchrun")
    add_view_arguments(parser)
    return parser.parse_args(arguments)


def draw(cfg: Config, predictions: dict[str, Any], directory: str) -> list[str]:
    """Draw what this process predicted over the original pictures, with LiDAR points; the files' paths."""
    if cfg.test_dataloader.dataset.get("type") == "PictureDataset":
        return [str(path) for path in draw_found(DATASETS.build(cfg.test_dataloader.dataset), predictions, directory)]
    frames = full_size(cfg.test_dataloader.dataset)
    positions = [i for i, token in enumerate(frames.tokens) if token in predictions]
    return [str(path) for path in draw_results(frames, predictions, directory, positions)]


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    if (foreign := openmmlab.openmmlab_config(args.config)) is not None:
        if args.out or args.show_dir or args.report or views_of(args):
            what = "--out, --report, --show-dir and views"
            raise ConfigError(f"{what} are not offered for configurations of mmdet and mmdet3d")
        choices = {"work_dir": args.work_dir, "launcher": args.launcher}
        print(json.dumps(openmmlab.test(foreign, args.checkpoint, args.cfg_options, **choices), indent=2))
        return 0
    cfg = prepare(load_config(args.config, args.cfg_options), args.work_dir, launcher=args.launcher)
    if (views := views_of(args)) is not None:
        cfg.test_cfg = {**(cfg.get("test_cfg") or {}), "views": views}
    predictions: dict[str, Any] = {}  # Boxes3D, or Boxes2D of single pictures
    keep = (lambda batch, boxes: predictions.update(zip(batch.tokens, boxes))) if args.show_dir else None
    metrics = test(cfg, args.checkpoint, args.out, keep, args.report)
    # JSON knows no NaN: an error that nuScenes does not define for a class is null.
    defined = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    print(json.dumps(defined, indent=2))
    if args.report:
        print(f"report: {args.report}/report.html")
    if args.show_dir:
        print(*draw(cfg, predictions, args.show_dir), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
