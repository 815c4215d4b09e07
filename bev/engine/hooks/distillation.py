"""Knowledge distillation in a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn

from bev.engine.config import load_config
from bev.engine.distillation import Distillation
from bev.io.checkpoint import CheckpointError
from bev.models.losses.distillation import DistillationTerm
from bev.registry import HOOKS, ConfigError, check_keys


@HOOKS.register_module()
class DistillationHook(Hook):
    """Trains the configuration's model with a teacher beside it; the checkpoints are the student's alone.

    The teacher sees the same pictures in evaluation mode and is never changed. Adapters of the terms are trained with
    the student and saved apart from its weights, for resuming.

    Args:
        teacher: ``config`` (a file), ``checkpoint`` (a file or a work folder) and perhaps ``options``, a list of
            ``key=value`` that change the configuration.
        terms: ``LogitDistillation``, ``BoxDistillation``, ``FeatureDistillation``, ``MapDistillation``.

    Raises:
        ConfigError: no terms, or something that is none; a teacher without ``config`` or ``checkpoint``.
    """

    def __init__(self, teacher: Mapping[str, Any], terms: Sequence[nn.Module]) -> None:
        check_keys(teacher, ("config", "checkpoint", "options"), "DistillationHook.teacher")
        for key in ("config", "checkpoint"):
            if key not in teacher:
                raise ConfigError(f"DistillationHook.teacher needs {key!r}")
        wrong = [type(term).__name__ for term in terms if not isinstance(term, DistillationTerm)]
        if wrong or not terms:
            raise ConfigError(f"DistillationHook.terms must be distillation terms, got {', '.join(wrong) or 'none'}")
        self.teacher, self.terms = dict(teacher), list(terms)
        self.part: Distillation | None = None

    def attach(self, student: nn.Module, device: torch.device) -> Distillation:
        """What computes the losses from now on: a module with the adapters, on ``device``.

        Raises:
            ConfigError, CheckpointError: the teacher cannot be built, or its weights do not fit.
        """
        from bev.engine.infer import build_detector  # it stands on the engine's doors

        cfg = load_config(self.teacher["config"], self.teacher.get("options", ()))
        teacher = build_detector(cfg, self.teacher["checkpoint"], str(device))
        self.part = Distillation(student, teacher, self.terms).to(device)  # type: ignore[arg-type]
        return self.part

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.part is not None:
            checkpoint["distillation"] = self.part.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.part is None:
            return
        try:
            self.part.load_state_dict(checkpoint.get("distillation") or {})
        except RuntimeError as error:
            raise CheckpointError(f"the distillation's adapters are not those of the checkpoint: {error}") from error
