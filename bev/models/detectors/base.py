"""The API that every multi-camera detector stands behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bev.structures import Batch, Boxes3D, CameraRig

State = Mapping[str, Tensor]


class Detector(nn.Module, ABC):
    """Three pure doors, and the counts that make their losses add up over micro-batches and processes.

    A detector keeps no memory between calls: temporal models take a ``state`` and return the next one under the key
    ``"state"`` of forward's result; ``detectors.temporal`` has their interface.
    """

    @abstractmethod
    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Raw outputs: what is exported.

        Args:
            images: (B, N, 3, H, W) uint8 or float 0..255, RGB; normalisation happens inside.
            rig: calibration with the batch axis, at network size (H, W).
            state: result of the previous frame for temporal models.
        """

    @abstractmethod
    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Scalar loss terms by name; their sum is minimised. Needs ``batch.boxes``.

        Args:
            batch: on the model's device.
            avg_factors: what to divide by instead of this batch's own :meth:`target_counts`, e.g. their mean over the
                micro-batches and processes of one optimiser step: then gradients averaged over those are the
                gradients of the one large batch.
        """

    @abstractmethod
    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar float counts (from the ground truth alone) that normalise the terms of :meth:`loss`, unclamped."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, sorted by falling score. Needs no ground truth."""


def ground_truth(batch: Batch) -> list[Boxes3D]:
    """The batch's boxes. Raises ValueError, naming the samples, where there are none to learn from."""
    if batch.boxes is None:
        raise ValueError(f"samples {batch.tokens} have no ground truth to learn from")
    return batch.boxes
