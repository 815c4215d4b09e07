"""Boxes over images land where a hand computation says, and are cut where the camera does not see."""

import numpy as np
import pytest
import torch

from bev.structures import Boxes3D
from bev.viz import DrawOptions
from bev.viz.cameras import clip_polygon, dash, draw_camera, project_homogeneous
from bev.viz.palette import CLASS_COLORS, class_color
from bev.viz.style import BoxLayer
from tests.models.rigs import random_boxes, ring_rig

SIZE = (100, 200)


def test_project_by_hand():
    # Camera 0 of the ring looks along +x from 1 m above the origin: focal 60, centre (48, 32).
    matrix = ring_rig().img_from_ref[0, 0].double().numpy()
    u, v, depth = project_homogeneous(np.array([10.0, 2.0, 1.5]), matrix)
    assert depth == pytest.approx(10) and (u / depth, v / depth) == pytest.approx((48 - 12, 32 - 3), abs=1e-4)


def test_a_segment_behind_the_camera_ends_at_the_border_of_the_image():
    # From (20, 50) at depth 1 m to 5 m behind: the homogeneous line leaves the picture before the near plane.
    seen = clip_polygon(np.array([[20.0, 50.0, 1.0], [-500.0, 0.0, -5.0]]), SIZE)
    assert len(seen) == 2 and tuple(seen[0]) == (20, 50)
    assert (seen >= 0).all() and (seen[:, 0] <= 200).all() and (seen[:, 1] <= 100).all()


@pytest.mark.parametrize("points", [[[5, 5, -1], [5, 5, -2]], [[-10, 5, 1], [-20, 5, 1]], [[5, 500, 1], [9, 500, 1]]])
def test_what_is_not_seen_vanishes(points):
    assert len(clip_polygon(np.array(points, float), SIZE)) == 0


def test_a_polygon_keeps_its_corners_inside():
    square = np.array([[-50.0, 20, 1], [50, 20, 1], [50, 80, 1], [-50, 80, 1]])
    assert clip_polygon(square, SIZE).tolist() == [[0, 20], [50, 20], [50, 80], [0, 80]]


def test_dashes_begin_and_end_at_the_ends():
    dashes = dash(np.array([0.0, 0.0]), np.array([100.0, 0.0]), 10)
    assert dashes[0][0].tolist() == [0, 0] and dashes[-1][1] == pytest.approx([100, 0])
    assert all(b[0] > a[0] for a, b in dashes) and len(dashes) > 3


def test_boxes_change_pixels_near_themselves_alone():
    box = random_boxes(1)
    box.center_m[:] = torch.tensor([[10.0, 0.0, 1.0]])
    box.size_m[:] = 1.0
    options = DrawOptions(tile_width_px=96, labels=False)
    image = torch.full((3, 64, 96), 90, dtype=torch.uint8)
    rig = ring_rig()
    plain = draw_camera(image, rig.img_from_ref[0, 0], (), options)
    layer = BoxLayer("prediction", box, options.class_names, by_class=True, scores=True)
    drawn = draw_camera(image, rig.img_from_ref[0, 0], (layer,), options)
    changed = np.argwhere((drawn != plain).any(-1))
    # 1 m at 9.5 m and 60 px focal length is 6.3 px: within 5 px of the centre (48, 32), lines included.
    assert len(changed) and np.abs(changed - [31.5, 47.5]).max() <= 8
    behind = draw_camera(image, rig.img_from_ref[0, 3], (layer,), options)
    assert (behind == plain).all()


def test_class_colours_differ():
    colors = [class_color(name) for name in CLASS_COLORS]
    assert len(set(colors)) == 10
    assert class_color("unicycle", 3) != class_color("unicycle", 4)


def test_a_label_without_a_name_is_an_error():
    with pytest.raises(ValueError, match="labels"):
        BoxLayer("prediction", random_boxes(5), ("car",), by_class=True, scores=True)
    assert len(BoxLayer("none", Boxes3D.empty("lidar"), ("car",), True, True).boxes) == 0
