"""Temporal detectors: one state interface, explicit in and out.

A state is a mapping of tensors with the batch axis first. What the previous frame's ``forward`` returned under
``"state"`` (its memory), joined with ``motion_inputs`` of the way since then, is what the present frame's ``forward``
takes. Nothing is kept in the model: a ``FrameStream`` carries the memory through recordings, in training, in evaluation
and for whoever calls it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bev.models.detectors.base import Detector, State
from bev.models.motion import Motion
from bev.structures import Batch, Boxes3D, CameraRig


class TemporalDetector(Detector):
    """A detector whose ``forward`` may take a state and returns its memory under ``"state"``.

    ``loss`` and ``predict`` take the past from ``batch.previous`` alone; without it a frame stands alone.
    """

    @property
    def remembers(self) -> bool:
        """Whether this one, as configured, has a memory at all."""
        return True

    @abstractmethod
    def motion_inputs(self, motion: Motion) -> State:
        """The part of :meth:`forward`'s state that does not come from the previous frame's result: what the network
        is told of the motion, ``continues`` (B,) bool among it."""

    @abstractmethod
    def decode(self, outputs: dict[str, Any]) -> list[Boxes3D]:
        """Outputs of :meth:`forward` -> boxes in the reference frame, one entry a frame, by falling score."""

    @abstractmethod
    def stream_loss(
        self, batch: Batch, state: State, avg_factors: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """Losses of the present frames given their state, and the memory for the next ones.

        Args:
            batch: on the model's device, with ground truth; ``previous`` is not read.
            state: as :meth:`forward` takes it. No gradient flows into it.
            avg_factors: as of :meth:`loss`.
        """

    def remember(self, images: Tensor, rig: CameraRig, state: State | None = None) -> State:
        """The memory alone, as :meth:`forward` returns it under ``"state"``; may cost less."""
        memory: State = self(images, rig, state)["state"]
        return memory
