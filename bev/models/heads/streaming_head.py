"""A set-prediction head with memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bev.models.heads.query_head import QueryHead
from bev.models.motion import Motion
from bev.structures import Boxes3D, CameraRig


class StreamingHead(QueryHead):
    """A set-prediction head with memory.

    ``forward(features, rig, state)`` returns the entries of ``QueryHead`` and ``"state"``.
    """

    @abstractmethod
    def motion_inputs(self, motion: Motion) -> Mapping[str, Tensor]:
        """What ``forward`` needs to know of the motion, in the precision of the network; ``continues`` is in it."""

    def remember(
        self, features: Sequence[Tensor], rig: CameraRig, state: Mapping[str, Tensor] | None, **hints: Any
    ) -> Mapping[str, Tensor]:
        """What ``forward`` returns under ``"state"``, alone."""
        memory: Mapping[str, Tensor] = self(features, rig, state, **hints)["state"]
        return memory

    def train_frame(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        boxes: Sequence[Boxes3D],
        avg_factors: Mapping[str, Tensor],
        **hints: Any,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Losses and outputs of one training frame; a head with queries for training alone adds them here.

        Args:
            features, rig, state: as of ``forward``.
            boxes: ground truth, one entry a frame.
            avg_factors: entries of ``target_counts``, scalars.
            hints: what else ``forward`` takes, see ``ImageEncoder.hints``.
        """
        outputs = self(features, rig, state, **hints)
        return self.loss(outputs, boxes, avg_factors["boxes"]), outputs
