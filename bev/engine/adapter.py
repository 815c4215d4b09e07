"""The one adapter between a plain detector and mmengine: train_step / val_step / test_step / ``mode=``, and DDP.

To mmengine the adapter is a "model wrapper", as DistributedDataParallel is: hooks that want the model itself take
``.module``, which is the bare detector with its own parameter names, with one process and with many.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bev.engine import distributed
from bev.engine.distillation import Distillation
from bev.engine.guard import NonFiniteError
from bev.engine.optim import OptimWrapper
from bev.models.detectors import Detector, FrameStream, TemporalDetector
from bev.structures import Batch, Boxes3D


class _LossDoor(nn.Module):
    """``loss`` as a ``forward``: DDP synchronises gradients only of what went through its own forward."""

    def __init__(self, detector: Detector, stream: FrameStream | None, distillation: Distillation | None) -> None:
        super().__init__()
        self.detector, self._stream, self.distillation = detector, stream, distillation

    def forward(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        def losses() -> dict[str, Tensor]:
            return (self.detector if self._stream is None else self._stream).loss(batch, avg_factors)

        if self.distillation is None:
            return losses()
        result: dict[str, Tensor] = self.distillation(batch, losses)
        return result


def _stream(detector: Detector) -> FrameStream | None:
    """What carries a detector's memory; None for one without."""
    return FrameStream(detector) if isinstance(detector, TemporalDetector) and detector.remembers else None


def _data_parallel(door: nn.Module, find_unused_parameters: bool) -> DistributedDataParallel:
    """DDP that leaves buffers alone: running statistics are not used in training, and rank 0's are handed out where
    they are, before evaluation and saving (``broadcast_buffers``). Once a step it would cost a wait for each other."""
    # The option's new name since torch 2.13; the old one warns there.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"find_unused_parameters": find_unused_parameters, name: False}
    return DistributedDataParallel(door, **options)


@MODEL_WRAPPERS.register_module()
class DetectorAdapter(nn.Module):
    """A detector as mmengine's Runner wants it.

    Args:
        detector: on its device.
        distributed: average gradients over the processes of the default group.
        find_unused_parameters: as DistributedDataParallel has it.
        distillation: what a teacher adds to the losses.

    Attributes:
        trained: the module with everything that is trained: the detector and the distillation's adapters.
        training_stream, evaluation_stream: carry a temporal detector's memory from batch to batch, each apart from the
            other, wherever the sampler says that frames continue (``Batch.starts``); None for other detectors.
    """

    def __init__(
        self,
        detector: Detector,
        distributed: bool = False,
        find_unused_parameters: bool = False,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.module = detector
        self.training_stream, self.evaluation_stream = _stream(detector), _stream(detector)
        door: nn.Module = _LossDoor(detector, self.training_stream, distillation)
        self._trained = (detector if distillation is None else door,)
        if distributed:
            door = _data_parallel(door, find_unused_parameters)
        # In a tuple: not a submodule, so every parameter has one name.
        self._door = (door,)

    @property
    def trained(self) -> nn.Module:
        """See above."""
        return self._trained[0]

    @property
    def device(self) -> torch.device:
        """Where the detector's parameters are."""
        return next(self.module.parameters()).device

    def forward(self, batch: Batch, mode: str = "predict") -> Any:
        """mmengine's door: ``mode`` is loss, predict or tensor."""
        doors = {
            "loss": lambda: self._door[0](batch, None),
            "predict": lambda: self.module.predict(batch),
            "tensor": lambda: self.module(batch.images, getattr(batch, "rig", None)),  # single pictures have no rig
        }
        if mode not in doors:
            raise ValueError(f"mode {mode!r} is unknown; valid: {', '.join(doors)}")
        return doors[mode]()

    def train_step(self, data: Batch | Sequence[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimiser step over the micro-batches ``data``.

        The counts that normalise the losses are averaged over all micro-batches and processes first, so that the
        gradient is that of the one large batch.

        Returns:
            Mean over the micro-batches of every loss term, and their sum ``loss``; detached.

        Raises:
            NonFiniteError: a loss term or the gradient is not finite; nothing was updated.
        """
        before = () if self.training_stream is None else self.training_stream.pasts
        try:
            return self._step(data, optim_wrapper)
        except NonFiniteError:
            if self.training_stream is not None:
                self.training_stream.pasts = before
            raise

    def _step(self, data: Batch | Sequence[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        given: Any = data if isinstance(data, (list, tuple)) else [data]
        batches: list[Batch] = [batch.to(self.device) for batch in given]
        counts = self._mean_counts(batches)
        optim_wrapper.begin_step(self.module, len(batches))
        total: Tensor | None = None
        names: list[str] = []
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with optim_wrapper.optim_context(self._door[0], synchronise=last):
                terms = self._door[0](batch, counts)
                names, values = list(terms), torch.stack([term.float() for term in terms.values()])
                loss = values.sum()
            optim_wrapper.backward(loss, names, values, batch.tokens)
            total = values.detach() if total is None else total + values.detach()
        optim_wrapper.finish_step()
        assert total is not None
        mean = total / len(batches)
        return {**dict(zip(names, mean)), "loss": mean.sum()}

    def _mean_counts(self, batches: Sequence[Batch]) -> dict[str, Tensor] | None:
        """None for one batch in one process: the detector then uses its own counts."""
        if len(batches) == 1 and distributed.world_size() == 1:
            return None
        return distributed.mean_counts([self.module.target_counts(batch) for batch in batches])

    def val_step(self, data: Batch) -> list[Boxes3D]:
        """Predictions on CPU, sorted by falling score; a temporal detector continues what the last call saw."""
        predictor = self.evaluation_stream or self.module
        return [boxes.to("cpu") for boxes in predictor.predict(data.to(self.device))]

    test_step = val_step

    def broadcast_buffers(self) -> None:
        """Rank 0's buffers (running statistics) on every process: what is evaluated is what is saved."""
        if distributed.world_size() > 1:
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, src=0)
