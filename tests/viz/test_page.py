"""The web page: what is in it, that it asks no network for anything, and its script against the Python it mirrors."""

import base64
import json
import re
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from bev.structures import PointCloud
from bev.viz import DrawOptions
from bev.viz.cameras import clip_polygon, project_homogeneous
from bev.viz.layout import label_place
from bev.viz.page import write_page
from bev.viz.palette import height_colors
from bev.viz.scene import Camera, Scene
from tests.models.rigs import random_boxes
from tests.viz.node import in_node
from tests.viz.test_draw import make_sample
from tests.viz.test_overlay import overlay

OPTIONS = DrawOptions(range_m=30)


def sample(token="t0"):
    made = make_sample()
    cloud = PointCloud(made.points.xyz_m, {"intensity": torch.linspace(0, 255, len(made.points))})
    return replace(made, token=token, points=cloud)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    frames = [sample("t0"), sample("</script><script>alert(1)</script>")]
    path = tmp_path_factory.mktemp("page") / "scene.html"
    write_page(path, frames, {"t0": random_boxes(4)}, [0, 1], OPTIONS, lambda s: overlay())
    assert [p.name for p in path.parent.iterdir()] == ["scene.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


def test_it_is_self_contained(page):
    assert "default-src 'none'" in page and not re.search("@[A-Z]+@", page)
    outside = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]*", "", page)
    assert not re.search(r"https?://|//cdn|<link[^>]+stylesheet|<script[^>]+src|url\(|fetch\(|HttpRequest", outside)
    assert page.count("<script") == page.count("</script>") == 2  # the token could not end its element


def test_every_frame_is_in_it(data):
    assert [f["token"] for f in data["frames"]] == ["t0", "</script><script>alert(1)</script>"]
    first = data["frames"][0]
    assert [(x["name"], len(x["boxes"])) for x in first["layers"]] == [("prediction", 4), ("ground truth", 7)]
    assert data["frames"][1]["layers"][0]["boxes"] == []
    assert len(first["images"]) == 6 and first["tracks"][0]["path"] == [[0, 0, 0], [4, 0, 0]]
    encoded = np.frombuffer(base64.b64decode(first["images"][0].split(",")[1]), np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (320, 480, 3)
    assert first["notes"] == ["road", "depth, 2 to 60 m", "where query 3 looks"]


def test_points_come_back(data):
    ours, first = sample(), data["frames"][0]
    unpacked = in_node(
        "const bytes = new Uint8Array(data.bytes); const p = viewer.unpackPoints(bytes, data.count, 0.02);"
        "return [Array.from(p.xyz), Array.from(p.intensity), Array.from(viewer.pointColours(p, 'height', data.page))];",
        {
            "bytes": list(zlib.decompress(base64.b64decode(first["packed"]))),
            "count": first["count"],
            "page": {k: v for k, v in data.items() if k != "frames"},
        },
    )
    xyz = ours.points.xyz_m.numpy()
    near = np.abs(xyz).max(1) <= 30
    assert first["count"] == near.sum() > 10
    assert np.reshape(unpacked[0], (-1, 3)) == pytest.approx(xyz[near], abs=0.0101)
    expected = np.sqrt(np.minimum(ours.points.fields["intensity"].numpy()[near] / 60, 1)) * 255
    assert unpacked[1] == pytest.approx(expected, abs=1.01)
    heights = height_colors(xyz[near, 2] - data["ground_m"])
    assert np.abs(np.reshape(unpacked[2], (-1, 3)) - heights.astype(int)).max() <= 4  # 256 steps, 12 stops


def test_points_of_a_wrong_length_are_an_error():
    assert "expected 20" in in_node(
        "try { viewer.unpackPoints(new Uint8Array(7), 2, 1); } catch (e) { return e.message; }", None
    )


def test_boxes_have_the_corners_of_python(data):
    boxes = random_boxes(4)
    corners = in_node("return data.map(viewer.corners);", data["frames"][0]["layers"][0]["boxes"])
    assert np.array(corners) == pytest.approx(boxes.corners_m().numpy(), abs=2e-3)


def test_the_vehicle_is_filled_from_the_farthest_triangle_to_the_nearest(data):
    body = """const orbit = { target: [0, 0, 0], azimuth: 0.3, elevation: 0.5, distance: 20, flat: false };
        const colours = [], none = () => {}, ctx = { beginPath: none, lineTo: none, closePath: none, stroke: none };
        ctx.fill = () => colours.push(ctx.fillStyle);
        const matrix = viewer.orbitMatrix(orbit, 200, 120);
        viewer.drawMesh(ctx, matrix, data, 0.2);
        const depth = (t) => t.slice(0, 3).reduce((sum, p) => sum + viewer.apply(matrix, p)[2], 0);
        return [colours, data.sort((a, b) => depth(b) - depth(a)).map((t) => `rgb(${t[3].join(",")})`)];"""
    drawn, expected = in_node(body, data["vehicle"])
    assert drawn == expected and len(drawn) == 60 and len(set(drawn)) > 2


def test_segments_are_clipped_as_in_python():
    rng = np.random.default_rng(0)
    segments = rng.normal(0, 1, (300, 2, 3)) * [300, 200, 2] + [100, 60, 0.5]
    theirs = in_node("return data.map(([a, b]) => viewer.clipSegment(a, b, 200, 120, 0.2));", segments.tolist())
    seen = 0
    for segment, found in zip(segments, theirs):
        expected = clip_polygon(segment, (120, 200))
        if len(expected) < 2 or np.abs(expected[0] - expected[1]).max() < 1e-6:
            assert found is None or np.abs(np.subtract(*found)).max() < 1e-6
        else:
            seen += 1
            assert np.array(found) == pytest.approx(expected, abs=1e-6)
    assert seen > 20


def test_cameras_are_those_of_the_rig(data):
    made = sample()
    point = np.array([8.0, 1.0, 0.5])
    matrix = np.array(data["frames"][0]["matrices"][0])
    theirs = np.array(in_node("return viewer.apply(data[0], data[1]);", [matrix.tolist(), point.tolist()]))
    ours = project_homogeneous(point, made.rig.img_from_ref[0].double().numpy())
    assert theirs[:2] / theirs[2] * [96, 64] == pytest.approx(ours[:2] / ours[2], abs=1e-3)


@pytest.mark.parametrize("flat", [True, False])
def test_the_view_is_that_of_the_pictures(flat):
    """A point lies in the page's view where the pictures write a label for it."""
    point, up = np.array([3.0, 7.0, -1.0]), (0.0, 1.0)
    orbit = {"target": [0, 0, -1.8], "azimuth": np.pi / 2, "elevation": 0.5, "distance": 30, "flat": flat}
    h = in_node("return viewer.apply(viewer.orbitMatrix(data[0], 200, 200), data[1]);", [orbit, point.tolist()])
    forward = np.array([0, np.cos(0.5), -np.sin(0.5)])
    eye = np.array([0, 0, -1.8]) - 30 * forward
    camera = None if flat else Camera(tuple(eye), (0.0, 0.0, -1.8), 2 * np.arctan(0.5))
    place = label_place(Scene((), (), up, 30.0, camera), point)
    assert [h[0] / h[2], h[1] / h[2]] == pytest.approx([100 * (1 + place[0]), 100 * (1 - place[1])], abs=1e-6)


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        write_page(tmp_path / "x.html", [], None, [])
    with pytest.raises(ValueError, match="different cameras"):
        write_page(tmp_path / "x.html", [make_sample(6), make_sample(4)], None, [0, 1])
    assert list(tmp_path.iterdir()) == []
