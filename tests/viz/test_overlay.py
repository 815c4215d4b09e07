"""What is laid over a frame: points' colours, map, tracks, marks and heat in their places."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bev.data import NuScenesDataset
from bev.io import FileError
from bev.structures import PointCloud
from bev.structures.conventions import CLASSES
from bev.viz import DrawOptions
from bev.viz.bev_scene import build_scene
from bev.viz.cameras import draw_camera
from bev.viz.draw import camera_picture
from bev.viz.legend import draw_legend
from bev.viz.map_raster import MapMasks, lookup
from bev.viz.overlay import CameraHeat, Marks, Overlay, Raster, Track
from bev.viz.palette import MARK, height_colors, ramp_colors
from bev.viz.point_colors import point_colors
from bev.viz.scene import carpet
from bev.viz.tracks import TrackHistory, read_tracks
from tests.models.rigs import ring_rig
from tests.viz.test_draw import make_sample

OPTIONS = DrawOptions(range_m=30, tile_width_px=96)


def with_points(xyz, **fields):
    cloud = PointCloud(torch.tensor(xyz), {name: torch.tensor(column) for name, column in fields.items()})
    return replace(make_sample(), points=cloud)


def test_points_by_height_and_distance():
    sample = with_points([[3.0, 4.0, 0.0], [0.0, 30.0, 2.0]])
    assert (point_colors(sample, -1.0, OPTIONS) == height_colors(np.array([1.0, 3.0]))).all()
    far = point_colors(sample, 0.0, replace(OPTIONS, point_color="distance"))
    assert (far == ramp_colors(np.array([5 / 30, 1.0]))).all()


def test_points_by_intensity_of_both_scales():
    options = replace(OPTIONS, point_color="intensity")
    as_nuscenes = point_colors(with_points([[1.0, 2.0, 3.0]] * 3, intensity=[0.0, 15.0, 200.0]), 0.0, options)
    as_kitti = point_colors(with_points([[1.0, 2.0, 3.0]] * 3, intensity=[0.0, 0.25, 1.0]), 0.0, options)
    assert (as_nuscenes == as_kitti).all() and (as_kitti[2] == ramp_colors(np.ones(1))[0]).all()
    with pytest.raises(ValueError, match="t0: points have no intensity .* positions alone"):
        point_colors(with_points([[1.0, 2.0, 3.0]]), 0.0, options)


def test_points_by_camera():
    """The camera at +x shows one colour; what no camera sees (straight above) is grey."""
    sample = with_points([[10.0, 0.0, 1.0], [0.0, 0.0, 50.0]])
    images = torch.zeros_like(sample.images)
    images[0, 1] = 200
    colors = point_colors(replace(sample, images=images), 0.0, replace(OPTIONS, point_color="camera"))
    assert colors[0].tolist() == [0, 200, 0] and len(set(np.diff(colors[1].astype(int)))) > 0 and colors[1].max() < 100


def test_a_carpet_has_the_area_and_the_colours_of_its_cells():
    rng = np.random.default_rng(0)
    color = rng.integers(0, 2, (7, 9, 1)).astype(np.uint8).repeat(3, 2) * 100
    shown = rng.random((7, 9)) < 0.7
    mesh = carpet(color, shown, (-3.0, 6.0), (2.0, 9.0), -1.5)
    corners = mesh.xyz_m[mesh.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    bright = mesh.color[mesh.triangles[:, 0], 0] == 100
    assert area[bright].sum() == pytest.approx((shown & (color[..., 0] == 100)).sum())
    assert area.sum() == pytest.approx(shown.sum()) and len(mesh.triangles) < 2 * shown.sum()
    for row, column in np.argwhere(shown):
        point = np.array([-3.0 + column + 0.5, 2.0 + row + 0.5])
        low, high = corners[..., :2].min(1), corners[..., :2].max(1)
        inside = ((low < point) & (point < high)).all(1)
        assert (mesh.color[mesh.triangles[inside, 0], 0] == color[row, column, 0]).all() and inside.any()


def test_an_empty_carpet():
    mesh = carpet(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), bool), (0, 1), (0, 1), 0.0)
    assert len(mesh.xyz_m) == len(mesh.triangles) == 0


def test_map_masks_by_hand():
    """The lower left pixel is the first 10 cm of x and y."""
    mask = np.zeros((3, 4), np.uint8)
    mask[2, 0] = mask[0, 3] = 255
    where = np.array([[0.05, 0.35, 0.35, -0.05, 0.45], [0.05, 0.25, 0.05, 0.05, 0.25]])
    assert lookup(mask, where).tolist() == [True, True, False, False, False]


def test_the_map_of_a_synthetic_scene(synthetic_root):
    """The vehicle and what drives are on the road; the grid of a turned frame is turned with it."""
    frames = NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_val")
    maps = MapMasks(synthetic_root, "v1.0-synthetic")
    sample = frames[0]
    raster = maps.around(sample, 30.0, cell_m=0.5)
    assert raster.shown.shape == (120, 120) and raster.shown[58:62, 58:62].all() and not raster.shown.all()
    cars = sample.boxes[sample.boxes.label == CLASSES.index("car")].center_m[:, :2]
    cells = ((cars[(cars.abs() < 29).all(1)] + 30) / 0.5).long()
    assert len(cells) and raster.shown[cells[:, 1], cells[:, 0]].all()
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = maps.around(replace(sample, global_from_ref=sample.global_from_ref @ turn), 30.0, cell_m=0.5)
    # x of the turned frame is y of the other one, y is -x.
    assert (turned.shown == raster.shown.T[::-1]).mean() > 0.99
    with pytest.raises(FileError, match="scene nowhere has no map mask"):
        maps.around(replace(sample, scene="nowhere"), 30.0)


def _record(token, name, x, **other):
    box = {"translation": [x, 2.0, 0.0], "size": [2, 4, 1.5], "rotation": [1, 0, 0, 0], "velocity": [1, 0]}
    return box | {"sample_token": token, "tracking_id": name, "tracking_name": "car", "tracking_score": 0.5} | other


def _file(tmp_path, results):
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps({"meta": {}, "results": results}))
    return path


def test_tracks_up_to_the_present_in_its_frame(tmp_path):
    results = {"t0": [_record("t0", "a", 0.0), _record("t0", "gone", 9.0)], "t1": [_record("t1", "a", 1.0)]}
    results["t2"] = [_record("t2", "a", 2.0), _record("t2", "new", 5.0)]
    history = TrackHistory(read_tracks(_file(tmp_path, results)).results, [["t0", "t1", "t2"]])
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = 10.0
    ways = {t.name: t.path_m for t in history.ways(replace(make_sample(), token="t2", global_from_ref=pose))}
    assert set(ways) == {"a", "new"} and len(ways["new"]) == 1
    assert ways["a"] == pytest.approx(np.array([[-10, 2, 0], [-9, 2, 0], [-8, 2, 0]]))
    boxes = history.boxes("t2", pose, "lidar")
    assert boxes.center_m[:, 0].tolist() == [-8.0, -5.0] and boxes.track_id.tolist() == [0, 2]
    assert boxes.size_m[0].tolist() == [4.0, 2.0, 1.5] and boxes.score[0] == 0.5
    assert history.ways(replace(make_sample(), token="elsewhere")) == ()
    short = TrackHistory(history.records, [["t0", "t1", "t2"]], reach=1)
    assert len(short.ways(replace(make_sample(), token="t2"))[0].path_m) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tracking_name": "cat"}, "t0, box 0: unknown class 'cat'; did you mean 'car'"),
        ({"sample_token": "t9"}, "t0, box 0: its sample_token is 't9'"),
        ({"size": [0, 1, 1]}, "must be positive"),
        ({"tracking_score": "high"}, "not a tracking submission.*tracking_score"),
        ({"rotation": [1, 0, 0]}, "not a tracking submission.*rotation"),
    ],
)
def test_faults_of_tracks_are_named(tmp_path, change, message):
    with pytest.raises(FileError, match=message):
        read_tracks(_file(tmp_path, {"t0": [_record("t0", "a", 0.0, **change)]}))


def test_missing_and_broken_files_of_tracks(tmp_path):
    with pytest.raises(FileError, match="cannot read the tracks"):
        read_tracks(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(FileError, match="not a tracking submission"):
        read_tracks(tmp_path / "x.json")


def overlay():
    raster = Raster(np.full((4, 4, 3), 50, np.uint8), np.ones((4, 4), bool), (-30, 30), (-30, 30), "road")
    heat = CameraHeat(np.ones((6, 2, 3), np.float32), "depth", ("2", "60 m"))
    places = tuple(np.array([[20.0 + n, 30.0]]) for n in range(6))
    marks = Marks("where query 3 looks", np.array([[5.0, 5.0, 0.0]]), places, tuple(np.ones(1) for _ in range(6)))
    return Overlay((Track("7", 0, np.array([[0.0, 0, 0], [4, 0, 0]])),), (raster,), heat, marks)


def test_the_scene_has_a_layer_for_everything():
    names = [layer.name for layer in build_scene(make_sample(), (), OPTIONS, overlay()).layers]
    assert names == ["road", "rings", "points", "tracks", "vehicle", "marks"]


def test_marks_are_drawn_where_they_are():
    image, rig = torch.full((3, 64, 96), 90, dtype=torch.uint8), ring_rig()
    plain = draw_camera(image, rig.img_from_ref[0, 0], (), OPTIONS)
    marks = np.array([[20.0, 30.0], [500.0, 10.0]]), np.array([1.0, 1.0])
    drawn = draw_camera(image, rig.img_from_ref[0, 0], (), OPTIONS, marks=marks)
    changed = np.argwhere((drawn != plain).any(-1))
    assert changed.mean(0) + 0.5 == pytest.approx([30, 20], abs=0.6) and np.ptp(changed, axis=0).max() <= 8
    assert (drawn[30, 20] == MARK).all() or (drawn[29, 19] == MARK).all()


def test_heat_covers_the_picture_but_where_it_is_nan():
    sample, heat = make_sample(), overlay().camera_heat
    value = heat.value.copy()
    value[0, :, 0] = np.nan
    plain = camera_picture(sample, 0, (), OPTIONS)
    drawn = camera_picture(sample, 0, (), OPTIONS, Overlay(camera_heat=replace(heat, value=value)))
    assert (drawn[20:, :31] == plain[20:, :31]).all() and (drawn[20:, 34:] != plain[20:, 34:]).any(-1).mean() > 0.99


def test_the_legend_names_everything(monkeypatch):
    from bev.viz import legend

    texts, draw = [], legend.draw_text
    monkeypatch.setattr(legend, "draw_text", lambda p, text, *rest: (texts.append(text), draw(p, text, *rest)))
    draw_legend((), True, 3000, 20, replace(OPTIONS, point_color="distance"), overlay())
    expected = ["points, 0 to 30 m away", "way of a track", "road", "depth, 2 to 60 m", "where query 3 looks"]
    assert texts == expected
