"""Processes: start the group on CPU or CUDA, and the few exchanges the engine makes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bev.registry import ConfigError


def setup(launcher: str, timeout_s: float = 1800.0) -> None:
    """Join the process group that ``torchrun`` describes in the environment; ``launcher="none"`` does nothing.

    mmengine's own ``init_dist`` calls ``torch.cuda.set_device`` unconditionally and so fails on CPU. CPU tensors go
    through gloo, CUDA tensors through nccl, in one group.

    Raises:
        ConfigError: unknown launcher, or not started by torchrun.
    """
    if launcher == "none" or dist.is_initialized():
        return
    if launcher != "pytorch":
        raise ConfigError(f"config key 'launcher' is {launcher!r}; valid: none, pytorch")
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError("launcher 'pytorch' needs torchrun: torchrun --nproc-per-node 2 tools/train.py CONFIG ...")
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))


def rank() -> int:
    """This process's number, 0 without a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def mean_counts(counts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of scalar counts over micro-batches and processes.

    Args:
        counts: one mapping a micro-batch of this process; the same keys everywhere.
    """
    names = sorted(counts[0])
    if not names:
        return {}
    total = torch.stack([torch.stack([c[name].detach().float() for name in names]) for c in counts]).sum(0)
    if world_size() > 1:
        dist.all_reduce(total)
    return dict(zip(names, total / (len(counts) * world_size())))


def largest(number: int) -> int:
    """The largest of the processes' numbers, on every process."""
    if world_size() == 1:
        return number
    value = torch.tensor(number)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value.item())


def any_process(flag: bool) -> bool:
    """True on every process where it is true on one."""
    return bool(largest(int(flag)))


def gather(value: Any) -> list[Any]:
    """The values of all processes, by rank, on rank 0; an empty list elsewhere."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size() if rank() == 0 else []
    dist.gather_object(value, values if rank() == 0 else None)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def cleanup() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
