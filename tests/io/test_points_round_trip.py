"""What is written is read back, in every format; what a format cannot hold is refused by name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bev.io import FileError
from bev.io.points import FORMATS, read_points, write_points
from bev.structures import PointCloud
from tests.io.point_clouds import assert_same, made_cloud, real_point_files
from tests.paths import real_data_dir

TYPED = [
    ("a.pcd", dict(encoding="ascii")),
    ("a.pcd", dict(encoding="binary")),
    ("a.pcd", dict(encoding="binary_compressed")),
    ("a.ply", dict(encoding="ascii")),
    ("a.ply", dict(encoding="binary_little_endian")),
    ("a.ply", dict(encoding="binary_big_endian")),
    ("a.xyz", {}),
    ("a.csv", {}),
    ("a.npy", {}),
    ("a.npz", {}),
]


@pytest.mark.parametrize("points", [0, 1, 24])
@pytest.mark.parametrize(("name", "options"), TYPED, ids=lambda v: v if isinstance(v, str) else v.get("encoding", ""))
def test_formats_with_types_keep_everything(tmp_path: Path, name: str, options: dict[str, str], points: int) -> None:
    cloud = made_cloud(points)
    if name == "a.ply":
        del cloud.fields["identity"]  # PLY has no 64-bit integers.
    write_points(cloud, tmp_path / name, **options)
    assert_same(cloud, read_points(tmp_path / name))
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.pcd", "a.ply", "a.npz"])
def test_organised_clouds_keep_their_rows(tmp_path: Path, name: str) -> None:
    cloud = made_cloud(24, (4, 6))
    cloud.xyz_m[3] = float("nan")
    del cloud.fields["identity"]
    write_points(cloud, tmp_path / name)
    assert_same(cloud, read_points(tmp_path / name))
    assert read_points(tmp_path / name)[:3].grid_hw is None


def test_alpha_goes_with_the_colour(tmp_path: Path) -> None:
    alpha = torch.tensor([0, 255], dtype=torch.uint8)
    rgb = torch.tensor([[1, 2, 3], [250, 251, 252]], dtype=torch.uint8)
    cloud = PointCloud(torch.zeros(2, 3), {"rgb": rgb, "alpha": alpha})
    write_points(cloud, tmp_path / "a.pcd")
    assert b"FIELDS x y z rgba\n" in (tmp_path / "a.pcd").read_bytes()
    assert_same(cloud, read_points(tmp_path / "a.pcd"))


def test_bin_kitti_and_nuscenes(tmp_path: Path) -> None:
    xyz = torch.randn(10, 3)
    kitti = PointCloud(xyz, {"intensity": torch.rand(10)})
    write_points(kitti, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").stat().st_size == 160
    assert_same(kitti, read_points(tmp_path / "a.bin"))
    nuscenes = PointCloud(xyz, {"intensity": torch.rand(10), "ring": torch.arange(10.0)})
    write_points(nuscenes, tmp_path / "a.pcd.bin")
    assert_same(nuscenes, read_points(tmp_path / "a.pcd.bin"))
    (tmp_path / "b.bin").write_bytes((tmp_path / "a.pcd.bin").read_bytes())
    assert_same(nuscenes, read_points(tmp_path / "b.bin"))
    many = PointCloud(torch.randn(20, 3), {"intensity": torch.rand(20)})  # 320 bytes: 16 points of five columns, too
    write_points(many, tmp_path / "c.bin")
    assert_same(many, read_points(tmp_path / "c.bin"))
    assert read_points(tmp_path / "c.bin", columns=["a", "b"]).fields.keys() == {"a", "b"}


@pytest.mark.parametrize("name", ["a.pts", "a.ptx"])
def test_formats_without_types_keep_values(tmp_path: Path, name: str) -> None:
    cloud = made_cloud(24, (4, 6) if name == "a.ptx" else None)
    cloud = replace(cloud, fields={n: cloud.fields[n] for n in ("intensity", "rgb")})
    write_points(cloud, tmp_path / name)
    assert_same(cloud, read_points(tmp_path / name), types=False)


def test_pts_without_a_count(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_text("1 2 3 -5 1 2 3\r\n4 5 6 -6 4 5 6\r\n")
    cloud = read_points(tmp_path / "a.pts")
    assert cloud.xyz_m.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.fields["intensity"].tolist() == [-5, -6] and cloud.fields.keys() == {"intensity", "rgb"}


def test_ptx_scans_are_joined_in_the_common_frame(tmp_path: Path) -> None:
    scan = "2\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n1 0 0 0\n0 1 0 0\n0 0 1 0\n{} 0 0 1\n1 2 3 0.5\n4 5 6 0.25\n"
    (tmp_path / "a.ptx").write_text(scan.format(0) + scan.format(10))
    cloud = read_points(tmp_path / "a.ptx")
    assert cloud.xyz_m.tolist() == [[1, 2, 3], [4, 5, 6], [11, 2, 3], [14, 5, 6]]
    assert cloud.fields["scan"].tolist() == [0, 0, 1, 1]
    assert len(cloud.meta["ptx"]["scans"]) == 2


@pytest.mark.parametrize("name", ["a.las", "a.laz"])
def test_las_of_a_foreign_cloud(tmp_path: Path, name: str) -> None:
    """Positions to a fraction of a micrometre; fields without a standard dimension, or beyond it, as extra bytes."""
    pytest.importorskip("laspy")
    cloud = made_cloud()
    with pytest.raises(FileError, match="descriptor"):  # Extra bytes have at most three numbers a field.
        write_points(cloud, tmp_path / name)
    cloud.fields["descriptor"] = cloud.fields["descriptor"][:, :3]
    write_points(cloud, tmp_path / name)
    again = read_points(tmp_path / name)
    assert float((again.xyz_m - cloud.xyz_m.double()).abs().max()) <= 5e-8
    assert (again.fields["rgb"].int() == 257 * cloud.fields["rgb"].int()).all()
    for field in cloud.fields.keys() - {"rgb"}:
        np.testing.assert_array_equal(again.fields[field].numpy(), cloud.fields[field].numpy(), err_msg=field)
    write_points(again, tmp_path / name)
    assert_same(again, read_points(tmp_path / name))


BROKEN = {"missingheader.pcd": "expected one of VERSION", "no_vertex.ply": "no element 'vertex'"}


@pytest.mark.parametrize("path", real_point_files(), ids=lambda path: path.name)
def test_real_files_through_every_format_that_can_hold_them(path: Path, tmp_path: Path) -> None:
    if path.name in BROKEN:
        with pytest.raises(FileError, match=f"{path.name}.*{BROKEN[path.name]}"):
            read_points(path)
        return
    if path.suffix in (".las", ".laz"):
        pytest.importorskip("laspy")
    if path.suffix == ".pcap":
        pytest.importorskip("velodyne_decoder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cloud = read_points(path)
        for suffix in (".pcd", ".ply", ".xyz", ".npy", ".npz", path.suffix):
            if suffix == ".pcap" or FORMATS[suffix].losses(cloud):
                continue
            write_points(cloud, tmp_path / f"a{suffix}")
            assert_same(cloud, read_points(tmp_path / f"a{suffix}"))
    assert (
        len(cloud)
        == {
            **{"bun0.pcd": 397, "car6.pcd": 10031, "milk.pcd": 13704, "colored_cloud.pcd": 1000, "utm17_comma.pcd": 10},
            **{
                "utm17_tab.pcd": 10,
                "1.2-with-color.las": 1065,
                "simple.las": 1065,
                "simple.laz": 1065,
                "extra.laz": 1065,
            },
            **{"test1_4.las": 1000, "bad_vlr_count.las": 10, "no-points.las": 0, "autzen.pts": 10, "test.pts": 19},
            **{"data.xyz": 400, "simple_binary.ply": 3, "simple_text.ply": 3, "velodyne_vlp16.pcap": 18154 + 1425},
        }[path.name]
    )


def test_las_keeps_every_record_and_dimension(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    path = real_data_dir("pointclouds") / "test1_4.las"
    write_points(read_points(path), tmp_path / "a.las")
    old, new = laspy.read(path), laspy.read(tmp_path / "a.las")
    np.testing.assert_array_equal(old.points.array, new.points.array)
    assert [v.record_data_bytes() for v in old.header.vlrs] == [v.record_data_bytes() for v in new.header.vlrs]


def test_values_agree_with_open3d() -> None:
    open3d = pytest.importorskip("open3d")
    for name in ("car6.pcd", "milk.pcd", "colored_cloud.pcd", "bun0.pcd", "simple_binary.ply"):
        path = real_data_dir("pointclouds") / name
        theirs = np.asarray(open3d.io.read_point_cloud(str(path), remove_nan_points=False).points)
        np.testing.assert_allclose(read_points(path).xyz_m.numpy(), theirs, atol=1e-6)


def test_a_loss_is_refused_by_name_and_allowed_by_choice(tmp_path: Path) -> None:
    cloud = made_cloud(24, (4, 6))
    with pytest.raises(FileError, match="a.ply: the format cannot hold field 'identity' of type int64"):
        write_points(cloud, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())
    lost = write_points(cloud, tmp_path / "a.pts", lossy=True)
    assert len(lost) == 7 and "rows and columns (4, 6)" in lost
    assert read_points(tmp_path / "a.pts").fields.keys() == {"intensity", "rgb"}


def test_facts_of_another_format_are_left_out_with_a_warning(tmp_path: Path) -> None:
    cloud = replace(made_cloud(4), meta={"pcd": {"viewpoint": (1, 2, 3, 1, 0, 0, 0)}})
    with pytest.warns(UserWarning, match="viewpoint"):
        write_points(cloud, tmp_path / "a.xyz")
    write_points(cloud, tmp_path / "a.pcd")
    assert read_points(tmp_path / "a.pcd").meta["pcd"]["viewpoint"] == (1, 2, 3, 1, 0, 0, 0)


def test_units_and_frames_go_into_npz(tmp_path: Path) -> None:
    cloud = replace(made_cloud(4), frame="ego", units={"intensity": "0..1"})
    write_points(cloud, tmp_path / "a.npz")
    again = read_points(tmp_path / "a.npz")
    assert again.frame == "ego" and again.units["intensity"] == "0..1" and again.units["gps_time"] == "s"
