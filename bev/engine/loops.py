"""The loops: training by optimiser steps, and one pass of predictions with its score."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import BaseLoop

from bev.engine import distributed, random_state
from bev.engine.data import describe_faults, stream
from bev.engine.registries import LOOPS
from bev.engine.run_state import restore_random_state
from bev.engine.views import NetworkInput, build_views
from bev.registry import ConfigError
from bev.structures import Batch


@LOOPS.register_module()
class TrainLoop(BaseLoop):
    """Training by optimiser steps: the one unit in which a run is counted, saved and resumed.

    Args:
        runner: gives model, optimiser, hooks.
        dataloader: endless, of micro-batches.
        max_steps, max_epochs: length of the run, one of the two. An epoch is the data set's length; a run in epochs
            has ``ceil(max_epochs * length / frames a step)`` steps.
        val_interval: steps between two validations; None validates at the end alone, 0 never.
        val_interval_epochs: the same in epochs.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_steps: int | None = None,
        max_epochs: float | None = None,
        val_interval: int | None = None,
        val_interval_epochs: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        if (max_steps is None) == (max_epochs is None):
            raise ConfigError("config key 'train_cfg' needs exactly one of 'max_steps' and 'max_epochs'")
        if val_interval is not None and val_interval_epochs is not None:
            raise ConfigError("config key 'train_cfg' has both 'val_interval' and 'val_interval_epochs'")
        self._max_steps, self._max_epochs = max_steps, max_epochs
        self._val_interval, self._val_interval_epochs = val_interval, val_interval_epochs
        self.val_begin = 1
        self.steps_done = 0
        self.stop_training = False  # set by hooks, e.g. mmengine's EarlyStoppingHook
        self.data_seconds = self.step_seconds = 0.0

    @property
    def micro_batches(self) -> int:
        """Micro-batches an optimiser step (a process)."""
        wrapper = self.runner.optim_wrapper
        counts = wrapper.get("accumulative_counts", 1) if isinstance(wrapper, Mapping) else wrapper.accumulative_counts
        return int(counts)

    @property
    def frames_per_step(self) -> int:
        """Frames an optimiser step, over all processes."""
        batch_size: int = self.dataloader.batch_sampler.batch_size
        return batch_size * self.micro_batches * distributed.world_size()

    @property
    def length(self) -> int:
        """Frames of the data set."""
        return len(self.dataloader.dataset)

    def _steps_of(self, epochs: float) -> int:
        return max(1, -(-round(epochs * self.length) // self.frames_per_step))

    @property
    def max_iters(self) -> int:
        """Optimiser steps of the whole run."""
        return self._max_steps if self._max_steps is not None else self._steps_of(self._max_epochs or 0)

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole run, begun ones counted."""
        return -(-self.max_iters * self.frames_per_step // self.length)

    @property
    def val_interval(self) -> int:
        """Steps between two validations; 0 for never."""
        if self._val_interval_epochs is not None:
            return self._steps_of(self._val_interval_epochs)
        return self.max_iters if self._val_interval is None else self._val_interval

    @property
    def iter(self) -> int:
        """Steps completed before the current one."""
        return self._iter

    _iter = 0

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._iter * self.frames_per_step // self.length

    def run(self) -> Any:
        """Train until the last step, a hook's wish or a signal."""
        runner = self.runner
        self._iter = self.steps_done
        random_state.seed_everything(runner.seed + distributed.rank())  # dropout differs between processes
        runner.call_hook("before_train")
        if self.steps_done and self._validation_due() and self.steps_done not in runner.validated_steps:
            self._validate()
        if (memory := runner.model.training_stream) is not None:
            memory.reach = getattr(self.dataloader.batch_sampler, "turns", 1)
        batches = stream(self.dataloader, self.steps_done * self.micro_batches)
        restore_random_state(runner)
        runner.model.train()
        runner.call_hook("before_train_epoch")
        while self.steps_done < self.max_iters and not self.stop_training and not runner.stop_requested():
            self._step(batches)
            if self._validation_due():
                self._validate()
                runner.model.train()
        runner.optim_wrapper.finish_run()
        _show_faults(runner, self.dataloader)
        runner.call_hook("after_train")
        return runner.model

    def _step(self, batches: Any) -> None:
        runner, epoch = self.runner, self.epoch
        begin = time.perf_counter()
        data: list[Batch] = [next(batches) for _ in range(self.micro_batches)]
        self.data_seconds = time.perf_counter() - begin
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data)
        outputs = runner.model.train_step(data, optim_wrapper=runner.optim_wrapper)
        self.step_seconds = time.perf_counter() - begin
        self.steps_done = self._iter + 1
        runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data, outputs=outputs)
        self._iter = self.steps_done
        if self.epoch != epoch:
            _show_faults(runner, self.dataloader)
            runner.call_hook("after_train_epoch")
        # A stage of our own: checkpoints are taken when everything of this step has happened.
        runner.call_hook("after_train_step")
        if self.epoch != epoch and self.steps_done < self.max_iters:
            runner.call_hook("before_train_epoch")

    def _validation_due(self) -> bool:
        if self.runner.val_loop is None or not self.val_interval or self.stop_training:
            return False
        return self.steps_done % self.val_interval == 0 or self.steps_done == self.max_iters

    def _validate(self) -> None:
        """Validation must leave no trace in training: the random state is put back."""
        state = random_state.capture()
        self.runner.val_loop.run()
        random_state.restore(state)


class EvaluationLoop(BaseLoop):
    """Predict every frame once and score.

    Args:
        runner: gives the model and the hooks.
        dataloader: every frame once; in a distributed run this process's slice.
        evaluator: takes ``(batch, predictions)``; None only draws or writes through hooks.
    """

    stage = "val"
    no_gradient: Any = torch.no_grad

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any = None) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = evaluator
        metainfo = getattr(dataloader.dataset, "metainfo", None)
        if evaluator is not None and metainfo is not None:
            evaluator.dataset_meta = metainfo

    def run(self) -> dict[str, Any]:
        """Metrics by name, the same on every process; empty where a signal asked to stop."""
        runner, stage = self.runner, self.stage
        runner.call_hook(f"before_{stage}")
        runner.call_hook(f"before_{stage}_epoch")
        runner.model.broadcast_buffers()
        runner.model.eval()
        if (memory := runner.model.evaluation_stream) is not None:
            memory.reset()
        metrics: dict[str, Any] = {}
        try:
            with self.no_gradient():
                finished = self._predict_all()
            if finished and self.evaluator is not None:
                metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        finally:
            # Also after an error: the moving average must not stay in the place of the weights.
            runner.call_hook(f"after_{stage}_epoch", metrics=metrics)
        _show_faults(runner, self.dataloader)
        runner.call_hook(f"after_{stage}")
        return metrics

    def _predict(self, batch: Any) -> list[Any]:
        outputs: list[Any] = self.runner.model.val_step(batch)
        return outputs

    def _predict_all(self) -> bool:
        index, has_past, memory = -1, False, self.runner.model.evaluation_stream
        for index, batch in enumerate(self.dataloader):
            has_past = has_past or (memory is not None and bool(batch.previous))
            # Alone, a process may leave at once; several finish, since each has its own number of batches.
            if distributed.world_size() == 1 and self.runner.stop_requested():
                return False
            self.runner.call_hook(f"before_{self.stage}_iter", batch_idx=index, data_batch=batch)
            outputs = self._predict(batch)
            if self.evaluator is not None:
                self.evaluator.process(data_samples=outputs, data_batch=batch)
            self.runner.call_hook(f"after_{self.stage}_iter", batch_idx=index, data_batch=batch, outputs=outputs)
        if memory is not None and index > 0 and not has_past and not memory.continued:
            self.runner.logger.warning(
                f"every frame of {self.stage} stood alone, but the detector has a memory: give {self.stage}_dataloader"
                ' sampler=dict(type="SceneEvalSampler"), or its data set history=...'
            )
        return True


@LOOPS.register_module()
class ValLoop(EvaluationLoop):
    """Validation inside a training run.

    Under ``no_grad``, not ``inference_mode``: a model may keep an index table that it computes here (pooling geometry
    of a fixed rig), and a table made in inference mode could not take part in the training steps that follow.
    """


@LOOPS.register_module()
class TestLoop(EvaluationLoop):
    """Validation of a checkpoint.

    Args:
        runner, dataloader, evaluator: as :class:`EvaluationLoop`.
        views: arguments of :class:`bev.engine.views.PictureViews`: a 2D detector then looks at several views of every
            picture (mirrored, scaled, tiles). None: at the one that the data set prepares.
    """

    stage = "test"
    no_gradient = torch.inference_mode
    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any = None, views: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.views = None if views is None else build_views(views, "test_cfg.views")

    def _predict(self, batch: Any) -> list[Any]:
        if self.views is None:
            return super()._predict(batch)
        model, data = self.runner.model, self.dataloader.dataset
        prepared = NetworkInput(data.sizes[0], data.place, data.pad_value)
        return [
            self.views.detect(model.module.predict, picture.numpy(), prepared, token, model.device)
            for picture, token in zip(batch.pictures, batch.tokens)
        ]


def _show_faults(runner: Any, dataloader: Any) -> None:
    if faults := describe_faults(dataloader.dataset):
        runner.logger.warning(faults)
