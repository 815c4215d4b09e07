"""Scores and learning curves of the synthetic configurations, over seeds.

    python -m benchmarks.synthetic [--configs C ...] [--seeds 0 1] [--root data/synthetic] [--out benchmarks/results]

Trains every configuration with two processes, validates six times on the way, and writes ``synthetic.json``,
``synthetic.md`` and the curves ``synthetic.png``. Seconds are those of the training steps alone, without validation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from bev.engine import load_config

CONFIGS = ("configs/bevdet/bevdet_tiny_synthetic.py", "configs/detr3d/detr3d_tiny_synthetic.py")
ERRORS = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
VALIDATIONS = 6


def train(config: str, seed: int, root: str, work_dir: Path) -> dict[str, Any]:
    """Train one configuration with one seed in two processes; its scores, curve and seconds."""
    steps = load_config(config).train_cfg.max_steps
    loaders = ("train", "val", "test")
    options = [f"{name}_dataloader.dataset.root={root}" for name in loaders]
    options += ["val_evaluator.root=" + root, "test_evaluator.root=" + root]
    options += [f"train_cfg.val_interval={-(-steps // VALIDATIONS)}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["tools/train.py", config, "--launcher", "pytorch", "--seed", str(seed), "--work-dir", str(work_dir)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--cfg-options", *options], check=True, env=env)
    return summarise(config, seed, work_dir)


def summarise(config: str, seed: int, work_dir: Path) -> dict[str, Any]:
    """Read a finished run's scalars."""
    rows = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    training = [row for row in rows if row["mode"] == "train"]
    seconds, elapsed, before = {}, 0.0, 0
    for row in training:
        elapsed += row["step_s"] * (row["step"] - before)
        before = row["step"]
        seconds[before] = elapsed
    curve = [
        {"minutes": round(max(s for at, s in seconds.items() if at <= row["step"]) / 60, 2), "step": row["step"]}
        | {name: round(row[name], 4) for name in ("mAP", "NDS", *ERRORS)}
        for row in rows
        if row["mode"] == "val"
    ]
    return {"config": Path(config).stem, "seed": seed, "minutes": round(elapsed / 60, 1), **curve[-1], "curve": curve}


def markdown(runs: list[dict[str, Any]]) -> str:
    """Table of the final scores."""
    columns = ("config", "seed", "minutes", "mAP", "NDS", *ERRORS)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(run[name]) for name in columns) + " |" for run in runs]
    return "\n".join(lines) + "\n"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Learning curves: mAP and NDS against minutes of training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharex=True, layout="constrained")
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(run["config"] for run in runs))}
    for axis, metric in zip(axes, ("mAP", "NDS")):
        for run in runs:
            minutes = [0.0] + [point["minutes"] for point in run["curve"]]
            values = [0.0] + [point[metric] for point in run["curve"]]
            label = run["config"] if run["seed"] == runs[0]["seed"] else None
            axis.plot(minutes, values, "o-", ms=3, color=colours[run["config"]], label=label)
        axis.set(xlabel="minutes of training, two CPU cores", ylabel=f"{metric}, held-out scenes", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=list(CONFIGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--root", default="data/synthetic")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/synthetic"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for config in args.configs:
        for seed in args.seeds:
            runs.append(train(config, seed, args.root, args.work_dir / f"{Path(config).stem}_{seed}"))
            versions = {"torch": torch.__version__, "python": platform.python_version()}
            result = {"name": "synthetic", "device": f"cpu, {os.cpu_count()} cores", "versions": versions, "runs": runs}
            (args.out / "synthetic.json").write_text(json.dumps(result, indent=1) + "\n")
            (args.out / "synthetic.md").write_text(markdown(runs))
    draw(runs, args.out / "synthetic.png")
    print(markdown(runs))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
