"""mmengine's Runner, built from a configuration alone, with its traps mended.

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

import inspect
import itertools
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
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
from bev.engine.check import check_classes, check_config
from bev.engine.config import check_top_keys, fill_default_hooks
from bev.engine.data import build_dataloader
from bev.engine.distillation import Distillation
from bev.engine.evaluator import Evaluator
from bev.engine.frozen import freeze_norms
from bev.engine.hooks.channel_pruning import ChannelPruningHook
from bev.engine.hooks.distillation import DistillationHook
from bev.engine.loops import EvaluationLoop, TrainLoop
from bev.engine.registries import LOOPS, PARAM_SCHEDULERS, build, find
from bev.engine.run_state import last_checkpoint, load_only_weights, resume, state_of
from bev.engine.schedule import build_optim_wrapper
from bev.io.checkpoint import load_checkpoint, save_checkpoint, weights_of
from bev.io.narrow import fit_channels
from bev.models.detectors import Detector
from bev.registry import HOOKS, METRICS, MODELS, ConfigError, build_node, check_keys

_serial = itertools.count()


class Runner(_Runner):
    """One training or evaluation run.

    Args:
        cfg: a configuration as :func:`bev.engine.config.load_config` gives it.

    Raises:
        ConfigError: the configuration cannot be built; names the key.
    """

    # What mmengine keeps as configuration first and as object later.
    _test_dataloader: Any
    _train_loop: Any
    _val_loop: Any
    optim_wrapper: Any
    param_schedulers: Any
    model: Any

    def __init__(self, cfg: Config) -> None:
        check_top_keys(cfg)
        fill_default_hooks(cfg)
        check_config(cfg)
        training, testing = cfg.get("train_cfg") is not None, cfg.get("test_cfg") is not None
        validating = training and cfg.get("val_dataloader") is not None
        env = dict(cfg.get("env_cfg") or {})
        check_keys(env, ("cudnn_benchmark", "timeout_s"), "env_cfg")
        distributed.setup(cfg.get("launcher", "none"), env.get("timeout_s", 1800.0))
        self.validated_steps: set[int] = set()  # filled by ScalarLogHook from the log of a resumed run
        self.random_states: list[dict[str, Any]] | None = None  # of a checkpoint, until the loop takes them up
        self.stop_signal: int | None = None
        super().__init__(
            model=_required(cfg, "model"),
            work_dir=_required(cfg, "work_dir"),
            train_dataloader=_required(cfg, "train_dataloader") if training else None,
            val_dataloader=_required(cfg, "val_dataloader") if validating else None,
            test_dataloader=_required(cfg, "test_dataloader") if testing else None,
            train_cfg=cfg.get("train_cfg"),
            val_cfg=cfg.get("val_cfg") or {} if validating else None,
            test_cfg=cfg.get("test_cfg"),
            optim_wrapper=_required(cfg, "optim_wrapper") if training else None,
            param_scheduler=cfg.get("param_scheduler") if training else None,
            val_evaluator=_required(cfg, "val_evaluator") if validating else None,
            test_evaluator=_required(cfg, "test_evaluator") if testing else None,
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
        # mmengine names global objects (logger, message hub) by the second: two runs in one must not share them.
        serial = next(_serial)
        stamp = time.strftime("%Y%m%d_%H%M%S") + (f"_{serial}" if serial else "")
        self._timestamp = distributed.broadcast(stamp)
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
        """The detector of ``model``. Raises ConfigError where it builds anything else."""
        detector = build_node(model, MODELS, path="model") if isinstance(model, Mapping) else model
        if not isinstance(detector, Detector):
            raise ConfigError(f"config key 'model' builds a {type(detector).__name__}, expected a Detector")
        return detector

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> DetectorAdapter:
        """Move the detector to its device and give it what training needs: shared batch norms, frozen ones, a teacher,
        the exchange of gradients.

        Raises:
            ConfigError: ``frozen_norms`` or ``custom_hooks`` do not fit the detector.
        """
        device = torch.device(self.cfg.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.cfg.get("sync_bn") and device.type == "cuda" and self.distributed:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        training = self.cfg.get("train_cfg") is not None
        if training and self.cfg.get("frozen_norms"):
            freeze_norms(model, self.cfg.frozen_norms)
        # Before the model is wrapped: a teacher's terms add parameters, pruning by channels leaves others.
        nodes = enumerate(self.cfg.get("custom_hooks") or ())
        self._custom_hooks = [_built_hook(node, f"custom_hooks[{index}]") for index, node in nodes]
        for hook in self._custom_hooks if training else ():
            if isinstance(hook, ChannelPruningHook):
                hook.attach(model)
        if training and self.cfg.get("load_from"):  # of a narrowed network: the optimiser must see its parameters
            fit_channels(model, weights_of(load_checkpoint(self.cfg.load_from), self.cfg.load_from))
        # Images are channels_last; weights alike, or DDP copies every 1x1 gradient into another layout.
        model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return DetectorAdapter(
            model,  # type: ignore[arg-type]
            distributed=self.world_size > 1 and training,
            find_unused_parameters=bool(self.cfg.get("find_unused_parameters", False)),
            distillation=self._distillation(model, device) if training else None,
        )

    def _distillation(self, model: nn.Module, device: torch.device) -> Distillation | None:
        hooks = [hook for hook in self._custom_hooks if isinstance(hook, DistillationHook)]
        if len(hooks) > 1:
            raise ConfigError("config key 'custom_hooks' has two DistillationHooks; one takes several terms")
        return hooks[0].attach(model, device) if hooks else None

    @property
    def detector(self) -> Detector:
        """The bare detector."""
        return self.model.module

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Optimiser and its parameter groups, over all that is trained (a teacher's adapters too)."""
        if isinstance(optim_wrapper, Mapping):
            return build_optim_wrapper(optim_wrapper, self.model.trained)
        return optim_wrapper

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
        if "total_steps" in inspect.signature(kind).parameters:
            defaults["total_steps"] = self.train_loop.max_iters
        return build(node, PARAM_SCHEDULERS, path, **defaults)

    def build_train_loop(self, loop: Any) -> Any:
        """Loader and loop of ``train_cfg``. Raises ConfigError where the head's classes are not the pictures'."""
        loader = build_dataloader(self._train_dataloader, "train_dataloader", self.seed, train=True)
        check_classes(self.cfg.get("model"), loader.dataset, "train_dataloader")
        return _built_loop({"type": "TrainLoop", **loop}, "train_cfg", TrainLoop, runner=self, dataloader=loader)

    def build_val_loop(self, loop: Any) -> Any:
        """Loader, evaluator and loop of the validation within a training."""
        return self._build_evaluation_loop(loop, "val", "ValLoop", self._val_dataloader, self._val_evaluator)

    def build_test_loop(self, loop: Any) -> Any:
        """Loader, evaluator and loop of ``test_cfg``; several views keep the files' own pixels beside the batches."""
        if loop.get("views") is not None:
            self._keep_pictures()
        return self._build_evaluation_loop(loop, "test", "TestLoop", self._test_dataloader, self._test_evaluator)

    def _keep_pictures(self) -> None:
        """Views are cut from the files' own pixels."""
        node = self._test_dataloader.get("dataset")
        if not isinstance(node, Mapping) or node.get("type") != "PictureDataset":
            raise ConfigError("config key 'test_cfg.views' needs a PictureDataset in 'test_dataloader.dataset'")
        self._test_dataloader = {**self._test_dataloader, "dataset": {**node, "keep_pictures": True}}

    def _build_evaluation_loop(self, loop: Any, stage: str, kind: str, loader_cfg: Any, evaluator: Any) -> Any:
        loader = build_dataloader(loader_cfg, f"{stage}_dataloader", self.seed, train=False)
        check_classes(self.cfg.get("model"), loader.dataset, f"{stage}_dataloader")
        scorer = self.build_evaluator(evaluator, f"{stage}_evaluator")
        node = {"type": kind, **loop}
        return _built_loop(node, f"{stage}_cfg", EvaluationLoop, runner=self, dataloader=loader, evaluator=scorer)

    def build_evaluator(self, evaluator: Any, path: str = "evaluator") -> Evaluator:
        """One evaluator of one metric or several; ``path`` is the config key that errors name."""
        nodes = evaluator if isinstance(evaluator, Sequence) else [evaluator]
        return Evaluator([build(n, METRICS, path) if isinstance(n, Mapping) else n for n in nodes])

    # Hooks ----------------------------------------------------------------------------------------------------------

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Those that are not switched off (None), in the configuration's order."""
        for name, hook in (hooks or {}).items():
            if hook is not None:
                self.register_hook(_built_hook(hook, f"default_hooks.{name}"))

    def register_custom_hooks(self, hooks: Sequence[Any]) -> None:
        """Those that :meth:`wrap_model` has built."""
        for hook in self._custom_hooks:
            self.register_hook(hook)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call that event of every hook that has it, in order of priority; errors keep their own traceback."""
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
            Path(self.work_dir, name).write_text(self.config_text)
            mmengine.dump(self.versions, os.path.join(self.work_dir, "versions.json"), indent=2)

    # Running --------------------------------------------------------------------------------------------------------

    def train(self) -> nn.Module:
        """Build what is not built, load or resume, train.

        mmengine's order of events, but without ``init_weights`` (detectors initialise themselves in their
        constructors) and the validation's parts built before the first step: a mistake there shows at once.
        """
        self._train_loop = self.build_train_loop(self._train_loop)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        self.param_schedulers = self.build_param_scheduler(self.param_schedulers or [])
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook("before_run")
        self.load_or_resume()
        model: nn.Module = self.train_loop.run()
        self.call_hook("after_run")
        return model

    @cached_property
    def config_text(self) -> str:
        """The configuration as Python; kept, since formatting it takes longer than a checkpoint."""
        return str(self.cfg.pretty_text)

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def load_or_resume(self) -> None:
        """``resume``: True takes the work folder's last checkpoint if there is one, a path takes that one.
        ``load_from`` loads weights alone."""
        if self._resume:
            path = Path(self._resume) if isinstance(self._resume, (str, Path)) else last_checkpoint(self.work_dir)
            if path is not None:
                resume(self, path)
                return
            self.logger.info(f"nothing to resume in {self.work_dir}; starting from step 0")
        if self._load_from is not None:
            load_only_weights(self, self._load_from, strict=False)

    def save_checkpoint(self, out_dir: str, filename: str, **unused: Any) -> None:
        """mmengine's door, for its own hooks (best checkpoints and the like): the whole state of the run."""
        checkpoint = state_of(self)
        if self.rank == 0:
            save_checkpoint(checkpoint, Path(out_dir) / filename)

    def load_checkpoint(self, filename: str | Path, strict: bool = False, **unused: Any) -> None:
        """mmengine's door: weights alone."""
        load_only_weights(self, filename, strict)

    def resume(self, filename: str | Path, **unused: Any) -> None:
        """mmengine's door: continue a run."""
        resume(self, filename)

    def stop_requested(self) -> bool:
        """True on every process once one of them was signalled; all of them then know the signal."""
        number = distributed.largest(self.stop_signal or 0)
        if number:  # else leave it alone: a signal may have come since it was read
            self.stop_signal = number
        return number != 0


def _built_hook(hook: Any, path: str) -> Hook:
    if isinstance(hook, Mapping):
        node = dict(hook)
        priority = node.pop("priority", None)
        hook = build(node, HOOKS, path)
        hook.priority = priority or hook.priority
    if not isinstance(hook, Hook):
        raise ConfigError(f"config key '{path}' builds a {type(hook).__name__}, expected a Hook")
    return hook


def _built_loop(node: dict[str, Any], path: str, expected: type, **parts: Any) -> Any:
    kind = find(node["type"], LOOPS, path)
    if not (isinstance(kind, type) and issubclass(kind, expected)):
        raise ConfigError(f"config key '{path}.type' names {node['type']!r}, which is not a {expected.__name__} of bev")
    return build(node, LOOPS, path, **parts)


def _required(cfg: Config, key: str) -> Any:
    if cfg.get(key) is None:
        raise ConfigError(f"config key '{key}' is missing")
    return cfg[key]
