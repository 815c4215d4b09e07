"""Damaged and hostile point files: a clear error that names the file, or the right points; never a crash or a GB."""

from __future__ import annotations

import logging
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bev.io import FileError
from bev.io.points import read_points, write_points
from bev.structures import PointCloud
from tests.io.point_clouds import made_cloud, real_point_files
from tests.paths import real_data_dir

HEADER = (
    "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {w}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
    "POINTS {p}\nDATA {data}\n"
)
PLY = "ply\nformat {form} 1.0\nelement vertex {n}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"


def read(tmp_path: Path, name: str, data: bytes | str) -> PointCloud:
    """Write a file and read it with at most 40 MB."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    tracemalloc.start()
    try:
        return read_points(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6, f"{peak / 1e6:.0f} MB for {name}"


def pcd(
    w: object = 2, p: object = 2, data: str = "ascii", rest: str = "1 2 3\n4 5 6\n", old: str = "", new: str = ""
) -> str:
    """A small PCD file with something replaced."""
    return HEADER.format(w=w, p=p, data=data).replace(old, new, 1) + rest


REFUSED = {
    "pcd: a line too few": ("a.pcd", pcd(rest="1 2 3\n"), "2 points are stated, 1 lines"),
    "pcd: a line too many": ("a.pcd", pcd(rest="1 2 3\n" * 3), "2 points are stated, 3 lines"),
    "pcd: a value too few": ("a.pcd", pcd(rest="1 2 3\n4 5\n"), "line 2 of the data has 2 values, expected 3"),
    "pcd: a word": ("a.pcd", pcd(rest="1 2 3\n4 five 6\n"), "five"),
    "pcd: two sizes": ("a.pcd", pcd(old="SIZE 4 4 4", new="SIZE 4 4"), "3 FIELDS, 2 SIZE"),
    "pcd: no float of 3 bytes": ("a.pcd", pcd(old="SIZE 4", new="SIZE 3"), "TYPE 'F' and SIZE 3"),
    "pcd: NaN width": ("a.pcd", pcd(w="nan"), "WIDTH 'nan'"),
    "pcd: negative": ("a.pcd", pcd(w=-2), "WIDTH '-2'"),
    "pcd: NaN viewpoint": ("a.pcd", pcd(old="VIEWPOINT 0", new="VIEWPOINT nan"), "VIEWPOINT"),
    "pcd: contradiction": ("a.pcd", pcd(w=3), "WIDTH 3 times HEIGHT 1 is not POINTS 2"),
    "pcd: no z": ("a.pcd", pcd(old="x y z", new="x y w"), "no x, y, z"),
    "pcd: twice x": ("a.pcd", pcd(old="x y z", new="x x z"), "two fields"),
    "pcd: huge": ("a.pcd", pcd(10**12, 10**12, "binary", "abc"), "1000000000000 points of 12 bytes"),
    "pcd: huge count": ("a.pcd", pcd(old="COUNT 1", new="COUNT 99999999999"), "COUNT"),
    "pcd: huge ascii": ("a.pcd", pcd(10**17, 10**17), "lines follow"),
    "pcd: huge packed": (
        "a.pcd",
        pcd(10**8, 10**8, "binary_compressed", "").encode() + struct.pack("<II", 8, 1_200_000_000) + bytes(8),
        "cannot hold",
    ),
    "pcd: packed cut": (
        "a.pcd",
        pcd(data="binary_compressed", rest="").encode() + struct.pack("<II", 99, 24) + bytes(8),
        "99 compressed bytes are stated, 8 follow",
    ),
    "pcd: packed nonsense": (
        "a.pcd",
        pcd(data="binary_compressed", rest="").encode() + struct.pack("<II", 3, 24) + b"\xe0\xff\xff",
        "a.pcd: ",
    ),
    "pcd: no data": ("a.pcd", "VERSION 0.7\nFIELDS x y z\n", "no DATA"),
    "pcd: binary surplus": ("a.pcd", pcd(data="binary", rest="x" * 36), "12 bytes follow the 2 points"),
    "ply: huge": ("a.ply", PLY.format(form="binary_little_endian", n=10**15), "0 bytes follow"),
    "ply: huge ascii": ("a.ply", PLY.format(form="ascii", n=10**15) + "1 2 3\n", "1 lines follow"),
    "ply: count": ("a.ply", PLY.format(form="ascii", n="nan"), "element NAME COUNT"),
    "ply: no end": ("a.ply", "ply\nformat ascii 1.0\nelement vertex 1\n", "no end_header"),
    "pts: count": ("a.pts", "3\n1 2 3\n", "3 points are stated, 1 lines"),
    "pts: no count": ("a.pts", "1 2\n", "expected a count"),
    "pts: a count only behind the first points": ("a.pts", "1 2 3\n4 5 6\n1\n7 8 9\n", "a.pts.*value"),
    "pts: huge": ("a.pts", "99999999999999\n1 2 3\n", "lines follow"),
    "ptx: cut": ("a.ptx", "10\n10\n0 0 0\n", "cut off"),
    "xyz: ragged": ("a.xyz", "1 2 3\n1 2\n", "line 2 of the data has 2 values"),
    "xyz: missing value": ("a.xyz", "1,,3\n", "between two commas"),
    "xyz: two columns": ("a.xyz", "1 2\n", "at least x, y, z"),
    "xyz: binary": ("a.xyz", b"1 2 3\n\0\0", "not text"),
    "bin: half a point": ("a.bin", bytes(30), "30 bytes is not a multiple of 16"),
    "npy: huge": ("a.npy", b"", "a.npy"),
    "las: no header": ("a.las", b"LASF" + bytes(10), "LAS header"),
    "npz: no archive": ("a.npz", b"PK\x03\x04" + bytes(30), "not a readable .npz"),
    "pcap: nothing": ("a.pcap", b"", "packet capture"),
    "unknown": ("a.obj", "v 1 2 3\n", "no point cloud format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_with_a_reason(case: str, tmp_path: Path) -> None:
    name, data, message = REFUSED[case]
    pytest.importorskip({".las": "laspy", ".pcap": "velodyne_decoder"}.get(Path(name).suffix, "numpy"))
    with pytest.raises(FileError, match=message) as error:
        read(tmp_path, name, data)
    assert name in str(error.value)


READ = {
    "crlf": ("a.pcd", pcd(rest="1 2 3\n4 5 6\n").replace("\n", "\r\n")),
    "old mac": ("a.xyz", "1 2 3\r4 5 6\r"),
    "commas": ("a.pcd", pcd(rest="1,2,3\n4, 5, 6\n")),
    "tabs": ("a.pcd", pcd(rest="1\t2\t3\n4\t5\t6")),
    "blank lines": ("a.pcd", pcd(rest="\n1 2 3\n\n4 5 6\n\n")),
    "no optional entries": ("a.pcd", "FIELDS x y z\nWIDTH 2\nDATA ascii\n1 2 3\n4 5 6\n"),
    "binary crlf": (
        "a.pcd",
        pcd(data="binary", rest="").replace("\n", "\r\n").encode() + np.arange(1, 7, dtype="<f4").tobytes(),
    ),
    "padding": (
        "a.pcd",
        pcd(data="binary", rest="")
        .replace("x y z", "x y z _")
        .replace("4 4 4", "4 4 4 1")
        .replace("F F F", "F F F U")
        .replace("1 1 1\n", "1 1 1 4\n")
        .encode()
        + np.array([1, 2, 3, 9, 4, 5, 6, 9], "<f4").tobytes(),
    ),
    "ply crlf": ("a.ply", (PLY.format(form="ascii", n=2) + "1 2 3\n4 5 6\n").replace("\n", "\r\n")),
    "ply faces first": (
        "a.ply",
        PLY.format(form="binary_big_endian", n=2)
        .replace("element v", "element face 1\nproperty list uchar int v\nelement v")
        .encode()
        + b"\x03"
        + bytes(12)
        + np.arange(1, 7, dtype=">f4").tobytes(),
    ),
    "xyz names": ("a.csv", "X,Y,Z\n1,2,3\n4,5,6\n"),
    "xyz semicolons": ("a.txt", "\ufeff1;2;3\n4;5;6\n"),
}


@pytest.mark.filterwarnings("ignore:.*only the points are read")
@pytest.mark.parametrize("case", READ)
def test_odd_but_clear_files_are_read(case: str, tmp_path: Path) -> None:
    cloud = read(tmp_path, *READ[case])
    assert cloud.xyz_m.tolist() == [[1, 2, 3], [4, 5, 6]] and not cloud.fields


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.pcd", pcd(0, 0, rest="")),
        ("a.pcd", pcd(0, 0, "binary", "")),
        ("a.pcd", pcd(0, 0, "binary_compressed", "").encode() + bytes(8)),
        ("a.ply", PLY.format(form="ascii", n=0)),
        ("a.pts", "0\n"),
        ("a.xyz", ""),
        ("a.bin", b""),
    ],
)
def test_no_points(name: str, data: bytes | str, tmp_path: Path) -> None:
    assert len(read(tmp_path, name, data)) == 0


def test_huge_numpy_headers(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with pytest.raises(FileError, match="12000000000000 bytes, 0 follow"):
        read(tmp_path, "a.npy", data)
    objects = np.array([{}], object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    with pytest.raises(FileError, match="o.npy"):
        read_points(tmp_path / "o.npy")


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("simple.las", 107, struct.pack("<I", 2**32 - 1)),  # number of points
        ("simple.las", 100, struct.pack("<I", 2**32 - 1)),  # number of variable length records
        ("simple.las", 96, struct.pack("<I", 2**32 - 1)),  # offset of the points
        ("simple.laz", 107, struct.pack("<I", 2**32 - 1)),
        ("extra.laz", 247, struct.pack("<Q", 2**60)),
        ("test1_4.las", 243, struct.pack("<I", 2**32 - 1)),  # number of extended records
    ],
)
def test_huge_las_counts(name: str, at: int, value: bytes, tmp_path: Path) -> None:
    pytest.importorskip("laspy")
    data = bytearray((real_data_dir("pointclouds") / name).read_bytes())
    data[at : at + len(value)] = value
    with pytest.raises(FileError, match=name):
        read(tmp_path, name, bytes(data))


def test_huge_laz_chunk_table(tmp_path: Path) -> None:
    pytest.importorskip("laspy")
    data = bytearray((real_data_dir("pointclouds") / "simple.laz").read_bytes())
    (table,) = struct.unpack_from("<q", data, struct.unpack_from("<I", data, 96)[0])
    data[table + 4 : table + 8] = b"\xff\xff\xff\xff"
    with pytest.raises(FileError, match="4294967295 compressed chunks"):
        read(tmp_path, "a.laz", bytes(data))


@pytest.mark.parametrize("point_format", [6, 7, 8])
def test_huge_laz_layers(point_format: int, tmp_path: Path) -> None:
    """Chunks of LAS 1.4 points state the sizes of their layers, by which lazrs allocates."""
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=point_format, version="1.4")
    header.add_extra_dim(laspy.ExtraBytesParams(name="extra", type="3f4"))
    las = laspy.LasData(header)
    las.x = las.y = las.z = np.arange(30.0)
    las.extra = np.ones((30, 3))
    las.write(str(tmp_path / "a.laz"))
    data = bytearray((tmp_path / "a.laz").read_bytes())
    assert len(read(tmp_path, "a.laz", bytes(data))) == 30
    (start,) = struct.unpack_from("<I", data, 96)
    sizes = start + 8 + header.point_format.size + 4
    for layer in (0, 8, 9):
        broken = data.copy()
        broken[sizes + 4 * layer : sizes + 4 * layer + 4] = b"\xff\xff\xff\x6f"
        with pytest.raises(FileError, match="a compressed chunk states"):
            read(tmp_path, "a.laz", bytes(broken))


def test_a_vlp16_that_calls_itself_hdl32_is_read_as_what_it_is() -> None:
    """16 rings within 15 degrees of the horizon, not 32 down to -30."""
    pytest.importorskip("velodyne_decoder")
    path = real_data_dir("pointclouds") / "velodyne_vlp16.pcap"
    with pytest.warns(UserWarning, match="read as VLP16"):
        cloud = read_points(path)
    assert int(cloud.fields["ring"].max()) == 15
    elevation = np.degrees(np.arcsin((cloud.xyz_m[:, 2] / cloud.xyz_m.norm(dim=1)).numpy()))
    assert -16 < elevation.min() and elevation.max() < 16
    assert len(cloud.meta["velodyne"]["device_s"]) == 2
    forced = read_points(path, model="HDL32E")
    assert int(forced.fields["ring"].max()) == 31


WORDS = [
    b"\xff" * 4,
    b"\xff" * 8,
    bytes(4),
    b"nan",
    b"1e999",
    b"-1",
    b"99999999999",
    b"\r\n",
    b",",
    b" ",
    b"4294967295",
]
EDIT = st.tuples(
    st.floats(0, 1), st.sampled_from(["set", "insert", "cut", "end"]), st.sampled_from(WORDS), st.integers(1, 40)
)


def damaged(data: bytes, edits: list[tuple[float, str, bytes, int]]) -> bytes:
    """The file with bytes replaced, inserted, cut out, or cut off; more often near its start, where headers are."""
    for where, kind, word, size in edits:
        at = int(where**3 * len(data))
        end = {"set": at + len(word), "insert": at, "cut": at + size, "end": len(data)}[kind]
        data = data[:at] + (word if kind in ("set", "insert") else b"") + data[end:]
    return data


@pytest.mark.parametrize("source", real_point_files(), ids=lambda path: path.name)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_damaged_real_files(source: Path, tmp_path: Path, edits: list[tuple[float, str, bytes, int]]) -> None:
    pytest.importorskip({".las": "laspy", ".laz": "laspy", ".pcap": "velodyne_decoder"}.get(source.suffix, "numpy"))
    _read_or_refuse(tmp_path / source.name, damaged(source.read_bytes(), edits))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.ptx", "a.ply", "a.xyz"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_damaged_made_files(name: str, tmp_path: Path, edits: list[tuple[float, str, bytes, int]]) -> None:
    write_points(made_cloud(), tmp_path / name, lossy=True)
    _read_or_refuse(tmp_path / name, damaged((tmp_path / name).read_bytes(), edits))


def _read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    logging.getLogger("laspy").setLevel(logging.CRITICAL)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_points(path)
    except FileError as error:
        assert path.name in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40e6
