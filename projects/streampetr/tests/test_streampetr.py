"""StreamPETR as a project: doors, memory through the common stream, published configuration."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bev.engine.config import load_config
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import GlobalDecoderLayer, GlobalTransformer
from bev.models.backbones import ResNet
from bev.models.coders import NMSFreeCoder
from bev.models.detectors import FrameStream
from bev.models.losses import FocalLoss, L1Loss
from bev.models.necks import FPN
from bev.models.preprocess import ImageNormalizer
from bev.registry import MODELS
from projects.streampetr import BoxDenoising, StreamPETR, StreamPETRHead
from tests.models.rigs import random_boxes
from tests.models.test_bevformer import frames, rows

CONFIG = Path(__file__).parents[1] / "configs" / "streampetr_r50_704_nusc.py"
DIM = 16


def _detector(compat: str = "fixed", depth_count: int = 32, denoising: BoxDenoising | None = None) -> StreamPETR:
    torch.manual_seed(0)
    transformer = GlobalTransformer(DIM, [GlobalDecoderLayer(DIM, 2, 32, 0.0) for _ in range(2)])
    head = StreamPETRHead(
        transformer,
        DIM,
        num_queries=20,
        embed_dim=DIM,
        num_classes=10,
        range_m=(-20.0, -20.0, -3.0, 20.0, 20.0, 3.0),
        position_range_m=(-25.0, -25.0, -5.0, 25.0, 25.0, 5.0),
        assigner=HungarianAssigner3D(code_weights=(2, 2, 1, 1, 1, 1, 1, 1, 1, 1)),
        coder=NMSFreeCoder(20),
        loss_cls=FocalLoss(loss_weight=2.0),
        loss_bbox=L1Loss(0.25),
        num_propagated=4,
        memory_length=12,
        top_k=6,
        depth_count=depth_count,
        stride_px=8,
        compat=compat,
        denoising=denoising,
    )
    for parameter in head.parameters():  # away from the start, where no condition changes a norm
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    backbone = ResNet(18, base_channels=8, out_indices=(1,), num_stages=2, norm_eval=True)
    return StreamPETR(ImageNormalizer(), backbone, FPN(backbone.out_channels, DIM, 1), head)


def test_doors_and_gradients() -> None:
    first, second = frames()
    detector, batch = _detector(), replace(second, previous=(first,))
    losses = detector.train().loss(batch)
    sum(losses.values()).backward()
    silent = [n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent
    outputs = detector.eval()(batch.images, batch.rig)
    assert outputs["cls_logits"].shape == (2, 2, 24, 10) and outputs["state"]["embedding"].shape == (2, 18, DIM)


def test_denoising_changes_nothing_but_its_own_losses() -> None:
    """The frame's own queries, their losses and the memory do not see the noised ground truth."""
    first, second = frames()
    batch = replace(second, boxes=[second.boxes[0], second.boxes[1][:3]])  # padding in the second frame
    plain, noisy = _detector().eval(), _detector(denoising=BoxDenoising(groups=3)).eval()
    assert plain.state_dict().keys() == noisy.state_dict().keys()
    results = []
    for model in (plain, noisy):
        torch.manual_seed(1)
        results.append(model.stream_loss(batch, model.recall(replace(batch, previous=(first,)))))
    (losses, memory), (more, same) = results
    assert set(more) - set(losses) == {"dn.loss_cls", "dn.loss_bbox"}
    for name, value in losses.items():
        torch.testing.assert_close(more[name], value, atol=1e-5, rtol=1e-4)
    for name, value in memory.items():
        torch.testing.assert_close(same[name], value, atol=1e-4, rtol=1e-3)
    more["dn.loss_cls"].backward()
    assert all(p.grad is not None for p in noisy.pts_bbox_head.transformer.parameters())


def test_noised_boxes() -> None:
    boxes = random_boxes(400)
    torch.manual_seed(0)
    noisy = BoxDenoising(groups=5, noise_scale=1.0, split=0.75).draw([boxes, boxes[:100]], num_classes=10)
    assert noisy.label.shape == (2, 2000) and noisy.groups == 5
    assert (noisy.box[1].view(5, 400)[:, 100:] == -1).all() and (noisy.label[noisy.box < 0] == 10).all()
    share = (noisy.point_m[0].view(5, 400, 3) - boxes.center_m).abs() / (boxes.size_m / 2)
    assert float(share.max()) <= 1 + 1e-4
    kept = noisy.label[0].view(5, 400) == boxes.label
    assert bool((share[kept].norm(dim=-1) <= 0.75 + 1e-4).all())
    assert bool((noisy.label[0].view(5, 400)[~kept] == 10).all())
    # A ball of radius .75 in a cube of side 2.
    assert float(kept.float().mean()) == pytest.approx(math.pi / 6 * 0.75**3, abs=0.03)
    mask = noisy.attention_mask(7)
    assert mask[2000:, :2000].all() and not mask[:, 2000:].any() and not mask[:400, :400].any()
    assert BoxDenoising().draw([boxes[:0]], 10) is None


def test_restoring_loss_by_hand() -> None:
    head = _detector(denoising=BoxDenoising(groups=2, split=0.75, loss_weight=0.5)).pts_bbox_head
    boxes = random_boxes(2)
    torch.manual_seed(3)
    noisy = head.denoising.draw([boxes], 10)
    logits, target = torch.randn(1, 1, 4, 10), head.coder.encode(boxes)
    code = (target + 1.0).repeat(2, 1)[None, None].nan_to_num(0.0)
    losses = head.restoring_loss(logits, code, noisy, [boxes], torch.tensor(2.0))
    weights = head.code_weights[[0, 1, 3, 4, 2, 5, 6, 7, 8, 9]]
    known = torch.isfinite(target)  # off by one in every known entry
    assert float(losses["dn.loss_bbox"]) == pytest.approx(0.5 * 0.25 * 2 * float((weights * known).sum()) / 4, rel=1e-5)
    factor = torch.tensor(4 * math.pi / 6 * 0.75**3).clamp(min=1)
    expected = 0.5 * head.loss_cls(logits[0, 0], noisy.label[0], avg_factor=factor)
    assert float(losses["dn.loss_cls"]) == pytest.approx(float(expected), rel=1e-5)


def test_no_gradient_reaches_the_last_frame() -> None:
    first, second = frames()
    detector = _detector().train()
    stream = FrameStream(detector)
    sum(stream.loss(first).values())
    images = second.images.float().requires_grad_()
    assert not any(value.requires_grad for value in stream.enter(second).values())
    sum(stream.loss(replace(second, images=images)).values()).backward()
    assert bool(images.grad.any()) and stream.continued == 4


def test_the_common_stream_carries_it() -> None:
    first, second, third = frames(3)
    detector = _detector().eval()
    stream = FrameStream(detector)
    with torch.no_grad():
        streamed = [stream.predict(frame) for frame in (first, second, third)][-1]
        recalled = detector.predict(replace(third, previous=(first, second)))
        alone = detector.predict(third)
    for ours, expected, single in zip(streamed, recalled, alone):
        assert torch.equal(ours.score, expected.score) and not torch.equal(ours.score, single.score)


def test_a_batch_is_its_samples_where_one_begins() -> None:
    first, second = frames()
    first = replace(first, scenes=["another", first.scenes[1]])
    detector, batch = _detector().eval(), replace(second, previous=(first,))
    with torch.no_grad():
        together = detector(batch.images, batch.rig, detector.recall(batch))
        for i in range(2):
            single = rows(batch, [i])
            alone = detector(single.images, single.rig, detector.recall(single))
            torch.testing.assert_close(alone["box_code"][:, 0], together["box_code"][:, i], atol=1e-4, rtol=1e-4)
        fresh = rows(second, [0])
        begun = detector(fresh.images, fresh.rig)
    torch.testing.assert_close(begun["box_code"][:, 0], together["box_code"][:, 0], atol=1e-4, rtol=1e-4)


def test_remembered_points_stand_still_in_the_world() -> None:
    first, second = frames()
    detector = _detector().eval()
    stream = FrameStream(detector)
    with torch.no_grad():
        remembered = stream.forward(first)["state"]["point_m"].double()
        later = stream.forward(second)["state"]["point_m"].double()[:, 6:12]
    worlds = [_world(first.global_from_ref, remembered[:, :6]), _world(second.global_from_ref, later)]
    torch.testing.assert_close(*worlds, atol=1e-4, rtol=0)


def _world(pose: torch.Tensor, point_m: torch.Tensor) -> torch.Tensor:
    return point_m @ pose[:, :3, :3].transpose(1, 2) + pose[:, None, :3, 3]


def test_official_pairs_focal_lengths_wrongly_where_cameras_differ() -> None:
    (frame,) = frames(1, batch=1)
    wide = frame.rig.intrinsics.clone()
    wide[:, 3, :2, :2] *= 0.6
    rig = replace(frame.rig, intrinsics=wide)
    heads = (_detector(compat).eval().pts_bbox_head for compat in ("fixed", "official"))
    fixed, official = (head._rays(rig, (8, 12))[1] for head in heads)
    assert torch.equal(fixed[0, :, 0].view(6, 96).std(1), torch.zeros(6))
    assert not torch.equal(fixed, official)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="at least 30 points, not 8"):
        _detector(depth_count=8)
    with pytest.raises(ValueError, match="compat = 'other'"):
        _detector("other")


def test_published_configuration_builds() -> None:
    with torch.device("meta"):
        model = MODELS.build(load_config(CONFIG).model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["pts_bbox_head.position_encoder.0.weight"] == (1024, 192)
    assert shapes["pts_bbox_head.ego_pose_pe.reduce.0.weight"] == (256, 180)
    assert shapes["pts_bbox_head.pseudo_reference_points.weight"] == (256, 3)
    assert shapes["pts_bbox_head.spatial_alignment.reduce.0.weight"] == (256, 8)
    assert shapes["pts_bbox_head.coords_d"] == (64,)
