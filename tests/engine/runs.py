"""Runs of the toy detector, in this process and in others that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bev.engine import load_config, main, prepare, train
from bev.engine.run_state import last_checkpoint
from bev.io.checkpoint import load_checkpoint
from tests.paths import REPO_ROOT

CONFIG = REPO_ROOT / "tests" / "engine" / "toy_config.py"
# Runs are equal bit for bit with equal numbers of threads only: this process gets the one that its children have.
torch.set_num_threads(1)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["bev.engine", "tests.engine.toy"])


def run_here(
    work_dir: Path, *options: str, resume: bool | str = False, config: Path = CONFIG, **choices: Any
) -> dict[str, Any]:
    """Train in this process; returns the last checkpoint."""
    status = train(prepare(load_config(config, options), str(work_dir), resume=resume, **choices))
    assert status == 0
    return last(work_dir)


def last(work_dir: Path) -> dict[str, Any]:
    """The last checkpoint of a work folder."""
    path = last_checkpoint(work_dir)
    assert path is not None
    return load_checkpoint(path)


def start(
    work_dir: Path, *options: str, env: Mapping[str, str] | None = None, before: str | None = None, **choices: Any
) -> Any:
    """Start a run in another process; its output goes to ``work_dir``/output_RANK.txt.

    Args:
        before: name of a function of :mod:`tests.engine.sabotage` to call first.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / f"output_{(env or {}).get('RANK', 0)}.txt").write_text("")
    process = _context.Process(target=_child, args=(work_dir, options, dict(env or {}), before, choices))
    process.start()
    return process


def run_elsewhere(work_dir: Path, *options: str, **choices: Any) -> int:
    """Train in another process; returns its exit status, negative for a signal."""
    process = start(work_dir, *options, **choices)
    process.join(300)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def run_many(work_dir: Path, count: int, *options: str, **choices: Any) -> list[int]:
    """Train in ``count`` processes as torchrun would; returns their exit statuses."""
    processes = start_many(work_dir, count, *options, **choices)
    for process in processes:
        process.join(300)
    assert all(process.exitcode is not None for process in processes), "a run hangs"
    return [process.exitcode for process in processes]


def start_many(work_dir: Path, count: int, *options: str, **choices: Any) -> list[Any]:
    """Start ``count`` processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    envs = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [start(work_dir, *options, env=env, launcher="pytorch", **choices) for env in envs]


def output(work_dir: Path, rank: int = 0) -> str:
    """What a run of :func:`start` printed."""
    return (work_dir / f"output_{rank}.txt").read_text()


def _child(work_dir: Path, options: Sequence[str], env: dict[str, str], before: str | None, choices: Any) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    file = open(work_dir / f"output_{env.get('RANK', 0)}.txt", "w")
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)
    if before is not None:
        from tests.engine import sabotage

        getattr(sabotage, before)()
    config = choices.pop("config", CONFIG)
    sys.exit(main(lambda: train(prepare(load_config(config, options), str(work_dir), **choices))))


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two nested values are not equal, bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [path]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            return [f"{path}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [d for key in a for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return [path]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{path}[{i}]")]
    return [] if a == b else [path]


def assert_same_state(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Two checkpoints hold the same run, bit for bit (but for the texts of ``meta``)."""
    assert a["meta"]["step"] == b["meta"]["step"]
    found = differences({k: v for k, v in a.items() if k != "meta"}, {k: v for k, v in b.items() if k != "meta"})
    assert not found, found


def largest_difference(a: Mapping[str, Any], b: Mapping[str, Any], part: str = "state_dict") -> float:
    """Largest absolute difference of the weights of two checkpoints."""
    return max(float((a[part][name] - b[part][name]).abs().max()) for name in a[part])
