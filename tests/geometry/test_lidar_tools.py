"""Range images, voxels, ground, sweeps and colours: hand-made cases, and the real frame."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.geometry.colouring import colour_points
from bev.geometry.ground import ground_mask
from bev.geometry.range_image import elevation_row, range_image
from bev.geometry.sweeps import accumulate_sweeps
from bev.geometry.voxels import voxel_downsample, voxel_index
from bev.io.points import read_nuscenes_points
from bev.structures import CameraRig, PointCloud
from tests.paths import real_data_dir


def test_range_image_by_hand() -> None:
    """Four columns: behind to the left, left to ahead, ahead to the right, right to behind; the nearer point wins."""
    xyz = torch.tensor([[-1.0, 0.1, 0], [1, 1, 0], [3, -1, 0], [9, -3, 0], [-1, -1, 0], [0, 0, 0]])
    row = torch.tensor([0, 0, 1, 1, 1, 0])
    distance, index = range_image(xyz, row, 2, 4)
    assert index.tolist() == [[0, 1, -1, -1], [-1, -1, 2, 4]]
    torch.testing.assert_close(distance[1, 2], torch.tensor(math.sqrt(10)))
    assert float(distance[0, 3]) == 0
    with pytest.raises(ValueError, match="do not fit"):
        range_image(xyz, row + 1, 2, 4)
    up = torch.tensor([[1.0, 0, 1], [1, 0, -1], [1, 0, 0.001]])
    assert elevation_row(up, 4, -math.pi / 4, math.pi / 4).tolist() == [0, 3, 1]


@given(
    st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 3), min_size=1, max_size=40), st.sampled_from([0.1, 0.5, 3.0])
)
@settings(max_examples=50, deadline=None)
def test_voxels(points: list[tuple[float, float, float]], voxel_m: float) -> None:
    """As many points as cubes, each the mean of its cube's."""
    xyz = torch.tensor(points)
    cubes: dict[tuple[int, ...], list[int]] = {}
    for i, point in enumerate(xyz.double().tolist()):
        cubes.setdefault(tuple(math.floor(v / voxel_m) for v in point), []).append(i)
    cloud = PointCloud(xyz, {"label": torch.arange(len(xyz))})
    small = voxel_downsample(cloud, voxel_m)
    assert len(small) == len(cubes)
    expected = [xyz[members].double().mean(0) for _, members in sorted(cubes.items())]
    torch.testing.assert_close(small.xyz_m.double(), torch.stack(expected), atol=1e-5, rtol=0)
    assert small.fields["label"].tolist() == [members[0] for _, members in sorted(cubes.items())]


def test_voxels_out_of_reach() -> None:
    for bad in (float("nan"), 1e9):
        with pytest.raises(ValueError, match="not finite"):
            voxel_index(torch.tensor([[0, 0, bad]]), 0.5)
    with pytest.raises(ValueError, match="voxels of"):
        voxel_index(torch.zeros(1, 3), 0.0)


def test_ground_of_a_slope_with_a_wall_and_a_car() -> None:
    """The ground rises by 8 %; a car's side, a roof and a tree crown above it are not ground."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(100000, 2, generator=generator) * 80 - 40
    ground = torch.cat([xy, 0.08 * xy[:, :1] - 1.8], 1)
    car = torch.rand(500, 3, generator=generator) * torch.tensor([4.0, 1.8, 1.2]) + torch.tensor([10, -1, -0.25])
    crown = torch.rand(500, 3, generator=generator) * 2 + torch.tensor([-15.0, 8, 1.0])
    mask = ground_mask(torch.cat([ground, car, crown]), 1.8)
    assert float(mask[:100000].float().mean()) > 0.97
    assert not bool(mask[100000:].any())
    assert not bool(ground_mask(torch.tensor([[float("nan")] * 3, [500.0, 0, -1.8]]), 1.8).any())


def test_sweeps_meet_in_the_common_frame() -> None:
    """The vehicle moved 2 m along x between two sweeps of the same pole."""
    now = PointCloud(torch.tensor([[10.0, 1, 0], [0.2, 0.2, 0]]), {"ring": torch.tensor([3, 4])})
    before = PointCloud(torch.tensor([[12.0, 1, 0]]), {"ring": torch.tensor([3])})
    shift = torch.eye(4)
    shift[0, 3] = -2
    joined = accumulate_sweeps([now, before], [torch.eye(4), shift], [0.0, -0.05])
    assert joined.xyz_m.tolist() == [[10, 1, 0], [10, 1, 0]]
    assert joined.fields["time_s"].tolist() == pytest.approx([0, -0.05])
    assert len(accumulate_sweeps([now], [torch.eye(4)], [0.0], min_range_m=0)) == 2
    with pytest.raises(ValueError, match="fields"):
        accumulate_sweeps([now, PointCloud(torch.zeros(1, 3))], [shift, shift], [0, 0])


def test_colours_by_hand() -> None:
    """A camera along +z, 8 x 8 px, focal length 4: left half red, right half blue."""
    intrinsics = torch.tensor([[[4.0, 0, 4], [0, 4, 4], [0, 0, 1]]])
    stamp = torch.zeros(1, dtype=torch.int64)
    rig = CameraRig(intrinsics, torch.eye(4)[None], torch.eye(3)[None], (8, 8), ("front",), stamp)
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    images[0, 0, :, :4], images[0, 2, :, 4:] = 200, 100
    xyz = torch.tensor([[-0.5, 0, 1], [1.0, 0, 2], [0, 0, -1], [9, 0, 1], [-2, 0, 4]])
    rgb, seen = colour_points(xyz, rig, images, cell_px=2)
    assert seen.tolist() == [True, True, False, False, False]  # The last lies behind the first.
    assert rgb.tolist()[:2] == [[200, 0, 0], [0, 0, 100]] and not bool(rgb[2:].any())
    assert colour_points(xyz, rig, images, cell_px=0)[1].tolist() == [True, True, False, False, True]
    with pytest.raises(ValueError, match="images of shape"):
        colour_points(xyz, rig, images[..., 1:])


def test_real_sweep() -> None:
    """Every laser fills a row; the road around the car is ground, and what is high above it is not."""
    cloud = read_nuscenes_points(next(real_data_dir("nuscenes_frame").glob("*LIDAR_TOP*")))
    distance, index = range_image(cloud.xyz_m, 31 - cloud.fields["ring"].long(), 32, 1084)
    filled = (index >= 0).float().mean(1)
    assert float((index >= 0).float().mean()) > 0.8 and float(filled.min()) > 0.2
    torch.testing.assert_close(distance[index >= 0], cloud.xyz_m[index[index >= 0]].norm(dim=1))
    mask = ground_mask(cloud.xyz_m, 1.84)
    assert 0.25 < float(mask.float().mean()) < 0.7
    assert not bool(mask[(cloud.xyz_m[:, 2] > 1) & (cloud.xyz_m[:, :2].norm(dim=1) < 15)].any())
    assert len(voxel_downsample(cloud, 0.5)) < len(cloud) / 2
