"""What a temporal model is told of the vehicle's motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bev.structures import Batch


@dataclass(frozen=True, eq=False)
class Motion:
    """How B vehicles came to where they are.

    Attributes:
        continues: (B,) bool, False for the first frame of a recording: what follows is then zero or identity.
        global_from_ref: (B, 4, 4) float64 metres, present pose of the reference frame.
        ref_from_previous: (B, 4, 4) float64 metres, from the previous frame's reference frame to the present one's.
        elapsed_s: (B,) float64 since the previous frame.
    """

    continues: Tensor
    global_from_ref: Tensor
    ref_from_previous: Tensor
    elapsed_s: Tensor

    @staticmethod
    def first(batch: Batch) -> Motion:
        """Frames that follow nothing."""
        pose = batch.global_from_ref.double()
        return Motion(
            torch.zeros(len(batch), dtype=torch.bool, device=pose.device),
            pose,
            torch.eye(4, dtype=pose.dtype, device=pose.device).expand_as(pose),
            torch.zeros(len(batch), dtype=pose.dtype, device=pose.device),
        )

    def since(self, continues: Tensor, global_from_previous: Tensor, elapsed_s: Tensor) -> Motion:
        """The same frames, of which those where ``continues`` is True follow others."""
        # Augmented reference frames may be scaled or mirrored: an inverse, not a transpose.
        moved = torch.linalg.inv(self.global_from_ref) @ global_from_previous
        return Motion(
            continues,
            self.global_from_ref,
            torch.where(continues[:, None, None], moved, self.ref_from_previous),
            torch.where(continues, elapsed_s, 0.0),
        )
