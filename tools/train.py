"""Train a detector: ``python tools/train.py CONFIG``.

Two processes: ``torchrun --nproc-per-node 2 tools/train.py CONFIG --launcher pytorch``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bev.engine import load_config, main, prepare, train
from projects.mmdet3d import run as openmmlab


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a detector.")
    parser.add_argument("config", help="configuration file, also of mmdet and mmdet3d (mmdet3d::FOLDER/NAME.py)")
    parser.add_argument("--work-dir", help="where checkpoints and logs go (default: work_dirs/<config name>)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="PATH",
        help="continue from the work folder's last checkpoint (or from PATH); starts fresh where there is none",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision in bfloat16, on CPU and CUDA")
    parser.add_argument("--seed", type=int, help="of the run (default: the configuration's, else 0)")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none", help="pytorch under torchrun")
    return parser.parse_args(arguments)


def run() -> int:
    """The command; returns its exit code."""
    args = parse()
    choices = {name: getattr(args, name) for name in ("work_dir", "resume", "amp", "seed", "launcher")}
    if (foreign := openmmlab.openmmlab_config(args.config)) is not None:
        return openmmlab.train(foreign, args.cfg_options, **choices)
    return train(prepare(load_config(args.config, args.cfg_options), **choices))


if __name__ == "__main__":
    sys.exit(main(run))
