"""What StreamPETR remembers: the best queries of earlier frames, in the axes of the latest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Memory(NamedTuple):
    """M remembered queries, the latest frame's first. All zero where nothing is remembered.

    Attributes:
        embedding: (B, M, C).
        point_m: (B, M, 3) centres in the present reference frame.
        velocity_mps: (B, M, 2) in the axes of the frame that each query is from.
        age_s: (B, M) since that frame.
        pose: (B, M, 4, 4) from that frame's reference frame to the present one.
    """

    embedding: Tensor
    point_m: Tensor
    velocity_mps: Tensor
    age_s: Tensor
    pose: Tensor

    @staticmethod
    def empty(batch: int, length: int, channels: int, device: torch.device) -> Memory:
        """Nothing remembered."""
        tails = ((channels,), (3,), (2,), (), (4, 4))
        return Memory(*(torch.zeros(batch, length, *tail, device=device) for tail in tails))

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> Memory:
        """From the entries of a state."""
        return Memory(*(state[name] for name in Memory._fields))

    def carried(self, ref_from_previous: Tensor, elapsed_s: Tensor, continues: Tensor) -> Memory:
        """As seen from the present frame.

        Args:
            ref_from_previous: (B, 4, 4), elapsed_s: (B,), continues: (B,) bool; see ``Motion``. Where a frame does
                not continue the past, nothing is remembered.
        """
        moved = ref_from_previous.unsqueeze(1)
        point_m = (moved[..., :3, :3] @ self.point_m.unsqueeze(-1)).squeeze(-1) + moved[..., :3, 3]
        age_s, pose = self.age_s + elapsed_s.unsqueeze(1), moved @ self.pose
        kept = Memory(self.embedding, point_m, self.velocity_mps, age_s, pose)
        return Memory(*(torch.where(_like(continues, part), part, torch.zeros_like(part)) for part in kept))

    def with_first(self, point_m: Tensor, begins: Tensor) -> Memory:
        """The first P entries of frames that begin replaced by (P, 3) learned points at rest; ``begins`` (B,) bool."""
        count, device = len(point_m), point_m.device
        length = self.point_m.shape[1]
        where = begins[:, None] & (torch.arange(length, device=device) < count)
        padded = torch.cat([point_m, point_m.new_zeros(length - count, 3)])
        eye = torch.eye(4, device=device)
        return self._replace(
            point_m=torch.where(where.unsqueeze(-1), padded, self.point_m),
            pose=torch.where(where[..., None, None], eye, self.pose),
        )

    def with_latest(self, latest: Memory, length: int) -> Memory:
        """``latest`` in front, ``length`` entries in all at most."""
        return Memory(*(torch.cat([new, old], 1)[:, :length] for new, old in zip(latest, self)))

    def first(self, count: int) -> Memory:
        """The first ``count`` entries."""
        return Memory(*(part[:, :count] for part in self))

    def state(self) -> dict[str, Tensor]:
        """As entries of a state, without gradients."""
        return {name: part.detach() for name, part in self._asdict().items()}


def _like(flag: Tensor, part: Tensor) -> Tensor:
    return flag.view(-1, *[1] * (part.ndim - 1))
