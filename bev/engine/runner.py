"""mmengine's Runner, built from a configuration alone, with its traps mended in this one place.

Kept of mmengine: the configuration's key names, hooks and their order (its own plug in through ``custom_hooks``), the
order of events, schedules, the evaluator's interface, logger and message hub. Replaced, and why:

- building: parts first, with errors that name the configuration key (mmengine builds with default scopes and reports
  the class). The 26 constructor arguments become one configuration.
- checkpoints: mmengine's do not load on torch >= 2.6, hold no random state and are not atomic.
- the loop: mmengine counts micro-batches and resumes at epoch borders only; here a run is a number of optimiser steps,
  and every one of them is a border (:mod:`bev.engine.loops`).
- processes and mixed precision: mmengine's need CUDA (:mod:`bev.engine.distributed`, :mod:`bev.engine.optim`).
- ``call_hook``: mmengine turns every TypeError inside a hook into one without a traceback.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner as _Runner
from mmengine.visualization import Visualizer
from torch import nn

from bev import __version__
from bev.engine import distributed, random_state
from bev.engine.adapter import DetectorAdapter
from bev.engine.config import check_top_keys
from bev.engine.data import build_dataloader
from bev.engine.evaluator import Evaluator
from bev.engine.registries import LOOPS, PARAM_SCHEDULERS, build, find
from bev.engine.schedule import build_optim_wrapper
from bev.io.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint, weights_of
from bev.models.detectors import Detector
from bev.registry import HOOKS, METRICS, MODELS, ConfigError, build_node, check_keys

DEFAULT_HOOKS: dict[str, dict[str, Any]] = {
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "logger": {"type": "ProgressHook"},
    "scalars": {"type": "ScalarLogHook"},
    "checkpoint": {"type": "CheckpointHook"},
}
POINTER = "last_checkpoint"


class Runner(_Runner):
    """One training or evaluation run.

    Args:
        cfg: a configuration as :func:`bev.engine.config.load_config` gives it.

    Raises:
        ConfigError: the configuration cannot be built; names the key.
    """

    def __init__(self, cfg: Config) -> None:
        check_top_keys(cfg)
        env = dict(cfg.get("env_cfg") or {})
        check_keys(env, ("cudnn_benchmark", "timeout_s"), "env_cfg")
        distributed.setup(cfg.get("launcher", "none"), env.get("timeout_s", 1800.0))
        self.validated_steps: set[int] = set()  # filled by ScalarLogHook from the log of a resumed run
        self._random_states: list[dict[str, Any]] | None = None
        self.stop_signal: int | None = None
        super().__init__(
            model=_required(cfg, "model"),
            work_dir=_required(cfg, "work_dir"),
            train_dataloader=cfg.get("train_dataloader"),
            val_dataloader=cfg.get("val_dataloader"),
            test_dataloader=cfg.get("test_dataloader"),
            train_cfg=cfg.get("train_cfg"),
            val_cfg=cfg.get("val_cfg"),
            test_cfg=cfg.get("test_cfg"),
            optim_wrapper=cfg.get("optim_wrapper"),
            param_scheduler=cfg.get("param_scheduler"),
            val_evaluator=cfg.get("val_evaluator"),
            test_evaluator=cfg.get("test_evaluator"),
            default_hooks=cfg.get("default_hooks"),
            custom_hooks=cfg.get("custom_hooks"),
            load_from=cfg.get("load_from"),
            resume=cfg.get("resume", False),
            launcher=cfg.get("launcher", "none"),
            env_cfg=env,
            log_level=cfg.get("log_level", "INFO"),
            default_scope="bev",
            randomness={"seed": cfg.get("seed", 0), **(cfg.get("randomness") or {})},
            experiment_name=cfg.get("experiment_name"),
            cfg=cfg,
        )

    # Building -------------------------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Threads and processes. One thread a process where torchrun starts several and nothing else is asked."""
        torch.backends.cudnn.benchmark = bool(env_cfg.get("cudnn_benchmark", False))
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._timestamp = distributed.broadcast(time.strftime("%Y%m%d_%H%M%S"))
        if self._world_size > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":
            torch.set_num_threads(1)

    def set_randomness(self, seed: int | None = 0, deterministic: bool | None = None, **unknown: Any) -> None:
        """Seed everything, and ask for deterministic kernels.

        Args:
            seed: None is 0: a run is reproducible unless another seed is asked for.
            deterministic: None: on CPU, where it costs nothing; on CUDA only where asked.
        """
        check_keys(unknown, ("seed", "deterministic"), "randomness")
        self._seed = 0 if seed is None else int(seed)
        self._deterministic = not torch.cuda.is_available() if deterministic is None else deterministic
        random_state.seed_everything(self._seed)
        if self._deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """mmengine's, without a backend: scalars go through ScalarLogHook."""
        return Visualizer.get_instance(f"{self.experiment_name}_{id(self)}")

    def build_model(self, model: Any) -> nn.Module:
        detector = build_node(model, MODELS, path="model") if isinstance(model, Mapping) else model
        if not isinstance(detector, Detector):
            raise ConfigError(f"config key 'model' builds a {type(detector).__name__}, expected a Detector")
        return detector

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> DetectorAdapter:
        device = torch.device(self.cfg.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.cfg.get("sync_bn") and device.type == "cuda" and self.distributed:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DetectorAdapter(
            model.to(device),  # type: ignore[arg-type]
            distributed=self.world_size > 1 and self.cfg.get("train_cfg") is not None,
            find_unused_parameters=bool(self.cfg.get("find_unused_parameters", False)),
        )

    @property
    def detector(self) -> Detector:
        """The bare detector."""
        return self.model.module

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        return (
            build_optim_wrapper(optim_wrapper, self.detector) if isinstance(optim_wrapper, Mapping) else optim_wrapper
        )

    def build_param_scheduler(self, scheduler: Any) -> list[Any]:
        """Schedules in the order given; a schedule that takes ``total_steps`` is told the length of the run."""
        if not isinstance(scheduler, Sequence):
            scheduler = [scheduler]
        return [self._build_schedule(node, f"param_scheduler[{i}]") for i, node in enumerate(scheduler)]

    def _build_schedule(self, node: Any, path: str) -> Any:
        if not isinstance(node, Mapping):
            return node
        node = dict(node)
        kind = find(node.get("type"), PARAM_SCHEDULERS, path)
        defaults: dict[str, Any] = {"optimizer": self.optim_wrapper}
        if getattr(kind, "__init__", None) is not None and "total_steps" in kind.__init__.__code__.co_varnames:
            defaults["total_steps"] = self.train_loop.max_iters
        return build(node, PARAM_SCHEDULERS, path, **defaults)

    def build_train_loop(self, loop: Any) -> Any:
        loader = build_dataloader(self._train_dataloader, "train_dataloader", self.seed, train=True)
        return build({"type": "TrainLoop", **loop}, LOOPS, "train_cfg", runner=self, dataloader=loader)

    def build_val_loop(self, loop: Any) -> Any:
        return self._build_evaluation_loop(loop, "val", "ValLoop", self._val_dataloader, self._val_evaluator)

    def build_test_loop(self, loop: Any) -> Any:
        return self._build_evaluation_loop(loop, "test", "TestLoop", self._test_dataloader, self._test_evaluator)

    def _build_evaluation_loop(self, loop: Any, stage: str, kind: str, loader_cfg: Any, evaluator: Any) -> Any:
        loader = build_dataloader(loader_cfg, f"{stage}_dataloader", self.seed, train=False)
        scorer = self.build_evaluator(evaluator, f"{stage}_evaluator")
        node = {"type": kind, **loop}
        return build(node, LOOPS, f"{stage}_cfg", runner=self, dataloader=loader, evaluator=scorer)

    def build_evaluator(self, evaluator: Any, path: str = "evaluator") -> Evaluator:
        nodes = evaluator if isinstance(evaluator, Sequence) else [evaluator]
        return Evaluator([build(n, METRICS, path) if isinstance(n, Mapping) else n for n in nodes])

    # Hooks ----------------------------------------------------------------------------------------------------------

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """The default hooks; a given node changes the arguments of the one of its name, None switches it off."""
        for name in hooks or {}:
            if name not in DEFAULT_HOOKS and "type" not in (hooks[name] or {}):  # type: ignore[index]
                check_keys([name], DEFAULT_HOOKS, "default_hooks")
        for name in {**DEFAULT_HOOKS, **(hooks or {})}:
            given = (hooks or {}).get(name, {})
            if given is not None:
                self._register(given, f"default_hooks.{name}", DEFAULT_HOOKS.get(name, {}))

    def register_custom_hooks(self, hooks: Sequence[Any]) -> None:
        for index, hook in enumerate(hooks):
            self._register(hook, f"custom_hooks[{index}]", {})

    def _register(self, hook: Any, path: str, defaults: Mapping[str, Any]) -> None:
        if isinstance(hook, Mapping):
            keep_defaults = hook.get("type", defaults.get("type")) == defaults.get("type")
            node = {**(defaults if keep_defaults else {}), **hook}
            priority = node.pop("priority", None)
            hook = build(node, HOOKS, path)
            hook.priority = priority or hook.priority
        if not isinstance(hook, Hook):
            raise ConfigError(f"config key '{path}' builds a {type(hook).__name__}, expected a Hook")
        self.register_hook(hook)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        for hook in self._hooks:
            if method := getattr(hook, fn_name, None):
                method(self, **kwargs)

    def get_hooks_info(self) -> str:
        """One line; mmengine's table of all stages buries the log."""
        return ", ".join(type(hook).__name__ for hook in self._hooks)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        self.versions = {
            **{"bev": __version__, "python": platform.python_version(), "torch": torch.__version__},
            **{"mmengine": mmengine.__version__, "numpy": np.__version__, "platform": platform.platform()},
            **{"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"},
            **{"processes": self.world_size, "threads": torch.get_num_threads(), "command": " ".join(sys.argv)},
        }
        self.logger.info("; ".join(f"{key} {value}" for key, value in self.versions.items()))

    def dump_config(self) -> None:
        """The whole configuration of a training run and the versions, in the work folder."""
        if self.rank == 0 and self.cfg.get("train_cfg") is not None:
            name = Path(self.cfg.filename).name if self.cfg.filename else "config.py"
            self.cfg.dump(os.path.join(self.work_dir, name))
            mmengine.dump(self.versions, os.path.join(self.work_dir, "versions.json"), indent=2)

    # Running --------------------------------------------------------------------------------------------------------

    def train(self) -> nn.Module:
        """Build what is not built, load or resume, train.

        mmengine's order of events, but without ``init_weights`` (detectors initialise themselves in their
        constructors) and with the validation's parts built before the first step, so that a mistake there shows at once.
        """
        self._train_loop = self.build_train_loop(self._train_loop)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        self.param_schedulers = self.build_param_scheduler(self.param_schedulers or [])
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook("before_run")
        self.load_or_resume()
        self._maybe_compile("train_step")
        model: nn.Module = self.train_loop.run()
        self.call_hook("after_run")
        return model

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs; call on every process (rank 0's result is the checkpoint)."""
        random_states = distributed.gather(random_state.capture())
        loop = self.train_loop
        checkpoint = {
            "meta": {
                "step": loop.steps_done,
                "max_steps": loop.max_iters,
                "frames_per_step": loop.frames_per_step,
                "dataset_length": loop.length,
                "seed": self.seed,
                "config": self.cfg.pretty_text,
                "versions": {key: str(value) for key, value in self.versions.items()},
            },
            "state_dict": self.detector.state_dict(),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [dict(s.state_dict()) for s in self.param_schedulers or []],
            "random_states": random_states,
        }
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        return checkpoint

    def save_state(self, name: str) -> Path:
        """Write a checkpoint into the work folder and point ``last_checkpoint`` at it; call on every process."""
        path = Path(self.work_dir) / name
        checkpoint = self.state()
        if self.rank == 0:
            save_checkpoint(checkpoint, path)
            temporary = Path(self.work_dir) / f"{POINTER}.tmp"
            temporary.write_text(f"{name}\n")
            os.replace(temporary, Path(self.work_dir) / POINTER)
        return path

    def load_or_resume(self) -> None:
        """``resume``: True takes the work folder's last checkpoint if there is one, a path takes that one.
        ``load_from`` loads weights alone."""
        if self._resume:
            path = Path(self._resume) if isinstance(self._resume, (str, Path)) else last_checkpoint(self.work_dir)
            if path is not None:
                self.resume(path)
                return
            self.logger.info(f"nothing to resume in {self.work_dir}; starting from step 0")
        if self._load_from is not None:
            self.load_checkpoint(self._load_from)

    def resume(self, filename: str | Path, **unused: Any) -> None:
        """Continue a run exactly where a checkpoint left it."""
        checkpoint = load_checkpoint(filename)
        if missing := {"meta", "optimizer", "param_schedulers", "random_states"} - set(checkpoint):
            raise CheckpointError(
                f"checkpoint {filename} has no {sorted(missing)[0]!r}: it holds weights, not the state of a run;"
                " use load_from to start from its weights"
            )
        self._check_same_run(checkpoint["meta"], filename)
        load_weights(self.detector, weights_of(checkpoint, filename, prefer_ema=False), filename)
        self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        for schedule, state in zip(self.param_schedulers or [], checkpoint["param_schedulers"]):
            schedule.load_state_dict(state)
        self.train_loop.steps_done = self.train_loop._iter = int(checkpoint["meta"]["step"])
        self._random_states = checkpoint["random_states"]
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.logger.info(f"resumed {filename} at step {self.train_loop.steps_done} of {self.train_loop.max_iters}")

    def _check_same_run(self, meta: Mapping[str, Any], filename: str | Path) -> None:
        loop = self.train_loop
        mine = {"frames_per_step": loop.frames_per_step, "dataset_length": loop.length, "seed": self.seed}
        for key, value in mine.items():
            if meta.get(key) != value:
                raise CheckpointError(
                    f"checkpoint {filename} is of a run with {key} {meta.get(key)}, this one has {value}:"
                    " the order of the data would not continue"
                )
        if meta["max_steps"] != loop.max_iters:
            self.logger.warning(f"{filename} is of a run of {meta['max_steps']} steps, this one has {loop.max_iters}")

    def restore_random_state(self) -> None:
        """Put a resumed run's random state back; called when everything that might draw numbers is built."""
        if self._random_states is None:
            return
        if len(self._random_states) == self.world_size:
            random_state.restore(self._random_states[self.rank])
        else:
            self.logger.warning("another number of processes than the checkpoint's: the random state starts anew")
        self._random_states = None

    def load_checkpoint(self, filename: str | Path, strict: bool = False, **unused: Any) -> None:
        """Load weights alone: what fits, shown (fine-tuning), or all (``strict``)."""
        weights = weights_of(load_checkpoint(filename), filename)
        report = load_weights(self.detector, weights, filename, partial=not strict)
        self.logger.info(f"loaded {filename}: {report.summary()}")
        for kind, names in (("missing", report.missing), ("unexpected", report.unexpected)):
            if names:
                self.logger.warning(f"{kind} in {filename}: {', '.join(names)}")
        for key, have, want in report.misshapen:
            self.logger.warning(f"not loaded from {filename}: {key} is {have}, the model has {want}")

    # State of the run -----------------------------------------------------------------------------------------------

    def stop_requested(self) -> bool:
        """True on every process once one of them was signalled."""
        return distributed.any_process(self.stop_signal is not None)


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` in a work folder names; None where there is none.

    Raises:
        CheckpointError: the file it names is gone.
    """
    pointer = Path(work_dir) / POINTER
    if not pointer.is_file():
        return None
    path = pointer.parent / pointer.read_text().strip()
    if not path.is_file():
        raise CheckpointError(f"{pointer} names {path.name}, which does not exist")
    return path


def _required(cfg: Config, key: str) -> Any:
    if cfg.get(key) is None:
        raise ConfigError(f"config key '{key}' is missing")
    return cfg[key]
