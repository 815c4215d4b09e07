"""Learning-rate schedules and parameter groups."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from bev.engine.optim import OptimWrapper
from bev.engine.registries import OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS, build, find
from bev.registry import ConfigError, check_keys

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts), per optimiser step.

    Step t of T with W warm-up steps: ``start_ratio + (1 - start_ratio) * t / W`` of the base rate while t < W, then
    ``min_ratio + (1 - min_ratio) * (1 + cos(pi * (t - W) / (T - W))) / 2``.

    With ``cycles`` that curve ends at ``cycle_start * T``; the rest is divided into as many half cosines from
    ``cycle_ratio`` to ``min_ratio`` of the base rate, at whose ends ``SWAHook`` averages.

    Args:
        optimizer: whose ``lr`` is set; every parameter group keeps its own base rate.
        total_steps: T; the engine fills in the length of the run.
        warmup: W, as a number of steps (int) or as a fraction of the run (float below 1).
        start_ratio: of the base rate at step 0.
        min_ratio: of the base rate at the end.
        cycles: number of cycles; 0 for none.
        cycle_start: share of the run before them.
        cycle_ratio: of the base rate at the start of each.
    """

    def __init__(
        self,
        optimizer: Any,
        total_steps: int,
        warmup: int | float = 0.05,
        start_ratio: float = 0.01,
        min_ratio: float = 0.01,
        cycles: int = 0,
        cycle_start: float = 0.75,
        cycle_ratio: float = 0.3,
    ) -> None:
        self.warmup_steps = int(warmup) if warmup >= 1 else round(warmup * total_steps)
        if cycles < 0 or not 0 < cycle_start < 1:
            raise ConfigError(f"WarmupCosineLR: cycles {cycles} from 0 up, cycle_start {cycle_start} within 0 and 1")
        self.borders = cycle_borders(total_steps, cycle_start, cycles) if cycles else [total_steps]
        if not 0 <= self.warmup_steps <= self.borders[0] or len(set(self.borders)) < len(self.borders):
            what = f"warm-up of {warmup}" + (f" and {cycles} cycles from {cycle_start} on do" if cycles else " does")
            raise ConfigError(f"{what} not fit into {total_steps} steps")
        self.total_steps, self.start_ratio, self.min_ratio = total_steps, start_ratio, min_ratio
        self.cycle_ratio = cycle_ratio
        super().__init__(optimizer, "lr", by_epoch=False)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at the saved step; the curve stays this run's own, should it have been made longer or shorter."""
        curve = ("total_steps", "warmup_steps", "start_ratio", "min_ratio", "borders", "cycle_ratio")
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in curve})

    def _get_value(self) -> list[float]:
        step, warmup = self.last_step, self.warmup_steps
        if step < warmup:
            ratio = self.start_ratio + (1 - self.start_ratio) * step / warmup
        else:
            # The half cosine that the step belongs to: the long one after the warm-up, or a cycle.
            cycle = min(bisect_right(self.borders, step), len(self.borders) - 1)
            begin = self.borders[cycle - 1] if cycle else warmup
            top = self.cycle_ratio if cycle else 1.0
            progress = min((step - begin) / max(self.borders[cycle] - begin, 1), 1.0)
            ratio = self.min_ratio + (top - self.min_ratio) * (1 + math.cos(math.pi * progress)) / 2
        return [base * ratio for base in self.base_values]


def cycle_borders(total_steps: int, start: float, cycles: int) -> list[int]:
    """Steps at which the cycles of the last part of a run begin, and its end: ``cycles + 1`` numbers."""
    first = round(start * total_steps)
    return [round(first + (total_steps - first) * k / cycles) for k in range(cycles + 1)]


def build_optim_wrapper(cfg: Mapping[str, Any], model: nn.Module) -> Any:
    """Optimiser and wrapper from ``optim_wrapper``: mmengine's keys ``type, optimizer, accumulative_counts, clip_grad,
    paramwise_cfg`` (and ``dtype, loss_scale`` of AmpOptimWrapper)."""
    wrapper = {"type": "OptimWrapper", **cfg}
    paramwise = wrapper.pop("paramwise_cfg", None) or {}
    optimizer_cfg = wrapper.pop("optimizer", None)
    if not isinstance(optimizer_cfg, Mapping) or "type" not in optimizer_cfg:
        raise ConfigError(f"config key 'optim_wrapper.optimizer' must be a dict with a 'type', got {optimizer_cfg!r}")
    groups = parameter_groups(model, optimizer_cfg, paramwise)
    kind = find(optimizer_cfg["type"], OPTIMIZERS, "optim_wrapper.optimizer")
    # The fused update is the fastest on CPU and CUDA alike and can be configured away with fused=False.
    defaults = {"fused": True} if "fused" in inspect.signature(kind).parameters else {}
    if any(optimizer_cfg.get(key) for key in ("foreach", "capturable", "differentiable")):
        defaults = {}
    optimizer = build(optimizer_cfg, OPTIMIZERS, "optim_wrapper.optimizer", params=groups, **defaults)
    built = build(wrapper, OPTIM_WRAPPERS, "optim_wrapper", optimizer=optimizer)
    if not isinstance(built, OptimWrapper):
        raise ConfigError(f"config key 'optim_wrapper.type' builds {type(built)}, expected a bev.engine OptimWrapper")
    return built


def parameter_groups(
    model: nn.Module, optimizer: Mapping[str, Any], paramwise: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning rate and weight decay.

    mmengine's constructor makes a group of every parameter, which defeats the multi-tensor update; here parameters of
    equal settings share one.

    Args:
        model: the bare detector.
        optimizer: its configuration, for the base ``lr`` and ``weight_decay``.
        paramwise: ``custom_keys`` (name part -> ``lr_mult``, ``decay_mult``; the longest match wins, as in mmengine),
            ``norm_decay_mult``, ``bias_decay_mult``, ``bias_lr_mult``.

    Raises:
        ConfigError: an unknown key, or a custom key that fits no parameter.
    """
    path = "optim_wrapper.paramwise_cfg"
    check_keys(paramwise, ("custom_keys", "norm_decay_mult", "bias_decay_mult", "bias_lr_mult"), path)
    custom = dict(paramwise.get("custom_keys", {}))
    for key, value in custom.items():
        check_keys(value, ("lr_mult", "decay_mult"), f"{path}.custom_keys.{key}")
        if not any(key in name for name, _ in model.named_parameters()):
            raise ConfigError(f"config key '{path}.custom_keys.{key}' fits no parameter of {type(model).__name__}")
    norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            multipliers = _multipliers(name, id(parameter) in norms, custom, paramwise)
            groups.setdefault(multipliers, []).append(parameter)
    if not groups:
        raise ConfigError(f"{type(model).__name__} has no trainable parameters")
    return [_group(parameters, lr, decay, optimizer) for (lr, decay), parameters in groups.items()]


def _multipliers(
    name: str, is_norm: bool, custom: Mapping[str, Any], paramwise: Mapping[str, Any]
) -> tuple[float, float]:
    """(learning rate's, weight decay's) of one parameter."""
    matches = sorted((key for key in custom if key in name), key=lambda key: (-len(key), key))
    if matches:
        chosen = custom[matches[0]]
        return chosen.get("lr_mult", 1.0), chosen.get("decay_mult", 1.0)
    is_bias = name.rpartition(".")[2] == "bias"
    if is_norm:
        return 1.0, paramwise.get("norm_decay_mult", 1.0)
    if is_bias:
        return paramwise.get("bias_lr_mult", 1.0), paramwise.get("bias_decay_mult", 1.0)
    return 1.0, 1.0


def _group(parameters: list[nn.Parameter], lr: float, decay: float, optimizer: Mapping[str, Any]) -> dict[str, Any]:
    group: dict[str, Any] = {"params": parameters}
    for key, multiplier in (("lr", lr), ("weight_decay", decay)):
        if multiplier != 1.0:
            if key not in optimizer:
                raise ConfigError(f"'optim_wrapper.paramwise_cfg' needs 'optim_wrapper.optimizer.{key}' to be given")
            group[key] = optimizer[key] * multiplier
    return group
