"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--out results.json] [--show-dir DIR]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from mmengine.config import Config

from bev.engine import load_config, main, prepare, test
from bev.registry import DATASETS
from bev.structures import Boxes3D
from bev.viz import draw_results


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a checkpoint on the test frames of a configuration.")
    parser.add_argument("config", help="configuration file")
    parser.add_argument("checkpoint", help="checkpoint file, or a work folder for its last one")
    parser.add_argument("--out", metavar="JSON", help="write the predictions (nuScenes submission)")
    parser.add_argument("--show-dir", metavar="DIR", help="draw every frame into this folder")
    parser.add_argument("--work-dir", help="where the log goes (default: work_dirs/<config name>)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch under torchrun")
    return parser.parse_args(arguments)


def draw(cfg: Config, predictions: dict[str, Boxes3D], directory: str) -> None:
    """Draw what this process predicted over the original pictures, with LiDAR points."""
    frames = DATASETS.build(
        {**cfg.test_dataloader.dataset, "image": None, "load_points": True, "transforms": [], "cache": "none"}
    )
    draw_results(frames, predictions, directory, [i for i, t in enumerate(frames.tokens) if t in predictions])


def run() -> int:
    args = parse()
    cfg = prepare(load_config(args.config, args.cfg_options), args.work_dir, launcher=args.launcher)
    predictions: dict[str, Boxes3D] = {}
    keep = (lambda batch, boxes: predictions.update(zip(batch.tokens, boxes))) if args.show_dir else None
    metrics = test(cfg, args.checkpoint, args.out, keep)
    print(json.dumps(metrics, indent=2))
    if args.show_dir:
        draw(cfg, predictions, args.show_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
