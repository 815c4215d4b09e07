"""BEVDepth's depth network and geometry against the published implementation (golden item bevdepth_depthnet).

Tolerances from its README; ``reduce_conv``'s bias gradient is zero in exact arithmetic and is not compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins
from bev.models.view import BEVDepthView, DepthNet, camera_numbers
from bev.models.view.published_geometry import lift, sensor_matrices
from bev.structures import CameraRig
from bev.structures.conventions import CAMERAS_BEVDET
from tests.parity.golden import Golden, assert_gradients, load_weights
from tests.paths import golden_cases

CASES = pytest.mark.parametrize("path", golden_cases("bevdepth_depthnet"), ids=lambda p: p.stem)


def _rig(golden: Golden, augmented: bool) -> CameraRig:
    """The file's matrices as a rig; ``augmented`` puts the grid's augmentation into the cameras' poses."""
    intrinsics, aug, ref_from_cam = (
        golden[f"in.{name}"][:, 0].double() for name in ("intrin_mats", "ida_mats", "sensor2ego_mats")
    )
    if augmented:
        ref_from_cam = golden["in.bda_mat"].double()[:, None] @ ref_from_cam
    image_aug = torch.eye(3, dtype=torch.float64).repeat(*aug.shape[:2], 1, 1)
    image_aug[..., :2, :2], image_aug[..., :2, 2] = aug[..., :2, :2], aug[..., :2, 3]
    time = torch.zeros(aug.shape[:2], dtype=torch.int64)
    size = tuple(golden.config["inp"])
    names = CAMERAS_BEVDET[: aug.shape[1]]
    return CameraRig(intrinsics[..., :3, :3], torch.linalg.inv(ref_from_cam), image_aug, size, names, time)


def _net(golden: Golden) -> DepthNet:
    config = golden.config
    net = DepthNet(config["cin"], config["mid"], config["ctx"], config["D"], dropout=0.0)
    load_weights(net, golden.group("weights"))
    return net


def _rule(out: Tensor) -> Tensor:
    return (out * torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)).sum()


@CASES
def test_depth_and_context(path: Path) -> None:
    golden = Golden(path)
    numbers = camera_numbers(_rig(golden, augmented=False), golden["in.bda_mat"])
    with torch.no_grad():
        result = _net(golden).eval().estimate(golden["in.x"], numbers)
    torch.testing.assert_close(result, golden["out.depth_context"], atol=1e-4, rtol=2e-5)
    softmax = result[:, : golden.config["D"]].softmax(1)
    torch.testing.assert_close(softmax, golden["out.depth_softmax"], atol=1e-5, rtol=2e-5)


@CASES
def test_training_step(path: Path) -> None:
    golden = Golden(path)
    net, x = _net(golden).train(), golden["in.x"].requires_grad_()
    result = net.estimate(x, camera_numbers(_rig(golden, augmented=False), golden["in.bda_mat"]))
    expected = golden["out.train.depth_context"]
    torch.testing.assert_close(result, expected, atol=2e-5 * float(expected.abs().max()), rtol=2e-5)
    _rule(result).backward()
    gradients = golden.group("grad")
    gradients.pop("reduce_conv.0.bias")
    for name, gradient in {"in.x": gradients.pop("in.x"), **gradients}.items():
        own = x.grad if name == "in.x" else dict(net.named_parameters())[name].grad
        torch.testing.assert_close(own, gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-4, msg=lambda t: name + t)


@CASES
def test_geometry(path: Path) -> None:
    golden = Golden(path)
    config = golden.config
    bins = DepthBins(tuple(config["db"][0] + i * config["db"][2] for i in range(config["D"] + 1)))
    grid = BEVGrid((-51.2, 51.2, 0.8), (-51.2, 51.2, 0.8), (-5.0, 3.0, 8.0))
    view = BEVDepthView(torch.nn.Identity(), config["ctx"], bins, grid, config["ds"], tuple(config["inp"]))
    torch.testing.assert_close(view.frustum, golden["out.frustum"], atol=0, rtol=1e-7)
    points = lift(view.frustum[..., :3], sensor_matrices(_rig(golden, augmented=True)))
    assert points.shape == tuple(golden["out.geometry_shape"].tolist())
    torch.testing.assert_close(points[:, 0], golden["out.geometry_cam0"], atol=5e-5, rtol=2e-6)
