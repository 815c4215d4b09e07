"""CenterPoint parts: codes, heatmaps, losses, decoding."""

import math

import pytest
import torch

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.mirror import mirror_matrix
from bev.models.coders.center_coder import CenterCoder
from bev.models.heads.center_head import CenterHead
from bev.models.heads.center_targets import draw_heatmap, gaussian_radius
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES
from tests.models.rigs import random_boxes

GRID = BEVGrid((-20, 20, 1.0), (-16, 16, 0.8), (-5, 3, 8))


@pytest.mark.parametrize("ray_aligned", [False, True])
def test_coder_round_trip(ray_aligned):
    boxes = random_boxes(50, reach_m=15.0)
    coder = CenterCoder(GRID, ray_aligned)
    codes = coder.encode(boxes)
    assert codes.box.tolist() == list(range(50)) and (codes.code[:, :2] >= 0).all() and (codes.code[:, :2] <= 1).all()
    back = coder.decode(codes.cell, codes.code, boxes.label, boxes.score)
    for name in ("center_m", "size_m", "yaw_rad"):
        torch.testing.assert_close(getattr(back, name), getattr(boxes, name), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(back.velocity_mps[1:], boxes.velocity_mps[1:], atol=1e-5, rtol=1e-5)
    assert codes.weight[0, 8:].tolist() == [0, 0] and codes.weight[1:].min() == 1 and codes.code.isfinite().all()


def test_ray_aligned_codes_do_not_change_when_the_world_turns():
    coder = CenterCoder(BEVGrid((-20, 20, 0.5), (-20, 20, 0.5), (-5, 3, 8)), ray_aligned=True)
    # A quarter turn maps cell centres to cell centres: heading and velocity codes stay as they are.
    turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    boxes = random_boxes(20)[1:]
    before, after = coder.encode(boxes).code, coder.encode(boxes.transform(turn, "lidar")).code
    torch.testing.assert_close(before[:, 6:], after[:, 6:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ray_aligned", [False, True])
@pytest.mark.parametrize("frame", ["lidar", "ego"])
def test_mirrored_codes_are_those_of_the_mirrored_world(frame, ray_aligned):
    coder, boxes = CenterCoder(GRID, ray_aligned), random_boxes(20, reach_m=15.0, frame=frame)[1:]
    maps, seen = torch.zeros(2, 10, *GRID.shape[1:]), torch.zeros(2, *GRID.shape[1:])
    for i, some in enumerate((boxes, boxes.transform(mirror_matrix(frame).to(boxes.center_m), frame))):
        codes = coder.encode(some)
        maps[i].flatten(1)[:, codes.cell] = codes.code.T
        seen[i].flatten()[codes.cell] = 1
    mirrored = coder.mirror(maps[:1], frame)
    torch.testing.assert_close(mirrored * seen[1], maps[1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(coder.mirror(mirrored, frame), maps[:1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="cannot mirror a grid"):
        CenterCoder(BEVGrid((0, 40, 1.0), (0, 40, 1.0), (-5, 3, 8))).mirror(maps[:1], frame)


def test_every_cell_around_a_centre_tells_of_its_nearest_box():
    coder = CenterCoder(GRID, ray_aligned=True)
    boxes = random_boxes(30, reach_m=15.0)
    codes = coder.encode(boxes, radius=1)
    assert len(codes.cell.unique()) == len(codes.cell) and codes.box.unique().tolist() == list(range(30))
    told = boxes[codes.box]
    back = coder.decode(codes.cell, codes.code, told.label, told.score)
    torch.testing.assert_close(back.center_m, told.center_m, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(back.yaw_rad, told.yaw_rad, atol=2e-5, rtol=1e-5)
    middle = GRID.centers_m().flatten(0, 1)[codes.cell]
    distance = (((middle[:, None] - boxes.center_m[None, :, :2]) / torch.tensor([1.0, 0.8])) ** 2).sum(-1)
    torch.testing.assert_close(distance.gather(1, codes.box[:, None])[:, 0], distance.min(1).values)
    lonely = coder.encode(boxes[:1], radius=1)
    assert len(lonely.cell) == 9
    for radius in (0, 1, 2):
        assert coder.count_cells(boxes, radius) == len(coder.encode(boxes, radius).cell)


def test_mean_sizes_leave_the_difference_from_the_ordinary():
    sizes = {name: (4.0 + i, 2.0, 1.0 + i) for i, name in enumerate(CLASSES)}
    coder, boxes = CenterCoder(GRID, mean_size_m=sizes), random_boxes(20, reach_m=15.0)
    ordinary = torch.tensor(list(sizes.values()))[boxes.label]
    codes = coder.encode(boxes)
    torch.testing.assert_close(codes.code[:, 3:6], (boxes.size_m / ordinary).log())
    torch.testing.assert_close(codes.code[:, 2], boxes.center_m[:, 2] - ordinary[:, 2] / 2)
    back = coder.decode(codes.cell, codes.code, boxes.label, boxes.score)
    torch.testing.assert_close(back.size_m, boxes.size_m)
    torch.testing.assert_close(back.center_m, boxes.center_m, atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="every class once"):
        CenterCoder(GRID, mean_size_m={"car": (4.0, 2.0, 1.5)})
    with pytest.raises(ValueError, match="'kitti' is unknown"):
        CenterCoder(GRID, mean_size_m="kitti")  # type: ignore[arg-type]
    known = CenterCoder(GRID, mean_size_m="nuscenes").ordinary
    assert known is not None and known[0].exp()[1:].tolist() == pytest.approx([4.62, 1.95, 1.73])


def test_boxes_outside_the_grid_are_left_out():
    boxes = random_boxes(3)
    boxes.center_m[:, :2] = torch.tensor([[20.0, 0.0], [-20.0, 0.0], [0.0, 15.99]])
    assert CenterCoder(GRID).encode(boxes).box.tolist() == [1, 2]
    assert CenterCoder(GRID).center_cells(boxes)[1].tolist() == [False, True, True]


def test_gaussian_radius_hand_values():
    # Square of 10 cells, overlap 0.1: roots of the three published quadratics, computed by hand.
    cases = [
        (20 + math.sqrt(400 - 400 * 0.9 / 1.1)) / 2,
        (40 + math.sqrt(1600 - 16 * 0.9 * 100)) / 2,
        (-4 + math.sqrt(16 + 4 * 0.4 * 0.9 * 100)) / 2,
    ]
    radius = gaussian_radius(torch.tensor([10.0]), torch.tensor([10.0]), 0.1)
    torch.testing.assert_close(radius, torch.tensor([min(cases)]))


def test_heatmap_is_one_at_centres_and_keeps_the_maximum():
    heat = draw_heatmap(
        torch.tensor([[3, 2], [5, 2], [0, 0]]), torch.tensor([2, 2, 3]), torch.tensor([0, 0, 1]), (3, 6, 8)
    )
    sigma = 5 / 6
    assert heat[0, 2, 3] == 1 and heat[0, 2, 5] == 1 and heat[1, 0, 0] == 1 and heat[2].max() == 0
    assert heat[0, 2, 4] == pytest.approx(math.exp(-1 / (2 * sigma**2)))
    assert heat[0, 5, 3] == 0 and heat[1, 3, 3] == pytest.approx(math.exp(-18 / (2 * (7 / 6) ** 2)))


def test_no_boxes_give_an_empty_heatmap_and_a_finite_loss():
    head = _head()
    output = head(torch.randn(1, 8, *GRID.shape[1:]))
    boxes = [Boxes3D.empty("lidar")]
    losses = head.loss(output, boxes, head.target_counts(boxes))
    assert all(torch.isfinite(v) for v in losses.values())
    assert losses["task0.loss_bbox"] == 0 and losses["task0.loss_heatmap"] > 0


def test_gaussian_focal_loss_equals_its_definition():
    logits, target = torch.randn(4, 5, dtype=torch.float32), torch.rand(4, 5)
    target[0, 0] = 1.0
    p = logits.double().sigmoid()
    expected = torch.where(
        target == 1, -((1 - p) ** 2) * p.log(), -((1 - target.double()) ** 4) * p**2 * (1 - p).log()
    ).sum()
    torch.testing.assert_close(gaussian_focal_loss(logits, target).double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.isfinite(gaussian_focal_loss(torch.tensor([1e4, -1e4]), torch.tensor([0.0, 1.0])))


def _head(**kwargs):
    torch.manual_seed(0)
    kwargs.setdefault("tasks", (CLASSES[:4], CLASSES[4:]))
    return CenterHead(8, CenterCoder(GRID), shared_channels=8, head_channels=8, **kwargs)


def _perfect_output(head, boxes):
    """Maps that hold the targets themselves."""
    output = []
    for target in head.targets(boxes):
        heat = torch.logit(target.heatmap.clamp(1e-4, 1 - 1e-4))
        maps = torch.zeros(len(boxes), 10, *GRID.shape[1:])
        for i, code in enumerate(target.codes):
            maps[i].flatten(1)[:, code.cell] = code.code.T
        sizes = list(head.branches.values())
        output.append({**dict(zip(head.branches, maps.split(sizes, 1))), "heatmap": heat})
    return output


@pytest.mark.parametrize("joint", [False, True])
def test_decode_inverts_targets(joint):
    head = _head(joint_regression=joint, score_threshold=0.9)
    boxes = [random_boxes(6, seed=1, reach_m=15), random_boxes(4, seed=2, reach_m=15)]
    decoded = head.decode(_perfect_output(head, boxes))
    for truth, found in zip(boxes, decoded):
        assert len(found) == len(truth) and found.score.diff().le(0).all()
        distance = torch.cdist(truth.center_m, found.center_m)
        match = distance.argmin(1)
        assert distance.min(1).values.max() < 1e-4
        assert (found.label[match] == truth.label).all()
        torch.testing.assert_close(found.size_m[match], truth.size_m, rtol=1e-4, atol=1e-4)


def test_loss_is_zero_only_at_the_targets():
    head = _head()
    boxes = [random_boxes(6, reach_m=15)]
    perfect = _perfect_output(head, boxes)
    losses = head.loss(perfect, boxes, head.target_counts(boxes))
    assert losses["task0.loss_bbox"] == 0 and losses["task1.loss_bbox"] == 0
    perfect[0]["dim"] += 0.1
    shifted = head.loss(perfect, boxes, head.target_counts(boxes))["task0.loss_bbox"]
    # Each of the task's boxes adds 3 x 0.1 x weight 0.25, divided by their number.
    assert shifted == pytest.approx(0.075, rel=1e-5)


def test_counts_add_up_over_a_split_batch():
    head = _head(regression_radius=1)
    boxes = [random_boxes(6, seed=i, reach_m=30) for i in range(3)]
    whole = head.target_counts(boxes)
    parts = [head.target_counts([b]) for b in boxes]
    assert whole == {key: sum(p[key] for p in parts) for key in whole}
    boxes_inside = whole["boxes_0"] + whole["boxes_1"]
    assert boxes_inside < 18 and boxes_inside < whole["cells_0"] + whole["cells_1"] <= 9 * boxes_inside


def test_nms_and_limit():
    head = _head(nms_radius_m={"car": 4.0}, max_boxes=3, score_threshold=0.5, tasks=(CLASSES,))
    boxes = random_boxes(5, reach_m=15)
    boxes.label[:] = torch.tensor([0, 0, 1, 1, 1])
    boxes.center_m[:, :2] = torch.tensor([[0.5, 0.4], [3.5, 0.4], [8.5, 8.4], [11.5, 8.4], [0.5, -8.4]])
    found = head.decode(_perfect_output(head, [boxes]))[0]
    assert len(found) == 3 and (found.label == 0).sum() == 1


def test_tasks_must_hold_every_class_once():
    with pytest.raises(ValueError, match="every class once"):
        _head(tasks=(CLASSES[:4],))
