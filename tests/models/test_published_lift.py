"""Published view transforms, alignment in time and suppression: geometry, caching, state, edges, bad arguments."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins
from bev.models.backbones import BEVResNet
from bev.models.coders import CenterPointCoder
from bev.models.detectors import FrameStream, LiftSplatDetector
from bev.models.heads import CenterPointHead, CircleSuppression, RotatedSuppression
from bev.models.losses import DepthSupervision
from bev.models.necks import LSSFPN
from bev.models.preprocess import ImageNormalizer
from bev.models.view import BEVDetView, InversePerspective
from bev.models.view.published_geometry import lift, sensor_matrices, truncated_cells
from bev.models.view.warp import warp_bev
from bev.structures import Batch, Boxes3D
from bev.structures.conventions import CLASSES
from tests.models.rigs import random_batch, random_boxes, ring_rig

GRID = BEVGrid((-16.0, 16.0, 2.0), (-16.0, 16.0, 2.0), (-4.0, 4.0, 8.0))
BINS = DepthBins.linear(1.0, 17.0, 2.0)
SIZE_PX = (64, 96)


def _view(compat: str | None = "official", grid: BEVGrid = GRID) -> BEVDetView:
    torch.manual_seed(0)
    return BEVDetView(6, 5, BINS, grid, 16, SIZE_PX, compat=compat)


def _features(batch: int = 1) -> Tensor:
    return torch.randn(batch, 6, 6, 4, 6, generator=torch.Generator().manual_seed(1))


class _Backbone(nn.Module):
    """Keeps every sixteenth pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 8::16, 8::16].repeat(1, 2, 1, 1)


def _detector(num_previous: int = 0, alignment: str = "lift", supervision: DepthSupervision | None = None):
    torch.manual_seed(0)
    frames = num_previous + 1
    head = CenterPointHead(
        8,
        CenterPointCoder(GRID, 1),
        [CircleSuppression(1.0)] * 6,
        shared_channels=8,
        head_channels=4,
        score_threshold=0.0,
    )
    return LiftSplatDetector(
        ImageNormalizer(),
        _Backbone(),
        nn.Identity(),
        _view(),
        BEVResNet(5 * frames, (8, 8, 8), (1, 1, 1)),
        LSSFPN(16, 8),
        head,
        num_previous=num_previous,
        alignment=alignment,
        depth_supervision=supervision,
    )


def test_lifted_points_project_back_to_their_pixels() -> None:
    rig = ring_rig(6, SIZE_PX)
    shift = torch.tensor([[0.5, 0.0, 3.0], [0.0, 0.5, -2.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    rig = rig.augment_images(shift, SIZE_PX)
    view = _view()
    points = lift(view.frustum, sensor_matrices(rig))
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], -1)
    projected = torch.einsum("bnij,bndhwj->bndhwi", rig.img_from_ref, homogeneous)
    depth = projected[..., 2]
    torch.testing.assert_close(depth, view.frustum[..., 2].expand_as(depth), atol=1e-4, rtol=1e-5)
    pixels = projected[..., :2] / depth[..., None]
    torch.testing.assert_close(pixels, view.frustum[..., :2].expand_as(pixels), atol=1e-3, rtol=1e-5)
    assert view.frustum[0, -1, -1].tolist() == [95.0, 63.0, 1.0]


def test_perspective_augmentation_is_refused() -> None:
    rig = ring_rig(6, SIZE_PX)
    bent = rig.image_aug.clone()
    bent[..., 2, 0] = 1e-3
    with pytest.raises(ValueError, match="affine"):
        sensor_matrices(replace(rig, image_aug=bent))


def test_truncation_takes_the_cell_before_the_edge_too() -> None:
    low, cell = torch.tensor([-16.0, -16.0, -4.0]), torch.tensor([2.0, 2.0, 8.0])
    points = torch.tensor([[-17.9, -16.0, 0.0], [-18.0, 15.99, 0.0], [16.0, -15.9, -11.9]])
    assert truncated_cells(points, low, cell).tolist() == [[0, 0, 0], [-1, 15, 0], [16, 0, 0]]


@pytest.mark.parametrize("compat", ["official", None])
@pytest.mark.parametrize("grid", [GRID, BEVGrid((-16.0, 16.0, 2.0), (-8.0, 16.0, 2.0), (-4.0, 4.0, 4.0))])
def test_pooling_is_the_plain_sum_over_points(compat: str | None, grid: BEVGrid) -> None:
    view, rig, features = _view(compat, grid), ring_rig(6, SIZE_PX, 2), _features(2)
    bev = view(features, rig).bev
    mixed = view.depthnet(features.flatten(0, 1))
    depth, context = mixed[:, : len(BINS)].softmax(1), mixed[:, len(BINS) :]
    index, inside = view.cells(rig)
    z_count, y_count, x_count = grid.shape
    expected = torch.zeros(2, z_count * y_count * x_count, 5)
    points = (depth[:, :, None] * context[:, None]).permute(0, 1, 3, 4, 2).unflatten(0, (2, 6))
    for b in range(2):
        expected[b].index_add_(0, index[b][inside[b]], points[b][inside[b]])
    expected = expected.view(2, z_count, y_count, x_count, 5).permute(0, 1, 4, 2, 3).flatten(1, 2)
    torch.testing.assert_close(bev, expected, atol=1e-5, rtol=1e-5)
    assert 0 < float(inside.float().mean()) < 1


def test_plan_is_kept_for_an_equal_rig_only() -> None:
    view, rig = _view(), ring_rig(6, SIZE_PX)
    with torch.no_grad():
        plan = view.plan(rig)
        assert view.plan(replace(rig, cam_from_ref=rig.cam_from_ref.clone())) is plan
        moved = rig.augment_ref(torch.tensor([[1.0, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).double())
        other = view.plan(moved)
    assert other is not plan and not torch.equal(other.cell_of_point, plan.cell_of_point)


def test_another_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"made for images of \(64, 96\), got \(64, 64\)"):
        _view().plan(ring_rig(6, (64, 64)))


def test_measured_depth_replaces_the_predicted_one() -> None:
    view, rig, features = _view(), ring_rig(6, SIZE_PX), _features()
    measured = torch.full((1, 6, 4, 6), 6.0)
    certain = torch.zeros(6, len(BINS), 4, 6)
    certain[:, int(BINS.index(torch.tensor(6.0)))] = 1
    context = view.depthnet(features.flatten(0, 1))[:, len(BINS) :]
    torch.testing.assert_close(view(features, rig, measured).bev, view.splat(certain, context, rig))
    torch.testing.assert_close(view(features, rig, 0 * measured).bev, view(features, rig).bev)


@pytest.mark.parametrize(
    "arguments, message", [({"compat": "offical"}, "compat is"), ({"generation": "dev"}, "generation is")]
)
def test_bad_arguments_of_the_view(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BEVDetView(6, 5, BINS, GRID, 16, SIZE_PX, **arguments)


def test_warp_by_whole_cells_is_a_shift() -> None:
    bev = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    motion = torch.eye(4).repeat(2, 1, 1)
    motion[0, 0, 3], motion[1, 1, 3] = 4.0, -2.0  # x of the source is two cells further; y one cell less
    for official in (True, False):
        warped = warp_bev(bev, motion, GRID, official)
        torch.testing.assert_close(warped[0, :, :, :-2], bev[0, :, :, 2:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(warped[1, :, 1:], bev[1, :, :-1], atol=1e-5, rtol=1e-5)
        # Exactly one cell outside: up to rounding.
        assert float(warped[0, :, :, -1].abs().max()) < 1e-4 and float(warped[1, :, 0].abs().max()) < 1e-4


def test_half_turn_of_the_true_warp_is_a_mirrored_map() -> None:
    bev = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))[None]
    torch.testing.assert_close(warp_bev(bev, turn, GRID, False), bev.flip(-1, -2), atol=1e-5, rtol=1e-5)
    # The published one turns about the corner of four cells: one row and one column fall off.
    official = warp_bev(bev, turn, GRID, True)
    torch.testing.assert_close(official[..., 1:, 1:], bev.flip(-1, -2)[..., :-1, :-1], atol=1e-5, rtol=1e-5)
    assert float(official[..., 0, :].abs().max()) < 1e-4


def _drive(count: int, batch: int = 1) -> list[Batch]:
    """Frames of recordings, 2 m and half a second apart."""
    frames = []
    for i in range(count):
        pose = torch.eye(4, dtype=torch.float64).repeat(batch, 1, 1)
        pose[:, 0, 3] = 2.0 * i
        frame, time = random_batch(batch), torch.full((batch,), 500_000 * i)
        scenes = [f"scene{b}" for b in range(batch)]
        frame = replace(frame, images=frame.images.roll(i, -1), global_from_ref=pose, timestamp_us=time, scenes=scenes)
        frames.append(frame)
    return frames


def test_streaming_equals_the_batch_form_and_first_frames_stand_in() -> None:
    model = _detector(2, "warp").eval()
    frames, stream = _drive(3), FrameStream(model)
    with torch.no_grad():
        outputs = [stream.forward(frame) for frame in frames]
        alone = model._detect_batch(frames[0])
        # As the data set hands it out: before the start the first frame is repeated.
        early = model._detect_batch(replace(frames[1], previous=(frames[0], frames[0])))
        whole = model._detect_batch(replace(frames[2], previous=tuple(frames[:2])))
    for output, expected in zip(outputs, (alone, early, whole)):
        for name, value in output["tasks"][0].items():
            torch.testing.assert_close(value, expected["tasks"][0][name], atol=1e-5, rtol=1e-5)
    state = outputs[2]["state"]
    with pytest.raises(ValueError, match="join motion_inputs"):
        model(frames[0].images, frames[0].rig, state)
    assert state["known"].tolist() == [[True, True]] and state["bev"].shape == (1, 2, 5, 16, 16)
    assert float((outputs[2]["tasks"][0]["heatmap"] - outputs[0]["tasks"][0]["heatmap"]).abs().max()) > 1e-4


def test_a_recording_that_begins_leaves_the_other_row_alone() -> None:
    model = _detector(2, "warp").eval()
    first, second = _drive(2, batch=2)
    second = replace(second, starts=torch.tensor([True, False]))
    stream = FrameStream(model)
    with torch.no_grad():
        stream.remember(first)
        together = stream.forward(second)
        alone = model(second.images, second.rig)
        kept = replace(second, previous=(first,))
        past = model._detect_batch(kept)
    heatmap = together["tasks"][0]["heatmap"]
    torch.testing.assert_close(heatmap[0], alone["tasks"][0]["heatmap"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(heatmap[1], past["tasks"][0]["heatmap"][1], atol=1e-5, rtol=1e-5)
    assert together["state"]["known"].tolist() == [[True, False], [True, True]]


def test_lifting_into_the_present_equals_warping_for_whole_cells() -> None:
    """A shift by whole cells along x resamples nothing: both ways of alignment agree away from the border."""
    frame = random_batch(1)
    past = replace(frame, global_from_ref=torch.eye(4, dtype=torch.float64)[None])
    present = frame.global_from_ref.clone()
    present[:, 0, 3] = 4.0
    present = replace(frame, global_from_ref=present, previous=(past,))
    lifted = _detector(1, "lift").eval()._lift_previous(past, present)
    warped = _detector(1, "warp").eval()._lift_previous(past, present)
    torch.testing.assert_close(lifted[..., 2:-3], warped[..., 2:-3], atol=1e-4, rtol=1e-4)
    assert warped[..., 2:-3].abs().sum() > 0


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_depth_supervision(form: str) -> None:
    supervision = DepthSupervision(2.0, form)
    logits = torch.randn(1, 1, 1, 4, len(BINS), requires_grad=True)
    target = torch.tensor([[[[0.0, 4.2, 0.5, 40.0]]]])  # none, second bin, before the first, behind the last
    count = supervision.count(target, BINS)
    loss = supervision(logits, target, BINS, count)
    if form == "softmax":
        p = logits[0, 0, 0, 1].softmax(-1)
        expected = -p[1].log() - (1 - p[[0, 2, 3, 4, 5, 6, 7]]).log().sum()
        assert count == 1
    else:
        p = logits[0, 0, 0, [1, 2]].sigmoid()
        one = torch.zeros(2, len(BINS))
        one[0, 1], one[1, 0] = 1, 1
        expected = -(one * p.log() + (1 - one) * (1 - p).log()).sum() / (4 * len(BINS))
    torch.testing.assert_close(loss, 2 * expected)
    loss.backward()
    assert not logits.grad[0, 0, 0, [0, 3]].any() and logits.grad[0, 0, 0, 1].any()


def test_training_step_of_two_frames_reaches_no_previous_frame() -> None:
    model = _detector(1, "lift", DepthSupervision()).train()
    batch = random_batch(2)
    batch = replace(batch, previous=(replace(batch, boxes=None, points=None),))
    losses = model.loss(batch)
    assert {"loss_depth", "task0.loss_heatmap", "task5.loss_bbox"} <= set(losses)
    sum(losses.values()).backward()
    assert model.img_view_transformer.depthnet.weight.grad.abs().sum() > 0
    half = {name: 2 * value for name, value in model.target_counts(batch).items()}
    halved = model.loss(batch, half)
    torch.testing.assert_close(halved["loss_depth"], losses["loss_depth"] / 2)


def test_bad_arguments_of_the_detector() -> None:
    with pytest.raises(ValueError, match="num_previous -1"):
        _detector(-1)


def test_encoded_boxes_decode_to_themselves() -> None:
    for legacy in (False, True):
        coder = CenterPointCoder(GRID, 8, legacy, (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0), frame="ego")
        boxes = random_boxes(30, reach_m=15.0, frame="ego")
        codes = coder.encode(boxes)
        found = coder.decode(codes.cell, codes.code, boxes.label[codes.box], boxes.score[codes.box])
        assert found.frame == "ego" and len(found) == 30
        torch.testing.assert_close(found.center_m, boxes.center_m, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found.size_m, boxes.size_m, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close((found.yaw_rad - boxes.yaw_rad).cos(), torch.ones(30), atol=1e-5, rtol=0)


def _row(xs: list[float], label: int = 8) -> Boxes3D:
    center = torch.tensor([[x, 0.0, 0.0] for x in xs])
    count = len(xs)
    score = torch.linspace(0.9, 0.5, count)
    size = torch.tensor([[1.0, 1.0, 1.0]]).expand(count, 3)
    labels = torch.full((count,), label)
    return Boxes3D(center, size, torch.zeros(count), torch.zeros(count, 2), labels, score, "lidar")


def test_circle_compares_squares_and_ignores_the_class() -> None:
    boxes = _row([0.0, 1.9, 2.1, 9.0])
    assert CircleSuppression(4.0)(boxes, torch.tensor([0, 1, 0, 0])).tolist() == [0, 2, 3]
    assert CircleSuppression(4.0, max_boxes=2)(boxes, boxes.label).tolist() == [0, 2]


def test_scale_nms_enlarges_what_would_never_overlap() -> None:
    boxes, task_class = _row([0.0, 1.5, 9.0]), torch.tensor([0, 0, 1])
    assert RotatedSuppression(0.2)(boxes, task_class).tolist() == [0, 1, 2]
    assert RotatedSuppression(0.2, (4.5, 9.0))(boxes, task_class).tolist() == [0, 2]
    with pytest.raises(ValueError, match="size_factors for class 2"):
        RotatedSuppression(0.2, (1.0, 2.0))(boxes, torch.tensor([0, 1, 2]))
    for suppression in (RotatedSuppression(0.2), CircleSuppression(1.0)):
        assert suppression(Boxes3D.empty("lidar"), torch.zeros(0, dtype=torch.long)).tolist() == []


def test_head_counts_shared_cells_once_and_leaves_out_what_is_beyond() -> None:
    head = _detector().pts_bbox_head
    boxes = _row([0.1, 0.2, 5.0, 40.0], CLASSES.index("car"))
    counts = head.target_counts([boxes])
    assert counts["boxes_0"] == 2 and counts["cells_0"] == 3 and counts["boxes_1"] == 0
    target = head.targets([boxes])[0]
    assert int((target.heatmap == 1).sum()) == 2 and target.codes[0].box.tolist() == [0, 1, 2]
    outputs = head(torch.randn(1, 8, 16, 16))
    empty = head.loss(outputs, [Boxes3D.empty("lidar")], head.target_counts([Boxes3D.empty("lidar")]))
    assert all(torch.isfinite(value) for value in empty.values()) and float(empty["task0.loss_bbox"]) == 0
    with pytest.raises(ValueError, match="as many suppressions"):
        CenterPointHead(8, CenterPointCoder(GRID), [CircleSuppression(1.0)])


def test_split_losses_sum_to_the_joint_one() -> None:
    head, boxes = _detector().pts_bbox_head, [random_boxes(20, reach_m=15.0)]
    outputs, counts = head(torch.randn(1, 8, 16, 16)), head.target_counts(boxes)
    joint = head.loss(outputs, boxes, counts)
    head.split_bbox_loss = True
    split = head.loss(outputs, boxes, counts)
    for task in range(6):
        parts = sum(split[f"task{task}.loss_{part}"] for part in ("xy", "z", "whl", "yaw", "vel"))
        torch.testing.assert_close(parts, joint[f"task{task}.loss_bbox"])


def test_inverse_perspective_reads_the_ground_where_it_is() -> None:
    """A camera that shows its own u, v: each cell must read the pixel that its centre projects to."""
    rig = ring_rig(6, SIZE_PX)
    view = InversePerspective(2, 2, GRID, 1, heights_m=(0.0,))
    nn.init.eye_(view.reduce.weight.data.view(2, 2)), nn.init.zeros_(view.reduce.bias)
    v, u = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    bev = view(torch.stack([u, v]).expand(1, 6, -1, -1, -1), rig).bev
    front = torch.tensor([9.0, 1.0, 0.0, 1.0])
    projected = rig.img_from_ref[0, 0] @ front
    y, x = int((1.0 + 16) // 2), int((9.0 + 16) // 2)
    torch.testing.assert_close(bev[0, :, y, x], projected[:2] / projected[2], atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="heights_m"):
        InversePerspective(2, 2, GRID, 1, heights_m=())
