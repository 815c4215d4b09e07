"""The whole path in one command: make a synthetic world, train, score, draw. ``python tools/demo.py [--quick]``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

CONFIG, VERSION, SPLIT = "configs/bevdet/bevdet_tiny_synthetic.py", "v1.0-synthetic", "synthetic_val"


def stages(data: Path, out: Path, quick: bool) -> dict[str, str]:
    """The commands by stage, as a user would type them."""
    # Many short scenes: frames of one scene show the same parked vehicles again and again. A quiet town, with less than
    # half of nuScenes' boxes; what the full traffic gives is in the README.
    full = "--scenes 640 --val-scenes 40 --frames-per-scene 4 --sweeps 1 --traffic-percent 30"
    scenes = "--scenes 4 --val-scenes 1 --frames-per-scene 8" if quick else full
    # Scored by the next command.
    steps = "train_cfg.val_interval=0" + (" train_cfg.max_steps=4" if quick else "")
    roots = " ".join(f"{key}={data}" for key in ROOT_KEYS)
    results = f"{out}/results.json"
    return {
        "data": f"python tools/create_data.py synthetic --out {data} {scenes} --seed 0",
        "train": f"torchrun --standalone --nproc-per-node 2 tools/train.py {CONFIG} --launcher pytorch --work-dir {out}"
        f" --cfg-options {roots} {steps}",
        "score": f"python tools/test.py {CONFIG} {out} --out {results} --work-dir {out} --cfg-options {roots}",
        "draw": f"python tools/visualize.py --results {results} --root {data} --version {VERSION} --split {SPLIT}"
        f" --frames 6 --out-dir {out}/pictures",
    }


ROOT_KEYS = tuple(f"{loader}_dataloader.dataset.root" for loader in ("train", "val", "test")) + (
    "val_evaluator.root",
    "test_evaluator.root",
)


def run(command: str) -> float:
    """Run one command with this interpreter's programs; seconds it took. Raises CalledProcessError where it fails."""
    print(f"\n$ {command}", flush=True)
    start = time.perf_counter()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # One thread a process, sleeping while it waits: two busy ones on two cores otherwise slow each other down.
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(shlex.split(command), check=True, env=env)
    return round(time.perf_counter() - start, 1)


def main() -> int:
    """All stages; writes summary.json and says what to try next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"))
    parser.add_argument("--data", type=Path, default=Path("data/synthetic"), help="used as it is where it exists")
    parser.add_argument("--quick", action="store_true", help="a few frames and steps: shows that everything runs")
    args = parser.parse_args()
    seconds: dict[str, float] = {}
    if (stamp := Path(".venv/.installed")).is_file():
        seconds["install"] = float(stamp.read_text())
    for stage, command in stages(args.data, args.out, args.quick).items():
        if stage == "data" and (args.data / VERSION / "splits.json").is_file():
            print(f"{args.data} is there: using it")
        else:
            seconds[stage] = run(command)
    seconds["total"] = round(sum(seconds.values()), 1)
    scores = json.loads((args.out / "results_scores.json").read_text())
    pictures = sorted(str(path) for path in (args.out / "pictures").glob("*.png"))
    summary = {"seconds": seconds, "mAP": scores["mAP"], "NDS": scores["NDS"], "pictures": pictures}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2))
    print(f"\nmAP {summary['mAP']:.3f}  NDS {summary['NDS']:.3f}  seconds {seconds}")
    print(f"pictures: {args.out}/pictures\nsummary:  {args.out}/summary.json\nnext:")
    print(
        f"  python tools/visualize.py --results {args.out}/results.json --root {args.data} --version {VERSION}"
        f" --split {SPLIT} --window"
    )
    print("  python tools/train.py configs/detr3d/detr3d_tiny_synthetic.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
