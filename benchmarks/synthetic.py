"""Scores and learning curves on the synthetic world: one row a family, twins without a past, ablations.

    python -m benchmarks.synthetic [--only NAME ...] [--families] [--seeds 0 1] [--steps N] [--root data/benchmark]

Makes the world where ``--root`` has none, trains every row with two processes, validates six times on the way, and
writes ``synthetic.json``, ``synthetic.md`` and the curves ``synthetic.png``. Rows that ``synthetic.json`` has are kept
(``--again`` trains them anew), one that was broken off goes on where it was. Minutes are those of the training steps
alone, without validation. ``--only`` takes names of rows or beginnings of them, ``--list`` shows them all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.synthetic_rows import FAMILIES, ROWS, WORLD, Row
from bev.engine import load_config

ERRORS = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
VALIDATIONS = 6


def train(row: Row, seed: int, steps: int, root: str, work_dir: Path) -> dict[str, Any]:
    """Train one row with one seed in two processes, from where it was; its scores, curve and seconds."""
    loaders = ("train", "val", "test")
    options = [f"{name}_dataloader.dataset.root={root}" for name in loaders]
    options += [f"val_evaluator.root={root}", f"test_evaluator.root={root}"]
    options += ["train_dataloader.dataset.cache=none"]  # the pixels of this world would take 4 GB a process
    options += [f"train_cfg.max_steps={steps}", f"train_cfg.val_interval={-(-steps // VALIDATIONS)}", *row.options]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["tools/train.py", row.config, "--launcher", "pytorch", "--seed", str(seed), "--resume"]
    # One thread a process, sleeping while it waits: two busy ones on two cores otherwise slow each other down.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--work-dir", str(work_dir), "--cfg-options", *options], check=True, env=env)
    return summarise(row, seed, work_dir)


def make_world(root: str) -> None:
    """The frames that every row learns from and is scored on, made where they are not there."""
    if not (Path(root) / "v1.0-synthetic" / "splits.json").is_file():
        command = [sys.executable, "tools/create_data.py", "synthetic", "--out", root, *WORLD.split()]
        subprocess.run(command, check=True)


def summarise(row: Row, seed: int, work_dir: Path) -> dict[str, Any]:
    """Read a finished run's scalars."""
    rows = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    training = [entry for entry in rows if entry["mode"] == "train"]
    seconds, elapsed, before = {}, 0.0, 0
    for entry in training:
        elapsed += entry["step_s"] * (entry["step"] - before)
        before = entry["step"]
        seconds[before] = elapsed
    curve = [
        {"minutes": round(max(s for at, s in seconds.items() if at <= entry["step"]) / 60, 2), "step": entry["step"]}
        | {name: round(entry[name], 4) for name in ("mAP", "NDS", *ERRORS)}
        for entry in rows
        if entry["mode"] == "val"
    ]
    summary = {"config": Path(row.config).stem, "options": list(row.options), "seed": seed, "curve": curve}
    return {**curve[-1], **summary, "minutes": round(elapsed / 60, 1)}


def chosen(wanted: Sequence[str], families: bool) -> dict[str, Row]:
    """The rows asked for: all, the families alone, or those whose names begin so. Exits where a name fits none."""
    if not wanted:
        return dict(FAMILIES if families else ROWS)
    for name in wanted:
        if not any(row.startswith(name) for row in ROWS):
            sys.exit(f"no row begins with {name!r}; there are: {'; '.join(ROWS)}")
    # A whole name means that row alone, though others begin with it.
    exact = {name for name in wanted if name in ROWS}
    return {r: row for r, row in ROWS.items() if r in exact or any(r.startswith(n) for n in wanted if n not in exact)}


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Table of the final scores, and what twins and ablations differ by."""
    columns = ("row", "seed", "minutes", "step", "mAP", "NDS", *ERRORS)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(run[name]) for name in columns) + " |" for run in runs]
    lines += compared(runs)
    return "\n".join(lines) + "\n"


def compared(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A second table: each twin and ablation of the same seed and length minus the row it is compared with."""
    known = {(run["row"], run["seed"], run["step"]): run for run in runs}
    lines = []
    for run in runs:
        against = ROWS[run["row"]].against if run["row"] in ROWS else None
        other = known.get((against or "", run["seed"], run["step"]))
        if other is not None:
            change = " | ".join(f"{run[name] - other[name]:+.4f}" for name in ("mAP", "NDS", "mAVE"))
            lines.append(f"| {run['row']} | {against} | {run['seed']} | {change} |")
    head = ["", "| row | against | seed | mAP | NDS | mAVE |", "|---|---|---|---|---|---|"]
    return head + lines if lines else []


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Learning curves: mAP and NDS against minutes of training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharex=True, layout="constrained")
    colours = {name: f"C{i % 10}" for i, name in enumerate(dict.fromkeys(run["row"] for run in runs))}
    named: set[str] = set()
    for axis, metric in zip(axes, ("mAP", "NDS")):
        for run in runs:
            minutes = [0.0] + [point["minutes"] for point in run["curve"]]
            values = [0.0] + [point[metric] for point in run["curve"]]
            label = None if run["row"] in named or axis is not axes[0] else run["row"]
            named.add(run["row"])
            style = "o-" if run["row"] in FAMILIES else "s:"
            axis.plot(minutes, values, style, ms=3, color=colours[run["row"]], label=label)
        axis.set(xlabel="minutes of training, two CPU cores", ylabel=f"{metric}, held-out scenes", ylim=(0, None))
        axis.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def finished(path: Path) -> list[dict[str, Any]]:
    """Runs of an earlier call; those written before rows had names get the name of their configuration's family."""
    if not path.is_file():
        return []
    named = {Path(row.config).stem: name for name, row in FAMILIES.items()}
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"]
    return [{**run, "row": run.get("row") or named.get(run["config"], run["config"])} for run in runs]


def save(runs: Sequence[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write JSON, table and curves; rows in their own order."""
    order = {name: i for i, name in enumerate(ROWS)}
    runs = sorted(runs, key=lambda run: (order.get(run["row"], len(order)), run["seed"], run["step"]))
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    result = {"name": "synthetic", "device": f"cpu, {os.cpu_count()} cores", "versions": versions, "runs": runs}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("synthetic.json", json.dumps(result, indent=1) + "\n"), ("synthetic.md", markdown(runs))):
        temporary = out / f"{name}.tmp"
        temporary.write_text(text)
        os.replace(temporary, out / name)
    draw(runs, out / "synthetic.png")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and not yet there, and write the results after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows by name or its beginning")
    parser.add_argument("--families", action="store_true", help="one row a family, no twins and ablations")
    parser.add_argument("--list", action="store_true", help="show the rows and stop")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="of every row; default: its own")
    parser.add_argument("--again", action="store_true", help="train rows anew that are finished")
    parser.add_argument("--root", default="data/benchmark", help="made where it is missing")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/synthetic"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(arguments)
    rows, runs = chosen(args.only, args.families), finished(args.out / "synthetic.json")
    for name, row in rows.items():
        steps = args.steps or row.steps or int(load_config(row.config).train_cfg.max_steps)
        if args.list:
            print(f"{name:36} {steps:6} steps  {row.config} {' '.join(row.options)}")
            continue
        for seed in args.seeds:
            same = [run for run in runs if (run["row"], run["seed"], run["step"]) == (name, seed, steps)]
            if same and not args.again:
                print(f"{name}, seed {seed}: finished before")
                continue
            folder = args.work_dir / f"{re.sub('[^a-z0-9]+', '_', name.lower())}_{seed}_{steps}"
            make_world(args.root)
            if same:
                (folder / "last_checkpoint").unlink(missing_ok=True)
            run = {"row": name, **train(row, seed, steps, args.root, folder)}
            runs = [old for old in runs if old not in same] + [run]
            save(runs, args.out)
    if not args.list:
        result = save(runs, args.out)
        print(markdown(result["runs"]))
        print(json.dumps(result))


if __name__ == "__main__":
    main()
