"""Does a detector use its cameras' geometry? Scores of one network, untrained and trained with true and shuffled rigs.

    python -m benchmarks.geometry [--config C] [--steps 1500] [--root data/synthetic] [--out work_dirs/geometry]

Three rows on the same held-out frames, always scored with the true calibration unless said otherwise:
untrained; trained; trained on frames whose calibrations were dealt to the wrong cameras (a new deal every draw). A
fourth row scores the properly trained network with shuffled calibrations. Writes ``<out>/geometry.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.transforms import SampleTransform
from bev.engine import Runner, load_config, prepare, test, train
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class ShuffleCalibration(SampleTransform[tuple[int, ...]]):
    """Deal the calibrations of a frame to other cameras: none keeps its own."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[int, ...]:
        count = sample.rig.num_cameras
        # A rotation of a random order moves every element.
        order = rng.permutation(count)
        dealt = np.empty(count, dtype=int)
        dealt[order] = np.roll(order, 1)
        return tuple(dealt.tolist())

    def apply(self, sample: Sample, chance: tuple[int, ...]) -> Sample:
        return replace(sample, rig=replace(sample.rig.select(chance), names=sample.rig.names))


def configure(args: argparse.Namespace, shuffled_training: bool = False, shuffled_test: bool = False) -> Any:
    """The configuration with a number of steps, a data folder and shuffled rigs where asked."""
    cfg = load_config(args.config, [f"train_cfg.max_steps={args.steps}"])
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name]["dataset"]["root"] = args.root
    for name in ("val_evaluator", "test_evaluator"):
        cfg[name]["root"] = args.root
    shuffle = [dict(type="ShuffleCalibration")]
    if shuffled_training:
        cfg.train_dataloader.dataset.transforms = [*cfg.train_dataloader.dataset.get("transforms", []), *shuffle]
    if shuffled_test:
        cfg.test_dataloader.dataset.transforms = shuffle
    cfg.train_cfg.val_interval = 0
    return cfg


def score(args: argparse.Namespace, checkpoint: Path, shuffled: bool = False) -> dict[str, float]:
    """mAP and NDS of a checkpoint on the held-out frames."""
    metrics = test(prepare(configure(args, shuffled_test=shuffled), str(args.out / "score")), str(checkpoint))
    return {name: round(float(metrics[name]), 4) for name in ("mAP", "NDS")}


def untrained(args: argparse.Namespace) -> Path:
    """A checkpoint of the network as it is initialised."""
    runner = Runner(prepare(configure(args), str(args.out / "untrained")))
    path = args.out / "untrained.pth"
    torch.save({"state_dict": runner.detector.state_dict()}, path)
    return path


def trained(args: argparse.Namespace, shuffled: bool) -> Path:
    """Work folder of a finished training run."""
    folder: Path = args.out / ("shuffled" if shuffled else "true")
    if train(prepare(configure(args, shuffled_training=shuffled), str(folder))):
        raise SystemExit("training was stopped")
    return folder


def main() -> None:
    """Print and write the four rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/bevdet/bevdet_tiny_synthetic.py")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--root", default="data/synthetic")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/geometry"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    true = trained(args, shuffled=False)
    rows = {
        "untrained": score(args, untrained(args)),
        "true calibration": score(args, true),
        "trained with shuffled calibration": score(args, trained(args, shuffled=True)),
        "true, scored with shuffled calibration": score(args, true, shuffled=True),
    }
    for name, row in rows.items():
        print(f"{name:40s} mAP {row['mAP']:.4f}  NDS {row['NDS']:.4f}")
    result = {"name": "geometry", "config": args.config, "steps": args.steps, "scores": rows}
    (args.out / "geometry.json").write_text(json.dumps(result, indent=2))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
