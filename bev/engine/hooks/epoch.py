"""Parts of a model that change with the epoch."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from bev.models.heads.dense import SwitchCriterion
from bev.registry import HOOKS


@HOOKS.register_module()
class CriterionEpochHook(Hook):
    """Tells every :class:`SwitchCriterion` of the model the epoch, also of a resumed run.

    It belongs to the default hooks: a model without such a criterion is left alone.
    """

    def before_train_epoch(self, runner: Any) -> None:
        for part in runner.detector.modules():
            if isinstance(part, SwitchCriterion):
                part.epoch = runner.train_loop.epoch
