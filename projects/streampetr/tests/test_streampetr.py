"""StreamPETR as a project: doors, memory through the common stream, published configuration."""

from __future__ import annotations

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
from projects.streampetr import StreamPETR, StreamPETRHead
from tests.models.test_bevformer import frames, rows

CONFIG = Path(__file__).parents[1] / "configs" / "streampetr_r50_704_nusc.py"
DIM = 16


def _detector(compat: str = "fixed", depth_count: int = 32) -> StreamPETR:
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
