"""Seeded DETR3D: ray frames, depth profiles, image centres, denoising, and the whole detector."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bev.engine.config import load_config
from bev.geometry.frustum import DepthBins, frustum_points
from bev.geometry.projection import project
from bev.geometry.rays import pixel_rays, ray, rotate
from bev.models.attention.ray_cross_attention import RayCrossAttention, bin_position, depth_profile
from bev.models.coders import RayRefinement
from bev.models.detectors import SeededDetr3D
from bev.models.heads.denoising import Denoising
from bev.models.heads.image_center_head import CenterMaps, ImageCenterHead
from bev.models.view.ground_prior import GroundPrior
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.conventions import encode_detr
from tests.models.rigs import random_batch, random_boxes, ring_rig
from tests.paths import REPO_ROOT

RANGE_M = (-40.0, -40.0, -5.0, 40.0, 40.0, 5.0)
BINS = DepthBins.log(2.0, 58.0, 16)
CONFIG = REPO_ROOT / "configs" / "detr3d" / "detr3d_tiny_synthetic.py"


def _turn(angle_rad: float) -> torch.Tensor:
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return torch.tensor([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])


def _detector() -> SeededDetr3D:
    torch.manual_seed(0)
    return MODELS.build(load_config(CONFIG).model)


def test_rays_and_rotation() -> None:
    points = torch.tensor([[3.0, 4.0, 1.0], [0.0, 0.0, 2.0], [-0.1, 0.0, 0.0]])
    direction, range_m = ray(points)
    torch.testing.assert_close(range_m, torch.tensor([5.0, 1.0, 1.0]))
    torch.testing.assert_close(direction, torch.tensor([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]]))
    torch.testing.assert_close(rotate(torch.tensor([[5.0, 0.0]]), direction[:1]), points[:1, :2])


def test_refinement_turns_with_the_world() -> None:
    """The same raw regression at turned references gives boxes turned by the same angle."""
    refinement = RayRefinement(RANGE_M)
    boxes = random_boxes(9)
    boxes = replace(boxes, velocity_mps=torch.randn(9, 2))
    raw, turn = torch.randn(9, 10) * 0.3, _turn(1.1)
    _, code = refinement(raw, refinement.from_metric(boxes.center_m))
    turned = boxes.center_m @ turn[:3, :3].T
    _, turned_code = refinement(raw, refinement.from_metric(turned))
    for columns in ([0, 1], [8, 9], [7, 6]):
        torch.testing.assert_close(turned_code[:, columns], code[:, columns] @ turn[:2, :2].T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(turned_code[:, [2, 3, 4, 5]], code[:, [2, 3, 4, 5]])


def test_refinement_reference_is_the_centre_of_the_code_within_the_range() -> None:
    refinement = RayRefinement(RANGE_M, step_share=0.1)
    reference = torch.rand(20, 3)
    refined, code = refinement(torch.randn(20, 10), reference)
    inside = ((refined > 0) & (refined < 1)).all(-1)
    torch.testing.assert_close(refinement.to_metric(refined)[inside], code[inside][:, [0, 1, 4]], atol=1e-4, rtol=1e-4)
    assert bool(inside.any()) and bool((refined >= 0).all() and (refined <= 1).all())
    raw = torch.zeros(1, 10)
    raw[0, 0] = 1.0  # one step along the ray is a tenth of the range
    point = torch.tensor([[20.0, 0.0, 0.0]])
    torch.testing.assert_close(refinement(raw, refinement.from_metric(point))[1][:, :2], torch.tensor([[22.0, 0.0]]))


def test_bin_position_is_whole_at_the_middle_of_a_bin() -> None:
    edges = torch.tensor(BINS.edges_m)
    middles = (edges[1:] * edges[:-1]).sqrt()
    torch.testing.assert_close(bin_position(middles, BINS), torch.arange(16.0), atol=1e-4, rtol=1e-4)
    assert torch.equal(bin_position(middles, BINS).round().long(), BINS.index(middles))


def test_depth_profile_shifts_interpolates_and_pads() -> None:
    probability = torch.arange(1.0, 9.0).expand(4, 8)
    profile = depth_profile(probability, torch.tensor([3.0, 3.25, 0.0, 50.0]), reach=2)
    assert profile[:3].tolist() == [[2.0, 3, 4, 5, 6], [2.25, 3.25, 4.25, 5.25, 6.25], [0, 0, 1, 2, 3]]
    assert profile[3].tolist() == [7, 8, 0, 0, 0]  # a point beyond the bins sits just after the last one
    assert bool(torch.isfinite(depth_profile(probability, torch.tensor([-1e9, 1e9, 0, 0.0]), 2)).all())


@pytest.mark.parametrize("cameras", [1, 3, 8])
def test_cross_attention_takes_any_number_of_cameras_in_any_order(cameras: int) -> None:
    torch.manual_seed(0)
    attention = RayCrossAttention(8, RANGE_M, BINS).eval()
    torch.nn.init.normal_(attention.offsets.weight, std=0.3)
    rig, query, position = ring_rig(cameras), torch.randn(1, 11, 8), torch.randn(1, 11, 8)
    features, reference = torch.randn(1, cameras, 24, 8, 12), torch.rand(1, 11, 3)
    result = attention(query, position, reference, [features], rig)
    order = list(reversed(range(cameras)))
    other = attention(query, position, reference, [features[:, order]], rig.select(order))
    torch.testing.assert_close(result, other, atol=1e-5, rtol=1e-5)


def test_image_head_seeds_where_its_targets_are() -> None:
    """Maps that equal the targets give one seed on the centre of every visible box that no other one covers."""
    head, rig, boxes = ImageCenterHead(8, 8, 10, BINS, stride_px=4), ring_rig(size_px=(128, 192)), random_boxes(6)
    targets = head.targets(boxes, rig.img_from_ref[0], rig.image_size_px)
    heatmap = targets.heatmap.clamp(1e-4, 1 - 1e-4)
    offset, log_depth = torch.zeros(6, 2, 32, 48), torch.zeros(6, 32, 48)
    offset[targets.camera, :, targets.row, targets.column] = targets.offset
    log_depth[targets.camera, targets.row, targets.column] = targets.log_depth
    maps = CenterMaps(heatmap.logit()[None], offset[None], log_depth[None], torch.zeros(1, 6, 32, 48, 16))
    seeds = head.seeds(maps, rig, count=len(targets.camera))
    distance = torch.cdist(seeds.point_m[0], boxes.center_m)
    assert len(targets.camera) >= 5 and float((distance.amin(1) < 0.05).float().mean()) > 0.8
    found = distance.amin(1) < 0.05
    assert torch.equal(seeds.label[0][found], boxes.label[distance.argmin(1)][found])
    losses = head.loss(maps, [targets], torch.tensor(1.0))
    moved = head.loss(maps._replace(heatmap=maps.heatmap.roll(5, -1)), [targets], torch.tensor(1.0))
    assert float(losses["loss_center"]) < 1e-3
    assert float(losses["loss_heatmap"]) < 1 < 10 < float(moved["loss_heatmap"])


def test_image_targets_lie_at_the_projected_centres_and_ignore_what_no_camera_sees() -> None:
    head, rig = ImageCenterHead(8, 8, 10, BINS, stride_px=4), ring_rig(cameras=1, size_px=(128, 192))
    boxes = random_boxes(30)
    targets = head.targets(boxes, rig.img_from_ref[0], rig.image_size_px)
    pixels, depth = project(boxes.center_m, rig.img_from_ref[0])
    assert 0 < len(targets.camera) < 30 and bool((targets.offset.abs() <= 0.5).all())
    at = torch.stack([targets.column, targets.row], -1) + 0.5 + targets.offset
    assert float((at[:, None] * 4 - pixels[0]).norm(dim=-1).amin(1).max()) < 1e-3
    peaks = targets.heatmap[targets.camera, :, targets.row, targets.column].amax(1)
    assert torch.equal(peaks, torch.ones_like(peaks))
    none = head.targets(Boxes3D.empty("lidar"), rig.img_from_ref[0], rig.image_size_px)
    assert len(none.camera) == 0 and not none.heatmap.any()


def test_denoising_queries() -> None:
    torch.manual_seed(0)
    boxes = [random_boxes(5), Boxes3D.empty("lidar"), random_boxes(2, seed=3)]
    noisy = Denoising(num_queries=30, center_share=0.1, label_flip=0.0).draw(boxes, 10)
    assert noisy is not None and noisy.point_m.shape == (3, 3 * 2 * 5, 3)
    assert [int((row >= 0).sum()) for row in noisy.box] == [15, 0, 6]
    sample, query = (noisy.box >= 0).nonzero(as_tuple=True)
    for b, q in zip(sample.tolist(), query.tolist()):
        box = boxes[b][noisy.box[b, q : q + 1]]
        step = float((noisy.point_m[b, q] - box.center_m[0])[:2].norm())
        assert step <= 0.1 * math.sqrt(2) * max(float(box.center_m[0, :2].norm()), 1) + 1e-4
        assert noisy.label[b, q] == box.label[0]
        refused = float((noisy.point_m[b, q + 5] - box.center_m[0])[:2].norm())
        assert refused >= 0.1 * float(box.center_m[0, :2].norm()) - 1e-4 and noisy.box[b, q + 5] == -1
    assert Denoising().draw([Boxes3D.empty("lidar")] * 2, 10) is None


def test_other_queries_never_see_the_ground_truth() -> None:
    noisy = Denoising(num_queries=14).draw([random_boxes(3)], 10)
    assert noisy is not None
    mask = noisy.attention_mask(others=4)
    assert bool(mask[12:, :12].all()) and not mask[12:, 12:].any()
    assert not mask[:6, :6].any() and bool(mask[:6, 6:12].all() and mask[6:12, :6].all())


def test_three_doors_and_gradients_reach_every_parameter() -> None:
    detector, batch = _detector(), random_batch()
    losses = detector.train().loss(batch)
    names = {"loss_cls", "loss_bbox", "dn.loss_cls", "dn.loss_bbox", "loss_heatmap", "loss_center", "loss_depth"}
    assert names <= set(losses) and all(bool(torch.isfinite(value)) for value in losses.values())
    sum(losses.values()).backward()
    silent = [n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent
    queries = detector.pts_bbox_head.num_queries + detector.pts_bbox_head.num_seeds
    outputs = detector.eval()(batch.images, batch.rig)
    assert outputs["box_code"].shape == (3, 2, queries, 10)
    for boxes in detector.predict(batch):
        assert bool((boxes.score.diff() <= 0).all()) and boxes.frame == "lidar"


def test_denoising_does_not_change_what_the_other_queries_predict() -> None:
    detector, batch = _detector().eval(), random_batch()
    features = detector.extract_features(batch.images)
    plain = detector.pts_bbox_head(features, batch.rig)
    trained, _, restored = detector.pts_bbox_head.forward_train(features, batch.rig, batch.boxes)
    assert restored is not None
    for name, value in plain.items():
        torch.testing.assert_close(trained[name], value, atol=1e-4, rtol=1e-4)


def test_denoising_loss_vanishes_at_the_ground_truth() -> None:
    head, boxes = _detector().pts_bbox_head, [random_boxes(4), random_boxes(2, seed=1)]
    noisy = head.denoising.draw(boxes, 10)
    code, logits = torch.zeros(1, *noisy.box.shape, 10), torch.full((1, *noisy.box.shape, 10), -20.0)
    for b, truth in enumerate(boxes):
        query = (noisy.box[b] >= 0).nonzero().squeeze(1)
        code[0, b, query] = encode_detr(truth)[noisy.box[b, query]].nan_to_num()
        logits[0, b, query, truth.label[noisy.box[b, query]]] = 20.0
    losses = head.denoising_loss({"cls_logits": logits, "box_code": code}, noisy, boxes, torch.tensor(6.0))
    assert float(losses["dn.loss_cls"]) < 1e-6 and float(losses["dn.loss_bbox"]) < 1e-6


def test_frames_without_ground_truth_and_without_points() -> None:
    detector, batch = _detector().train(), random_batch()
    for boxes in ([Boxes3D.empty("lidar"), batch.boxes[1]], [Boxes3D.empty("lidar")] * 2):
        losses = detector.loss(replace(batch, boxes=boxes))
        assert all(bool(torch.isfinite(value)) for value in losses.values())
    with pytest.raises(ValueError, match="load_points=True"):
        detector.loss(replace(batch, points=None))
    detector.loss_weights["depth"] = 0.0
    assert "loss_depth" not in detector.loss(replace(batch, points=None))


def test_a_step_under_autocast_and_a_batch_is_its_samples() -> None:
    detector, batch = _detector(), random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        sum(detector.train().loss(batch).values()).backward()
    detector.eval()
    together = detector(batch.images, batch.rig)
    rig = replace(
        batch.rig,
        intrinsics=batch.rig.intrinsics[1:],
        cam_from_ref=batch.rig.cam_from_ref[1:],
        image_aug=batch.rig.image_aug[1:],
        timestamp_us=batch.rig.timestamp_us[1:],
    )
    alone = detector(batch.images[1:], rig)
    torch.testing.assert_close(alone["box_code"][:, 0], together["box_code"][:, 1], atol=1e-3, rtol=1e-3)


def test_a_fresh_decoder_looks_at_its_references_and_around_them() -> None:
    attention = _detector().pts_bbox_head.transformer.decoder.layers[0].attentions[1]
    points = attention._points(torch.randn(1, 2, 64), torch.tensor([[[20.0, 0.0, 0.0], [0.0, 10.0, 1.0]]]))
    torch.testing.assert_close(points[0, :, 0], torch.tensor([[20.0, 0.0, 0.0], [0.0, 10.0, 1.0]]))
    distance = (points[0, :, 1:] - points[0, :, :1]).norm(dim=-1)
    torch.testing.assert_close(distance, torch.tensor([[1.0] * 4, [0.5] * 4]), atol=1e-5, rtol=1e-5)


def test_ground_prior_peaks_where_rays_meet_the_ground() -> None:
    rig, prior = ring_rig(size_px=(128, 192)), GroundPrior(-0.5, BINS, 8)  # cameras 1 m up: 1.5 m above the ground
    logits = prior(rig)
    points = frustum_points(rig, torch.tensor([1.0]), 8)[..., 0, :] - torch.tensor([0.0, 0.0, 1.0])
    depth_m = -1.5 / points[..., 2]  # along a ray whose point at depth 1 lies this much lower
    index = BINS.index(depth_m)
    at = index >= 0
    assert bool(at.any()) and float((logits.argmax(-1)[at] - index[at]).abs().float().max()) <= 1
    assert bool((logits.argmax(-1)[points[..., 2] >= 0] == len(BINS) - 1).all())
    logits.logsumexp(-1).sum().backward()
    assert prior.gain.grad is not None and bool(torch.isfinite(prior.gain.grad))


def test_pixel_rays_are_those_of_the_frustum() -> None:
    rig = ring_rig(size_px=(64, 96))
    rise, way, height, log_fall = pixel_rays(rig, 8).unbind(2)
    step = frustum_points(rig, torch.tensor([1.0, 3.0]), 8).diff(dim=-2).squeeze(-2) / 2
    torch.testing.assert_close(rise, step[..., 2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(way, step[..., :2].norm(dim=-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(height, torch.ones_like(height), atol=1e-5, rtol=1e-5)
    falling = rise < -0.01
    torch.testing.assert_close(log_fall[falling].exp() * rise[falling], -torch.ones(int(falling.sum())))
