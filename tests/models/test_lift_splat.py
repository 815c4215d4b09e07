"""The lift-splat view transform and the BEVDet detector around it."""

import math
from dataclasses import replace

import pytest
import torch

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins, frustum_points
from bev.geometry.mirror import mirror_cameras, mirror_matrix
from bev.geometry.projection import project, unproject
from bev.models.losses.depth import depth_loss, lidar_depth_targets
from bev.models.view.lift_splat import LiftSplat
from bev.registry import MODELS
from bev.structures import PointCloud
from tests.models.rigs import random_batch, random_boxes, ring_rig

GRID = dict(type="BEVGrid", x_m=(-20, 20, 1.0), y_m=(-20, 20, 1.0), z_m=(-5, 3, 8))


def _detector(depth_loss_weight=1.0):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="BEVDet",
            preprocess=dict(type="ImageNormalizer"),
            img_backbone=dict(type="UnshuffleNet", widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1)),
            img_neck=dict(type="TopDownNeck", in_channels=(8, 8, 8), out_channels=8),
            img_view_transformer=dict(
                type="LiftSplat",
                in_channels=8,
                out_channels=8,
                grid=GRID,
                stride_px=8,
                ray_channels=True,
                depth_bins=dict(type="LinearDepthBins", low_m=1.0, high_m=21.0, step_m=2.0),
            ),
            bev_encoder=dict(type="BEVEncoder", in_channels=11, widths=(8, 8), blocks=(1,)),
            pts_bbox_head=dict(
                type="CenterHead",
                in_channels=8,
                coder=dict(type="CenterCoder", grid=GRID),
                shared_channels=8,
                head_channels=8,
            ),
            depth_loss_weight=depth_loss_weight,
        )
    )


def test_frustum_points_project_back_to_their_pixels():
    rig = ring_rig(batch=2)
    centers = DepthBins.log(1.0, 40.0, 7).centers_m()
    points = frustum_points(rig, centers, stride_px=8)
    assert points.shape == (2, 6, 8, 12, 7, 3)
    for camera in range(6):
        pixels, depth = project(points[1, camera].reshape(-1, 3), rig.img_from_ref[1])
        pixels, depth = pixels[camera].view(8, 12, 7, 2), depth[camera].view(8, 12, 7)
        torch.testing.assert_close(depth, centers.expand(8, 12, 7), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            pixels[..., 0], ((torch.arange(12) + 0.5) * 8)[None, :, None].expand(8, 12, 7), atol=1e-2, rtol=0
        )


def test_splat_puts_a_pixel_where_its_depth_says():
    """One hot pixel of one camera with a sharp depth lands in exactly the cell under its 3D point."""
    grid = BEVGrid((-20, 20, 1.0), (-20, 20, 1.0), (-5, 9, 14))
    bins = DepthBins.linear(1.0, 21.0, 2.0)
    view = LiftSplat(4, 3, bins, grid, stride_px=8)
    rig = ring_rig(batch=2)
    depth, context = torch.zeros(2, 6, 8, 12, 10), torch.zeros(2, 6, 8, 12, 3)
    depth[1, 4, 5, 3, 6], context[1, 4, 5, 3] = 1.0, torch.tensor([1.0, 2.0, 3.0])
    bev = view.splat(depth, context, rig)
    point = frustum_points(rig, bins.centers_m(), 8)[1, 4, 5, 3, 6]
    column, row = ((point[:2] + 20) / 1.0).long().tolist()
    assert bev[1, :, row, column].tolist() == [1, 2, 3]
    assert bev.abs().sum() == 6


def test_depth_targets_are_the_nearest_points_and_empty_pixels_do_not_count():
    rig = ring_rig(cameras=4)
    cloud = PointCloud(torch.tensor([[10.0, 0.1, 0.9], [5.0, 0.05, 0.95], [-7.0, 0.1, 0.9], [0.0, 0.0, 30.0]]))
    target = lidar_depth_targets([cloud], rig, stride_px=8)
    assert target.shape == (1, 4, 8, 12)
    assert sorted(target[target > 0].tolist()) == [5.0, 7.0]
    bins = DepthBins.linear(1.0, 6.0, 1.0)
    logits = torch.zeros(1, 4, 8, 12, 5)
    # 7 m lies beyond the bins: one pixel counts, with a uniform distribution over five bins.
    assert depth_loss(logits, target, bins) == pytest.approx(torch.tensor(5.0).log().item())


def test_points_on_the_border_of_an_image_fall_into_its_last_pixels():
    rig, generator = ring_rig(size_px=(128, 352)), torch.Generator().manual_seed(0)
    depth_m = torch.rand(100_000, generator=generator) * 60 + 0.5
    # Rounding errors around the right border: some of these divide to the border itself.
    column_px = 352 * (1 - torch.rand(100_000, generator=generator) * 3e-7)
    pixels_px = torch.stack([column_px, torch.full_like(column_px, 127.0)], 1)
    points_m = unproject(pixels_px, depth_m, rig.ref_from_img[0, -1])
    nearest = lidar_depth_targets([PointCloud(points_m)], rig, 8)[0, -1]
    assert nearest.count_nonzero() == 1
    torch.testing.assert_close(nearest[-1, -1], depth_m.min(), atol=0.01, rtol=0)


def test_three_doors_and_gradients_reach_every_parameter():
    model, batch = _detector(), random_batch()
    losses = model.loss(batch)
    assert set(losses) == {"task0.loss_heatmap", "task0.loss_bbox", "loss_depth"}
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    model.eval()
    boxes = model.predict(batch)
    assert len(boxes) == 2 and all(b.score.diff().le(0).all() and b.frame == "lidar" for b in boxes)


def test_batch_equals_single_frames():
    model, batch = _detector().eval(), random_batch()
    together = model(batch.images, batch.rig)["tasks"][0]["heatmap"]
    rig = ring_rig()
    for i in range(2):
        alone = model(batch.images[i : i + 1], rig)["tasks"][0]["heatmap"]
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_outputs_depend_on_the_rig():
    model, batch = _detector().eval(), random_batch()
    turned = batch.rig.select([1, 2, 3, 4, 5, 0])
    before, after = (model(batch.images, rig)["tasks"][0]["heatmap"] for rig in (batch.rig, turned))
    assert (before - after).abs().max() > 1e-3


def test_another_number_of_cameras():
    model, batch = _detector(), random_batch(batch=1, cameras=4)
    assert sum(model.loss(batch).values()).isfinite()


def test_bfloat16_autocast_stays_near_float32():
    model, batch = _detector(), random_batch()
    exact = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(batch)
    for name, value in exact.items():
        assert float(rough[name].detach()) == pytest.approx(float(value.detach()), rel=0.05)


def test_avg_factors_make_split_batches_add_up():
    model, batch = _detector().eval(), random_batch()
    whole = model.loss(batch)
    counts = {k: v / 2 for k, v in model.target_counts(batch).items()}
    halves = [_part(batch, i) for i in range(2)]
    for name, value in whole.items():
        mean = sum(model.loss(h, counts)[name] for h in halves) / 2
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5)


def _part(batch, i):
    from dataclasses import replace

    return replace(
        batch,
        images=batch.images[i : i + 1],
        rig=ring_rig(),
        global_from_ref=batch.global_from_ref[:1],
        tokens=batch.tokens[i : i + 1],
        timestamp_us=batch.timestamp_us[:1],
        scenes=batch.scenes[:1],
        boxes=batch.boxes[i : i + 1],
        points=batch.points[i : i + 1],
        derived={},
    )


def test_missing_ground_truth_and_points_are_named():
    from dataclasses import replace

    model, batch = _detector(), random_batch()
    with pytest.raises(ValueError, match="load_points"):
        model.loss(replace(batch, points=None))
    with pytest.raises(ValueError, match="token0.*no ground truth"):
        model.loss(replace(batch, boxes=None))


@pytest.mark.parametrize("edges", [(1.0,), (0.0, 1.0), (2.0, 1.0)])
def test_bad_depth_bins(edges):
    with pytest.raises(ValueError, match="rise"):
        DepthBins(edges)


def test_depth_bin_edges_are_half_open():
    bins = DepthBins.linear(1.0, 4.0, 1.0)
    assert bins.index(torch.tensor([0.99, 1.0, 1.99, 3.99, 4.0])).tolist() == [-1, 0, 0, 2, -1]


def test_normalized_pooling_is_the_weighted_mean():
    """Two pixels of one cell with weights 1 and 3: their weighted mean, and the log of the weight."""
    grid, bins = BEVGrid((-20, 20, 40.0), (-20, 20, 40.0), (-50, 50, 100)), DepthBins.linear(1.0, 2.0, 1.0)
    view = LiftSplat(4, 2, bins, grid, stride_px=8, normalize=True)
    depth, context = torch.zeros(1, 6, 8, 12, 1), torch.zeros(1, 6, 8, 12, 2)
    depth[0, 0, 0, 0], depth[0, 3, 5, 6] = 1.0, 3.0
    context[0, 0, 0, 0], context[0, 3, 5, 6] = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 4.0])
    mean = view.splat(depth, context, ring_rig())[0, :, 0, 0]
    torch.testing.assert_close(mean, torch.tensor([4 / 4.05, 12 / 4.05, math.log(4.05)]))


def test_measured_depth_replaces_the_prediction_where_there_is_one():
    predicted = torch.full((1, 1, 3, 4), 0.25)
    put = DepthBins.linear(1.0, 5.0, 1.0).certain_where(torch.tensor([[[2.5, 0.0, 9.0]]]), predicted)
    assert put[0, 0].tolist() == [[0, 1, 0, 0], [0.25] * 4, [0.25] * 4]


def test_measured_depth_is_for_training_alone():
    model, batch = _detector(), random_batch()
    model.measured_share = 1.0
    assert torch.equal(model._measured(batch), model._depth_targets(batch))
    assert model.eval()._measured(batch) is None


def _image_head():
    torch.manual_seed(0)
    bins = dict(type="LinearDepthBins", low_m=1.0, high_m=21.0, step_m=2.0)
    return MODELS.build(
        dict(type="ImageCenterHead", in_channels=8, hidden_channels=8, num_classes=10, depth_bins=bins, stride_px=8)
    )


def test_image_evidence_is_what_the_cameras_that_see_a_centre_say_of_its_class():
    rig, head = ring_rig(), _image_head()
    ahead = torch.tensor([[10.0, 0.0, 1.0], [0.0, 0.0, 30.0]])  # in the middle of the first camera; seen by none
    boxes = replace(random_boxes(2), center_m=ahead, label=torch.tensor([3, 3]))
    heatmap = torch.zeros(6, 10, 8, 12)
    heatmap[0, 3, 4, 6], heatmap[0, 2, 4, 6], heatmap[1, 3, 4, 6] = 0.7, 0.9, 0.8
    seen, probability = head.evidence(boxes, heatmap, rig.img_from_ref[0], rig.image_size_px)
    assert seen.tolist() == [True, False]
    torch.testing.assert_close(probability, torch.tensor([0.7, 0.0]))


def test_image_evidence_changes_scores_and_their_order_alone():
    model, batch = _detector().eval(), random_batch(batch=1)
    model.pts_bbox_head.score_threshold = 0.0
    with torch.no_grad():
        plain = model.predict(batch)[0]
        model.img_center_head, model.image_evidence = _image_head().eval(), 0.5
        output, found = model(batch.images, batch.rig), model.predict(batch)[0]
    size = batch.rig.image_size_px
    seen, image = model.img_center_head.evidence(plain, output["image_heatmap"][0], batch.rig.img_from_ref[0], size)
    expected = torch.where(seen, (plain.score * image).sqrt(), plain.score)
    assert 0 < seen.sum() < len(seen)
    torch.testing.assert_close(found.score, expected.sort(descending=True).values)
    torch.testing.assert_close(found.center_m, plain.center_m[expected.argsort(descending=True, stable=True)])
    with pytest.raises(ValueError, match="image_evidence 0.5"):
        type(model)(*[None] * 6, image_evidence=0.5)


def test_image_supervision_adds_its_terms():
    head = _image_head()
    model, batch = _detector(), random_batch()
    plain = model.eval().loss(batch)
    model.img_center_head, model.center_loss_weight = head.eval(), 2.0
    losses = model.loss(batch)
    assert set(losses) - set(plain) == {"image.loss_heatmap", "image.loss_center"}
    assert all(torch.equal(losses[name], plain[name]) for name in plain)
    counts = model.target_counts(batch)
    assert counts["centers"] > 0
    halved = model.loss(batch, {**counts, "centers": counts["centers"] * 2})
    torch.testing.assert_close(halved["image.loss_center"] * 2, losses["image.loss_center"])


@pytest.mark.parametrize("frame", ["lidar", "ego"])
def test_mirror_test_sees_a_world_and_its_mirror_image_alike(frame):
    detector = _detector().eval()
    detector.pts_bbox_head.score_threshold = 0.0
    detector.img_center_head, detector.image_evidence = _image_head().eval(), 0.3
    batch = random_batch(batch=1)
    # A ring of six whose first camera looks ahead: left and right of it swap.
    names = ("FRONT", "FRONT_LEFT", "BACK_LEFT", "BACK", "BACK_RIGHT", "FRONT_RIGHT")
    quarter_turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    ahead = quarter_turn if frame == "lidar" else torch.eye(4)
    batch = replace(batch, rig=replace(batch.rig, names=names).augment_ref(ahead))
    images, rig = mirror_cameras(batch.images, batch.rig, frame)
    mirrored = replace(batch, images=images, rig=rig)
    matrix = mirror_matrix(frame).float()
    with torch.no_grad():
        plain = detector.predict(batch)[0]
        detector.mirror_test = frame
        found, other = detector.predict(batch)[0], detector.predict(mirrored)[0].transform(matrix, "lidar")
    assert len(found) > 50 and not torch.allclose(plain.score[:50], found.score[:50], atol=1e-4)
    torch.testing.assert_close(found.score, other.score, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.center_m[:50], other.center_m[:50], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.yaw_rad[:50].sin(), other.yaw_rad[:50].sin(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.velocity_mps[:50], other.velocity_mps[:50], atol=1e-3, rtol=1e-3)


def test_calibration_channels_tell_cameras_apart():
    """The same picture means something else to a camera that is mounted higher."""
    view = LiftSplat(
        4,
        2,
        DepthBins.linear(1.0, 5.0, 1.0),
        BEVGrid((-20, 20, 1.0), (-20, 20, 1.0), (-5, 9, 14)),
        8,
        calibration_channels=True,
    )
    rig, features = ring_rig(), torch.randn(1, 1, 4, 8, 12).expand(1, 6, 4, 8, 12)
    lifted = rig.augment_ref(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]))
    low, high = view(features, rig).depth_logits, view(features, lifted).depth_logits
    torch.testing.assert_close(low[:, 0], low[:, 3], atol=1e-5, rtol=1e-4)
    assert (low - high).abs().max() > 1e-3
