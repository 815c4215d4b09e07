"""Random rigid transforms and boxes for property tests."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from bev.geometry.rotations import matrix_from_quaternion, rotation_about_z
from bev.geometry.transforms import rigid
from bev.structures import Boxes3D

_length = st.floats(-100, 100, width=32)


@st.composite
def upright(draw: st.DrawFn) -> Tensor:
    """(4, 4) turn about z and a translation."""
    yaw = torch.tensor(draw(st.floats(-math.pi, math.pi))).double()
    return rigid(rotation_about_z(yaw), torch.tensor([draw(_length) for _ in range(3)]).double())


@st.composite
def rigids(draw: st.DrawFn) -> Tensor:
    """(4, 4) any rotation and a translation."""
    quaternion = torch.tensor([draw(st.floats(-1, 1)) for _ in range(4)]).double()
    if float(quaternion.norm()) < 0.1:
        quaternion = torch.tensor([1.0, 0, 0, 0]).double()
    return rigid(matrix_from_quaternion(quaternion), torch.tensor([draw(_length) for _ in range(3)]).double())


@st.composite
def boxes(draw: st.DrawFn, frame: str = "lidar") -> Boxes3D:
    """Up to six boxes, float64; some velocities are not known."""
    m = draw(st.integers(0, 6))

    def column(low: float, high: float, width: int) -> Tensor:
        values = [[draw(st.floats(low, high)) for _ in range(width)] for _ in range(m)]
        return torch.tensor(values, dtype=torch.float64).reshape(m, width)

    velocity = column(-30, 30, 2)
    velocity[torch.tensor([draw(st.booleans()) for _ in range(m)], dtype=torch.bool)] = math.nan
    return Boxes3D(
        center_m=column(-100, 100, 3),
        size_m=column(0.1, 20, 3),
        yaw_rad=column(-math.pi, math.pi, 1)[:, 0],
        velocity_mps=velocity,
        label=torch.tensor([draw(st.integers(0, 9)) for _ in range(m)], dtype=torch.int64),
        score=column(0, 1, 1)[:, 0],
        frame=frame,  # type: ignore[arg-type]
    )


def assert_same_boxes(a: Boxes3D, b: Boxes3D, atol: float = 1e-9) -> None:
    """Equal up to ``atol``; headings as directions."""
    assert a.frame == b.frame
    for name in ("center_m", "size_m", "velocity_mps", "score"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=1e-9, equal_nan=True)
    torch.testing.assert_close(a.yaw_rad.cos(), b.yaw_rad.cos(), atol=atol, rtol=0)
    torch.testing.assert_close(a.yaw_rad.sin(), b.yaw_rad.sin(), atol=atol, rtol=0)
    torch.testing.assert_close(a.label, b.label)
