"""Which of mmdet3d's two box conventions a file uses: asked of the boxes themselves.

The numbers do not say it and reading them wrongly is silent, but three things about the world differ: vehicles are
longer than wide, what moves moves along its heading, and LiDAR points lie inside the boxes that count them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from bev.geometry.boxes import points_in_boxes
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES, BoxConvention, boxes_from_array

CONVENTIONS: tuple[BoxConvention, ...] = get_args(BoxConvention)
MEANING = {"mmdet3d_v1": "x, y, z, l, w, h, yaw", "mmdet3d_v0": "x, y, z, w, l, h, -yaw - pi/2"}
_LONG = [CLASSES.index(name) for name in ("car", "truck", "bus", "trailer", "motorcycle", "bicycle")]
_LONGER_BY = 1.2
_MOVING_MPS, _ALONG = 1.5, 0.9
_COUNTED_POINTS = 5  # fewer are in a wrongly turned box as often
# A witness is heard from so many votes on, and speaks for the side that has so large a share of them.
_MIN_VOTES, _MIN_SHARE = 3, 0.8


@dataclass(frozen=True)
class Evidence:
    """Votes of three witnesses for each convention, in the order of ``CONVENTIONS``.

    Attributes:
        votes: by witness: ``sizes`` (long vehicles whose length is the longer side), ``motion`` (moving objects that
            move along their heading), ``points`` (boxes that contain the stated number of LiDAR points).
    """

    votes: dict[str, list[int]] = field(default_factory=dict)

    def says(self, witness: str) -> BoxConvention | None:
        """What one witness says; None where it has too few votes or they are divided."""
        counts = self.votes[witness]
        best = max(range(len(counts)), key=counts.__getitem__)
        total = sum(counts)
        return CONVENTIONS[best] if total >= _MIN_VOTES and counts[best] >= _MIN_SHARE * total else None

    def verdict(self) -> BoxConvention | None:
        """What all witnesses that are heard say; None where none is heard or they contradict each other."""
        said = {self.says(witness) for witness in self.votes} - {None}
        return said.pop() if len(said) == 1 else None

    def __str__(self) -> str:
        texts = {
            "sizes": "long vehicles are longer than wide",
            "motion": "moving objects move ahead",
            "points": "boxes hold their number of points",
        }
        first, second = CONVENTIONS
        return "; ".join(f"{texts[w]}: {a} as {first}, {b} as {second}" for w, (a, b) in self.votes.items())


def weigh(array: Tensor, label: Tensor, clouds: list[tuple[Tensor, Tensor, Tensor]]) -> Evidence:
    """Let the boxes of a file speak.

    Args:
        array: (M, 9) boxes as the file has them, centre heights; unknown velocities NaN.
        label: (M,) indices into ``CLASSES``.
        clouds: of some frames the (P, 3) points, (m, 9) boxes and (m,) stated numbers of LiDAR points.
    """
    read = [boxes_from_array(array, label, convention, "center") for convention in CONVENTIONS]
    long = torch.isin(label, torch.tensor(_LONG))
    sizes = [int((boxes.size_m[long, 0] > _LONGER_BY * boxes.size_m[long, 1]).sum()) for boxes in read]
    votes = {"sizes": sizes, "motion": _motion(read)}
    if clouds:
        votes["points"] = [sum(_count_agreements(*cloud, convention) for cloud in clouds) for convention in CONVENTIONS]
        both = min(votes["points"])
        votes["points"] = [count - both for count in votes["points"]]  # what fits either way says nothing
    return Evidence(votes)


def _motion(read: list[Boxes3D]) -> list[int]:
    along = []
    for boxes in read:
        heading = torch.stack([boxes.yaw_rad.cos(), boxes.yaw_rad.sin()], -1)
        speed = boxes.velocity_mps.norm(dim=1)
        ahead = (boxes.velocity_mps * heading).sum(1) > _ALONG * speed
        along.append(ahead & (speed > _MOVING_MPS))
    only = along[0] ^ along[1]
    return [int((mask & only).sum()) for mask in along]


def _count_agreements(xyz_m: Tensor, array: Tensor, stated: Tensor, convention: BoxConvention) -> int:
    boxes = boxes_from_array(array, torch.zeros(len(array)), convention, "center")
    counted = points_in_boxes(xyz_m.to(array), boxes).sum(1)
    return int(((counted == stated) & (stated >= _COUNTED_POINTS)).sum())
