"""2D detectors trained from scratch on blood cells: the table of their scores, sizes and times.

    python -m benchmarks.bccd [--root data/bccd/BCCD] [--only yolov5_nano ...] [--threads 2] [--work-dir work_dirs/bccd]

Trains every configuration of ``configs/bccd`` on trainval (292 pictures), tests it on test (72), and writes
``bccd.json`` and ``bccd.md`` into ``--out`` after each. Stopped at any moment, the same command goes on where it was;
finished trainings are not repeated. Minutes are those of the training steps with their data, from the run's own log.
Parameters and FLOPs (twice the multiply-adds, torch.utils.flop_counter) are of inference, without what only training
needs. Milliseconds: one picture after the other, one thread, from the network's uint8 image to the final boxes, median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bev.engine import load_config, prepare, test
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.registry import DATASETS, MODELS
from bev.structures import collate_images

NAMES = ("yolox_nano", "yolov3_tiny", "yolov5_nano", "ppyoloe_nano", "one_to_one_nano")
COLUMNS = ("detector", "AP", "AP50", "AP50 RBC", "AP50 WBC", "AP50 Platelets", "parameters", "GFLOPs", "minutes")
# Parts that training alone has.
TEACHERS = (".teacher.", ".auxiliary.")


def options_of(root: str) -> list[str]:
    """Configuration options that say where the pictures are."""
    return [f"{name}_dataloader.dataset.pictures.root={root}" for name in ("train", "val", "test")]


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train (or finish training) one detector and measure it; a row of the table."""
    config, work_dir = f"configs/bccd/{name}_bccd.py", args.work_dir / name
    options = options_of(args.root) + args.cfg_options
    command = [sys.executable, "tools/train.py", config, "--work-dir", str(work_dir), "--resume"]
    env = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([*command, "--cfg-options", *options], check=True, env=env)
    cfg = load_config(config, options)
    scores = test(prepare(cfg.copy(), str(work_dir / "test")), str(work_dir), out=str(work_dir / "results.json"))
    (last,) = work_dir.glob((work_dir / "last_checkpoint").read_text().strip())
    per_class = {f"AP50 {c}": round(scores[f"AP50/{c}"], 4) for c in ("RBC", "WBC", "Platelets")}
    return {
        **{"detector": name, "AP": round(scores["AP"], 4), "AP50": round(scores["AP50"], 4), **per_class},
        **measure(cfg, last, args.pictures),
        **{"minutes": round(minutes_of(work_dir), 1), "steps": int(load_checkpoint(last)["meta"]["step"])},
    }


def minutes_of(work_dir: Path) -> float:
    """Of all training steps, from ``scalars.jsonl``."""
    rows = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    elapsed, before = 0.0, 0
    for row in (row for row in rows if row["mode"] == "train"):
        elapsed += row["step_s"] * (row["step"] - before)
        before = row["step"]
    return elapsed / 60


def measure(cfg: Config, checkpoint: Path, pictures: int) -> dict[str, Any]:
    """Parameters, GFLOPs and milliseconds a picture of a trained detector."""
    model: nn.Module = MODELS.build(cfg.model)
    load_weights(model, weights_of(load_checkpoint(checkpoint), checkpoint), checkpoint)
    model = model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    batches = [collate_images([dataset[i]]) for i in range(min(pictures, len(dataset)))]
    kept = [p.numel() for n, p in model.named_parameters() if not any(part in f".{n}" for part in TEACHERS)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batches[0].images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: list[float] = []
    with torch.inference_mode():
        for batch in batches[:2] + batches:
            start = time.perf_counter()
            model.predict(batch)  # type: ignore[operator]
            times.append(1e3 * (time.perf_counter() - start))
    torch.set_num_threads(threads)
    flops = counter.get_total_flops() / 1e9
    return {"parameters": sum(kept), "GFLOPs": round(flops, 3), "ms/image": round(statistics.median(times[2:]), 2)}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    columns = (*COLUMNS, "ms/image")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the table after each detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/bccd/BCCD", help="folder with Annotations, ImageSets, JPEGImages")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--threads", type=int, default=2, help="of training")
    parser.add_argument("--pictures", type=int, default=40, help="that milliseconds are the median of")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/bccd"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. a shorter training")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "bccd.json"
    known = {row["detector"]: row for row in json.loads(path.read_text())["cases"]} if path.exists() else {}
    result: dict[str, Any] = {}
    for name in args.only:
        known[name] = run(name, args)
        rows = [known[n] for n in NAMES if n in known]
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        device = f"cpu, {args.threads} threads of {os.cpu_count()} cores"
        result = {"name": "bccd", "device": device, "threads": args.threads, "versions": versions, "cases": rows}
        path.write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "bccd.md").write_text(markdown(rows))
    print(markdown(result["cases"]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
