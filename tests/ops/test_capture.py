"""Operators that are plain torch need no registration: ``torch.export`` sees them whole, and the graph is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bev.ops.box_iou import box_iou
from bev.ops.carafe import carafe
from bev.ops.deform_conv import deform_conv2d
from bev.ops.diou_nms import pairwise_diou
from bev.ops.point_sets import ball_query, three_interpolate, three_nn
from bev.ops.points_in_boxes import box_of_points, points_in_boxes
from bev.ops.voxelize import dynamic_voxelize


def _boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2)
    return torch.cat([corner, corner + torch.rand(count, 2)], 1)


def _boxes_m(count: int) -> torch.Tensor:
    return torch.cat([torch.rand(1, count, 3), 1 + torch.rand(1, count, 4)], 2)


CASES: dict[str, Callable[[], tuple[Callable[..., Any], tuple[torch.Tensor, ...]]]] = {
    "deform_conv2d": lambda: (
        lambda x, o, w: deform_conv2d(x, o, None, w, padding=1),
        (torch.randn(1, 2, 5, 6), torch.randn(1, 18, 5, 6), torch.randn(3, 2, 3, 3)),
    ),
    "carafe": lambda: (lambda x, m: carafe(x, m, 3, 2), (torch.randn(1, 2, 4, 5), torch.rand(1, 9, 8, 10))),
    "box_iou": lambda: (box_iou, (_boxes(4), _boxes(3))),
    "pairwise_diou": lambda: (pairwise_diou, (_boxes(4), _boxes(3))),
    "points_in_boxes": lambda: (points_in_boxes, (torch.rand(1, 9, 3), _boxes_m(2))),
    "box_of_points": lambda: (box_of_points, (torch.rand(1, 9, 3), _boxes_m(2))),
    "ball_query": lambda: (lambda p, c: ball_query(p, c, 0.5, 3), (torch.rand(1, 9, 3), torch.rand(1, 4, 3))),
    "three_nn": lambda: (three_nn, (torch.rand(1, 4, 3), torch.rand(1, 9, 3))),
    "three_interpolate": lambda: (
        three_interpolate, (torch.randn(1, 2, 9), torch.randint(0, 9, (1, 4, 3)), torch.rand(1, 4, 3))
    ),
    "dynamic_voxelize": lambda: (
        lambda p: dynamic_voxelize(p, (0.2, 0.2, 1.0), (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)), (torch.rand(7, 3),)
    ),
}  # fmt: skip


class _Module(torch.nn.Module):
    def __init__(self, form: Callable[..., Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.form(*inputs)


@pytest.mark.parametrize("name", list(CASES))
def test_exports(name: str) -> None:
    torch.manual_seed(0)
    form, inputs = CASES[name]()
    program = torch.export.export(_Module(form), inputs, strict=False)
    torch.testing.assert_close(program.module()(*inputs), form(*inputs))
