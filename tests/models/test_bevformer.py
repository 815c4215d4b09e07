"""BEVFormer: three doors, batches, past and motion, export, errors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import BEVCrossAttention, DetrDecoderLayer, SpatialCrossAttention, TemporalSelfAttention
from bev.models.attention.spatial_cross_attention import Pillars, _read_every, _read_listed, flatten_levels
from bev.models.backbones import ResNet
from bev.models.coders import NMSFreeCoder, SigmoidRefinement
from bev.models.detectors import BEVFormer
from bev.models.heads import BEVFormerEncoder, BEVFormerHead, BEVFormerLayer, Motion, PerceptionTransformer
from bev.models.losses import FocalLoss, L1Loss
from bev.models.necks import FPN
from bev.models.preprocess import ImageNormalizer
from bev.models.view.ego_motion import can_bus_vector, planar_motion, rotate_map
from bev.structures import Batch
from tests.models.rigs import random_batch

RANGE_M = (-20.0, -20.0, -3.0, 20.0, 20.0, 3.0)
DIM = 16


def detector(compat: str = "fixed", layers: int = 2, dropout: float = 0.0) -> BEVFormer:
    torch.manual_seed(0)
    encoder = [
        BEVFormerLayer(
            DIM,
            32,
            TemporalSelfAttention(DIM, 2, 2, dropout, compat),  # type: ignore[arg-type]
            SpatialCrossAttention(DIM, 2, 2, 4, dropout, compat),  # type: ignore[arg-type]
            dropout,
        )
        for _ in range(layers)
    ]
    decoder = [DetrDecoderLayer(DIM, 2, 32, BEVCrossAttention(DIM, 2, 2, dropout), dropout) for _ in range(layers)]
    transformer = PerceptionTransformer(
        DIM,
        BEVFormerEncoder(encoder, (10, 12), RANGE_M, 2),
        decoder,
        SigmoidRefinement(RANGE_M),
        num_feature_levels=2,
        compat=compat,  # type: ignore[arg-type]
    )
    head = BEVFormerHead(
        transformer, 30, DIM, 10, HungarianAssigner3D(), NMSFreeCoder(20), FocalLoss(loss_weight=2.0), L1Loss(0.25)
    )
    for parameter in head.parameters():  # away from the start, where offsets and weights do not depend on queries
        parameter.data += 0.05 * torch.randn_like(parameter)
    backbone = ResNet(18, base_channels=8, out_indices=(1, 2), num_stages=3, norm_eval=True)
    return BEVFormer(ImageNormalizer(), backbone, FPN(backbone.out_channels, DIM, 2), head)


def pose(x_m: float, y_m: float, yaw_rad: float) -> Tensor:
    return rigid(rotation_about_z(torch.tensor(yaw_rad, dtype=torch.float64)), torch.tensor([x_m, y_m, 0.0]).double())


def frames(count: int = 2, batch: int = 2) -> list[Batch]:
    """Consecutive frames of ``batch`` recordings, each driving another curve."""
    made = []
    for index in range(count):
        frame = random_batch(batch)
        poses = torch.stack([pose(0.5 * index * b, 3.0 * index, 0.1 * index * (b - 1)) for b in range(batch)])
        made.append(
            replace(
                frame,
                images=frame.images.roll(7 * index, -1),
                global_from_ref=poses,
                timestamp_us=torch.full((batch,), 500_000 * index),
                tokens=[f"token{b}-{index}" for b in range(batch)],
                scenes=[f"scene{b}" for b in range(batch)],
            )
        )
    return made


def rows(batch: Batch, picked: list[int]) -> Batch:
    """Some frames of a batch."""
    rig = batch.rig
    return replace(
        batch,
        images=batch.images[picked],
        rig=replace(
            rig,
            intrinsics=rig.intrinsics[picked],
            cam_from_ref=rig.cam_from_ref[picked],
            image_aug=rig.image_aug[picked],
            timestamp_us=rig.timestamp_us[picked],
        ),
        global_from_ref=batch.global_from_ref[picked],
        timestamp_us=batch.timestamp_us[picked],
        tokens=[batch.tokens[i] for i in picked],
        scenes=[batch.scenes[i] for i in picked],
        boxes=[batch.boxes[i] for i in picked],
        points=None,
        previous=tuple(rows(earlier, picked) for earlier in batch.previous),
    )


def test_three_doors_and_gradients_reach_every_parameter() -> None:
    first, second = frames()
    model, batch = detector().train(), replace(second, previous=(first,))
    losses = model.loss(batch)
    assert set(losses) == {"loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox"}
    sum(losses.values()).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent
    outputs = model.eval()(batch.images, batch.rig)
    assert outputs["cls_logits"].shape == (2, 2, 30, 10) and outputs["box_code"].shape == (2, 2, 30, 10)
    assert outputs["state"]["bev"].shape == (2, 120, DIM)
    for boxes in model.predict(batch):
        assert len(boxes) <= 20 and bool((boxes.score.diff() <= 0).all()) and boxes.frame == "lidar"


def test_the_past_is_run_as_in_inference_and_leaves_the_modes_alone() -> None:
    first, second = frames()
    model = detector(dropout=0.5).train()
    model.img_backbone.layer1.eval()
    states = [model.recall(replace(second, previous=(first,)))["bev"] for _ in range(2)]
    assert torch.equal(*states) and not states[0].requires_grad
    assert model.training and model.pts_bbox_head.training and not model.img_backbone.layer1.training


def test_a_batch_is_its_samples_with_and_without_a_past() -> None:
    """Three frames: one begins, two continue; rigs differ in focal length."""
    first, second = frames(batch=3)
    scale = torch.tensor([1.0, 0.7, 1.3], dtype=torch.float64)[:, None, None, None]
    wide = torch.diag_embed(torch.cat([scale, scale, torch.ones_like(scale)], -1).squeeze(-2)).expand(3, 6, 3, 3)
    first, second = (replace(f, rig=replace(f.rig, image_aug=wide)) for f in (first, second))
    first = replace(first, scenes=["another", *first.scenes[1:]])
    batch, model = replace(second, previous=(first,)), detector().eval()
    with torch.no_grad():
        together = model(batch.images, batch.rig, model.recall(batch))
        for i in range(3):
            single = rows(batch, [i])
            alone = model(single.images, single.rig, model.recall(single))
            for name in ("box_code", "cls_logits"):
                torch.testing.assert_close(alone[name][:, 0], together[name][:, i], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(alone["state"]["bev"][0], together["state"]["bev"][i], atol=1e-4, rtol=1e-4)
        begun = rows(second, [0])
        fresh = model(begun.images, begun.rig, model.recall(begun))
    torch.testing.assert_close(fresh["state"]["bev"][0], together["state"]["bev"][0], atol=1e-4, rtol=1e-4)


def test_official_is_the_same_for_one_frame_and_wrong_for_the_second_of_two() -> None:
    first, second = frames()
    batch = replace(second, previous=(first,))
    ours, official = detector().eval(), detector("official").eval()
    official.pts_bbox_head.transformer.rotate_center = ours.pts_bbox_head.transformer.rotate_center
    with torch.no_grad():
        alone, pairs = ([_map(model, b) for model in (ours, official)] for b in (rows(batch, [0]), batch))
    assert torch.equal(*alone)
    torch.testing.assert_close(pairs[1][0], pairs[0][0], atol=1e-4, rtol=1e-4)
    assert (pairs[1][1] - pairs[0][1]).abs().max() > 1e-2


def _map(model: BEVFormer, batch: Batch) -> Tensor:
    return model(batch.images, batch.rig, model.recall(batch))["state"]["bev"]


def test_official_looks_where_the_first_frame_sees_something() -> None:
    attention = SpatialCrossAttention(DIM, 1, 2, 2, 0.0, "official").eval()
    fixed = SpatialCrossAttention(DIM, 1, 2, 2, 0.0).eval()
    fixed.load_state_dict(attention.state_dict())
    tokens = flatten_levels([torch.randn(2, 1, DIM, 4, 4)])
    pillars = _pillars(torch.tensor([[[True, False]], [[False, True]]]))
    query = torch.randn(2, 2, DIM)
    published, ours = attention(query, tokens, pillars), fixed(query, tokens, pillars)
    torch.testing.assert_close(published[0], ours[0])
    assert not torch.allclose(published[1, 0], ours[1, 0]) and not torch.allclose(published[1, 1], ours[1, 1])


def _pillars(visible: Tensor) -> Pillars:
    points = torch.full((*visible.shape, 1, 2), 0.5)
    return Pillars(points, visible.unsqueeze(-1))


def test_listed_and_dense_forms_agree() -> None:
    """Including a camera that sees nothing and a query that nobody sees."""
    model, batch = detector().eval(), random_batch(2)
    encoder = model.pts_bbox_head.transformer.encoder
    attention = encoder.layers[0].attentions[1].deformable_attention
    pillars = encoder.project(batch.rig)
    seen = pillars.visible.any(-1)
    assert bool((~seen.any(1)).any()) and bool(seen.any())
    seen[0, 3] = False
    tokens = model.pts_bbox_head.transformer.embed(model.extract_features(batch.images))
    values = attention.values(tokens.values).flatten(0, 1)
    (samples,) = attention.samples(torch.randn(2, 120, DIM), tokens.shapes)
    listed = _read_listed(values, tokens.shapes, samples, pillars.points, seen)
    dense = _read_every(values, tokens.shapes, samples, pillars.points, seen)
    torch.testing.assert_close(listed, dense, atol=1e-5, rtol=1e-5)
    nothing = torch.zeros_like(seen)
    assert not _read_listed(values, tokens.shapes, samples, pillars.points, nothing).any()


@pytest.mark.parametrize("turn", [0.0, 0.3, -1.2, math.pi / 2])
def test_a_thing_that_stands_still_is_read_where_it_stands(turn: float) -> None:
    """The previous map, turned and read with the shift, shows a fixed point of the world at its present place."""
    shape, extent_m, thing = (80, 100), (50.0, 40.0), torch.tensor([6.3, 11.1, 0.0])
    before, after = pose(100.0, 50.0, 0.4), pose(103.0, 52.0, 0.4 + turn)
    motion = Motion(torch.tensor([True]), after[None], (after.inverse() @ before)[None], torch.tensor([0.5]).double())
    moved_m, turned_deg = planar_motion(can_bus_vector(motion, "lidar"), "lidar")
    world = torch.cat([thing + torch.tensor([100.0, 50.0, 0.0]), torch.ones(1)]).double()
    was, now = (_cell(p.inverse() @ world, shape, extent_m) for p in (before, after))
    bev = torch.zeros(1, *shape, 1)
    bev[0, int(was[1]), int(was[0])] = 1
    turned = rotate_map(bev, turned_deg, (shape[1] / 2, shape[0] / 2))[0, ..., 0]
    read = now + moved_m[0] / torch.tensor(extent_m) * torch.tensor([shape[1], shape[0]])
    row, column = divmod(int(turned.argmax()), shape[1])
    assert turned.max() == 1 and (read - torch.tensor([column + 0.5, row + 0.5])).abs().max() < 1.3


def _cell(point_m: Tensor, shape: tuple[int, int], extent_m: tuple[float, float]) -> Tensor:
    """x, y in cells of a grid around the origin."""
    return (point_m[:2] / torch.tensor(extent_m) + 0.5) * torch.tensor([shape[1], shape[0]])


def test_motion_vector() -> None:
    """A LiDAR frame looks to its +y; the vehicle drives north, then has turned left by 20 degrees over north."""
    quarter, before = math.pi / 2, pose(10.0, 5.0, 0.0)
    after = pose(10.0, 8.0, math.radians(20))
    motion = Motion(torch.tensor([True]), after[None], (after.inverse() @ before)[None], torch.tensor([0.5]).double())
    vector = can_bus_vector(motion, "lidar")[0]
    torch.testing.assert_close(vector[:3], torch.tensor([0.0, 3.0, 0.0]).double())
    half = (quarter + math.radians(20)) / 2
    torch.testing.assert_close(vector[3:7], torch.tensor([math.cos(half), 0, 0, math.sin(half)]).double())
    assert not vector[7:16].any()
    torch.testing.assert_close(vector[16:], torch.tensor([quarter + math.radians(20), 20.0]).double())
    moved_m = planar_motion(vector[None], "lidar").moved_m[0]
    torch.testing.assert_close(moved_m, (after[:3, :3].T @ torch.tensor([0.0, 3.0, 0.0]).double())[:2])
    ego = can_bus_vector(motion, "ego")
    torch.testing.assert_close(planar_motion(ego, "ego").moved_m[0], moved_m)


def test_motion_of_a_mirrored_frame_is_mirrored() -> None:
    """``RigMirror`` reflects x of the LiDAR frame; the displacement in it is reflected too, the turn reversed."""
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1])).double()
    before, after = pose(1.0, 2.0, 0.2), pose(2.5, 5.0, 0.5)
    results = []
    for flip in (torch.eye(4).double(), mirror):
        now, then = after @ flip, before @ flip
        motion = Motion(torch.tensor([True]), now[None], (now.inverse() @ then)[None], torch.tensor([0.5]).double())
        results.append(planar_motion(can_bus_vector(motion, "lidar"), "lidar"))
    torch.testing.assert_close(results[1].moved_m, results[0].moved_m * torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(results[1].turned_deg, -results[0].turned_deg)


def test_turn_across_north_wraps_or_not() -> None:
    before, after = pose(0, 0, -math.pi / 2 - 0.1), pose(0, 0, -math.pi / 2 + 0.1)
    motion = Motion(torch.tensor([True]), after[None], (after.inverse() @ before)[None], torch.tensor([0.5]).double())
    step = math.degrees(0.2)
    assert abs(float(can_bus_vector(motion, "lidar")[0, 17]) - step) < 1e-6
    assert abs(float(can_bus_vector(motion, "lidar", wrap=False)[0, 17]) - (step - 360)) < 1e-6


def test_first_frames_have_no_motion() -> None:
    first = Motion.first(frames()[1])
    vector = can_bus_vector(first, "lidar")
    assert not vector[:, :3].any() and not vector[:, 17].any() and not first.continues.any()


def test_rotation_centre() -> None:
    assert detector().pts_bbox_head.transformer.rotate_center == (6.0, 5.0)
    assert detector("official").pts_bbox_head.transformer.rotate_center == (100.0, 100.0)


def test_export_with_state() -> None:
    first, second = (rows(frame, [0]) for frame in frames())
    model = detector(layers=1).eval()
    exported = _Exported(model, second.rig)
    with torch.no_grad():
        state = model.recall(replace(second, previous=(first,)))
    assert set(state) == {"bev", "can_bus", "continues"}
    inputs = (second.images, second.rig.cam_from_ref, state["bev"], state["can_bus"], state["continues"])
    program = torch.export.export(exported, inputs)
    assert not any("grid_sampl" in str(n.target) or "bev." in str(n.target) for n in program.graph.nodes)
    for ours, theirs in zip(program.module()(*inputs), exported(*inputs)):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


class _Exported(torch.nn.Module):
    """Images, calibration and the state as plain inputs; boxes and the next map as outputs."""

    def __init__(self, model: BEVFormer, rig) -> None:
        super().__init__()
        self.model, self.rig = model, rig

    def forward(self, images: Tensor, cam_from_ref: Tensor, bev: Tensor, can_bus: Tensor, continues: Tensor):
        state = {"bev": bev, "can_bus": can_bus, "continues": continues}
        outputs = self.model(images, replace(self.rig, cam_from_ref=cam_from_ref), state)
        return outputs["box_code"], outputs["state"]["bev"]


def test_autocast_keeps_boxes_in_float32() -> None:
    first, second = frames()
    model, batch = detector(), replace(second, previous=(first,))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(batch.images, batch.rig, model.recall(batch))
        sum(model.train().loss(batch).values()).backward()
    assert outputs["box_code"].dtype == outputs["cls_logits"].dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


def test_errors_name_what_is_wrong() -> None:
    model, batch = detector(), random_batch()
    with pytest.raises(ValueError, match="token0.*no ground truth"):
        model.loss(replace(batch, boxes=None))
    with pytest.raises(ValueError, match="learned for 6 cameras and at most 2 levels, got 5 and 2"):
        model(batch.images[:, :5], batch.rig.select(range(5)))
    with pytest.raises(ValueError, match="4 samples.*pillars of 3 points"):
        attention = model.pts_bbox_head.transformer.encoder.layers[0].attentions[1]
        tokens = flatten_levels([torch.randn(1, 1, DIM, 2, 2)] * 2)
        seen = torch.ones(1, 1, 2, 3, dtype=torch.bool)
        attention(torch.randn(1, 2, DIM), tokens, Pillars(torch.rand(1, 1, 2, 3, 2), seen))
    with pytest.raises(ValueError, match="learned for 2 levels, got 1"):
        model.pts_bbox_head([torch.randn(1, 6, DIM, 4, 4)], rows(batch, [0]).rig)
    with pytest.raises(ValueError, match="3 heads do not divide 16"):
        TemporalSelfAttention(16, 3)
