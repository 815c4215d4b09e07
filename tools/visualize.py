"""Draw frames: cameras with boxes and the bird's-eye view, from results, a checkpoint or a key frame's folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bev.data import NuScenesDataset
from bev.data.infos.dataset import load_frame
from bev.engine import load_config, main, prepare, test
from bev.evaluation.nuscenes.submission import boxes_of, read_submission, to_ref
from bev.registry import DATASETS, ConfigError
from bev.structures import Boxes3D
from bev.viz import DrawOptions, RenderError, draw_frame, draw_results, show_results


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--results", metavar="JSON", help="a submission; needs --root, --version, --split")
    source.add_argument("--config", help="configuration whose test frames are predicted; needs --checkpoint")
    source.add_argument("--frame", metavar="DIR", help="a folder with one key frame: info pickle, images, LiDAR")
    parser.add_argument("--checkpoint", help="checkpoint file or work folder")
    parser.add_argument("--root", help="nuScenes folder")
    parser.add_argument("--version", default="v1.0-trainval")
    parser.add_argument("--split", default="val")
    parser.add_argument("--tokens", nargs="+", help="sample tokens to draw")
    parser.add_argument("--frames", type=int, default=6, help="how many frames, spread over the split (default 6)")
    parser.add_argument("--score-threshold", type=float, default=0.25)
    parser.add_argument("--out-dir", default="pictures")
    parser.add_argument("--out", default="frame.png", help="picture of --frame")
    parser.add_argument("--window", action="store_true", help="an interactive Open3D window instead of files")
    return parser.parse_args(arguments)


def from_results(args: argparse.Namespace) -> tuple[Any, Mapping[str, Boxes3D]]:
    """The frames of the split and the submission's boxes in their reference frames."""
    if args.root is None:
        raise ConfigError("--results needs --root, the nuScenes folder that it was made on")
    frames = NuScenesDataset(args.root, args.version, args.split, load_points=True)
    submission = read_submission(args.results)
    poses = dict(zip(frames.tokens, frames.poses()))
    return frames, {t: to_ref(boxes_of(r), poses[t], "lidar") for t, r in submission.results.items() if t in poses}


def from_checkpoint(args: argparse.Namespace) -> tuple[Any, Mapping[str, Boxes3D]]:
    """The test frames of a configuration at full size, and what the checkpoint predicts on those to be drawn."""
    if args.checkpoint is None:
        raise ConfigError("--config needs --checkpoint")
    cfg = prepare(load_config(args.config))
    cfg.test_dataloader.dataset.max_samples = args.frames
    cfg.test_evaluator.partial = True
    predictions: dict[str, Boxes3D] = {}
    test(cfg, args.checkpoint, on_result=lambda batch, boxes: predictions.update(zip(batch.tokens, boxes)))
    drawn = {**cfg.test_dataloader.dataset, "image": None, "load_points": True, "transforms": [], "cache": "none"}
    return DATASETS.build(drawn), predictions


def run() -> int:
    args = parse()
    options = DrawOptions(score_threshold=args.score_threshold)
    if args.frame:
        frames: Any = [load_frame(args.frame)]
        if args.window:
            show_results(frames, None, [0], options)
        else:
            print(draw_frame(frames[0], None, args.out, options))
        return 0
    frames, predictions = from_results(args) if args.results else from_checkpoint(args)
    indices = _chosen(frames, args)
    if args.window:
        show_results(frames, predictions, indices, options)
        return 0
    for path in draw_results(frames, predictions, args.out_dir, indices, options):
        print(path)
    return 0


def _chosen(frames: Any, args: argparse.Namespace) -> list[int]:
    """Positions of the frames to draw."""
    if not args.tokens:
        count = min(args.frames, len(frames))
        return [i * len(frames) // count for i in range(count)]
    unknown = [token for token in args.tokens if token not in frames.tokens]
    if unknown:
        raise ConfigError(f"--tokens: {unknown[0]} is not a sample of split {args.split}")
    return [frames.tokens.index(token) for token in args.tokens]


if __name__ == "__main__":
    sys.exit(main(run, also=(ImportError, RenderError)))
