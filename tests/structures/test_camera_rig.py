"""The rig: projections follow every change of images and frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.geometry.projection import project, unproject
from bev.geometry.transforms import invert_rigid, transform_points
from bev.structures import CameraRig
from tests.data.samples import random_sample
from tests.structures.strategies import rigids

quick = settings(max_examples=30, deadline=None)


def _points(seed: int, count: int = 40) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 15


@given(st.integers(0, 999))
@quick
def test_projection_is_the_pinhole_model(seed: int) -> None:
    rig, points = random_sample(seed).rig, _points(seed)
    pixels, depth = project(points, rig.img_from_ref)
    for i in range(rig.num_cameras):
        camera = transform_points(rig.cam_from_ref[i], points.double())
        seen = camera[:, 2] > 0.5
        uv = (rig.intrinsics[i] @ (camera / camera[:, 2:]).T).T[:, :2]
        torch.testing.assert_close(depth[i].double(), camera[:, 2], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(pixels[i][seen].double(), uv[seen], atol=1e-2, rtol=1e-4)


@given(st.integers(0, 999))
@quick
def test_unproject_is_the_inverse(seed: int) -> None:
    rig, points = random_sample(seed).rig, _points(seed)
    pixels, depth = project(points, rig.img_from_ref)
    for i in range(rig.num_cameras):
        seen = depth[i] > 1.0
        back = unproject(pixels[i][seen], depth[i][seen], rig.ref_from_img[i])
        torch.testing.assert_close(back, points[seen], atol=2e-3, rtol=1e-3)


@given(st.integers(0, 999), rigids())
@quick
def test_another_reference_frame_changes_no_pixel(seed: int, pose: torch.Tensor) -> None:
    rig, points = random_sample(seed).rig, _points(seed)
    pixels, depth = project(points, rig.img_from_ref)
    moved = transform_points(pose, points.double())
    new_pixels, new_depth = project(moved, rig.augment_ref(pose).img_from_ref)
    seen = depth > 1.0
    torch.testing.assert_close(new_depth, depth, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(new_pixels[seen], pixels[seen], atol=0.1, rtol=1e-3)
    home = rig.augment_ref(pose).augment_ref(invert_rigid(pose))
    torch.testing.assert_close(home.cam_from_ref, rig.cam_from_ref, atol=1e-9, rtol=0)


@given(st.integers(0, 999), st.floats(0.2, 3), st.floats(-50, 50))
@quick
def test_image_changes_compose(seed: int, scale: float, shift: float) -> None:
    rig, points = random_sample(seed).rig, _points(seed)
    first = torch.tensor([[scale, 0, shift], [0, scale, -shift], [0, 0, 1]]).double()
    second = torch.tensor([[-1.0, 0, 80], [0, 1, 3], [0, 0, 1]]).double()
    changed = rig.augment_images(first, (10, 10)).augment_images(second, (48, 80))
    pixels, depth = project(points, rig.img_from_ref)
    new_pixels, _ = project(points, changed.img_from_ref)
    seen = depth > 1.0
    u = 80 - (scale * pixels[..., 0] + shift)
    v = scale * pixels[..., 1] - shift + 3
    torch.testing.assert_close(new_pixels[seen], torch.stack([u, v], -1)[seen], atol=0.05, rtol=1e-3)
    assert changed.image_size_px == (48, 80) and rig.image_size_px == (48, 80)


def test_select_stack_and_refusals() -> None:
    rig = random_sample(1).rig
    two = rig.select([4, 0])
    assert two.names == (rig.names[4], rig.names[0]) and two.timestamp_us.tolist() == [4, 0]
    torch.testing.assert_close(two.img_from_ref, rig.img_from_ref[[4, 0]])
    batch = CameraRig.stack([rig, random_sample(2).rig])
    assert batch.img_from_ref.shape == (2, 6, 4, 4)
    torch.testing.assert_close(batch.img_from_ref[0], rig.img_from_ref)
    with pytest.raises(ValueError, match="cannot batch rigs"):
        CameraRig.stack([rig, rig.select([0, 1])])
    with pytest.raises(ValueError, match=r"CameraRig\.intrinsics has shape"):
        replace(rig, intrinsics=rig.intrinsics[:3])


def _with(rig: CameraRig, field: str, index: tuple[int, ...], value: float) -> CameraRig:
    tensor = getattr(rig, field).clone()
    tensor[index] = value
    return replace(rig, **{field: tensor})


def test_check_names_the_camera() -> None:
    rig = random_sample(1).rig
    assert rig.check("x") is rig
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    assert rig.augment_ref(mirror).check("a mirrored rig is a rig")
    name = rig.names[2]
    for field, index, value, message in (
        ("intrinsics", (2, 0, 0), float("nan"), "NaN or infinite"),
        ("cam_from_ref", (2, 1, 3), float("inf"), "NaN or infinite"),
        ("image_aug", (2, 0, 0), float("nan"), "NaN or infinite"),
        ("intrinsics", (2, 1, 1), -5.0, "positive focal"),
        ("cam_from_ref", (2, 0, 0), 3.0, "not orthonormal"),
    ):
        with pytest.raises(ValueError, match=rf"calib\.json: .*{message}") as caught:
            _with(rig, field, index, value).check("calib.json")
        assert name in str(caught.value)
