"""DETR3D: three doors, batches, rigs of other sizes, autocast, export, published names and checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bev.engine.config import load_config
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import CameraCrossAttention, DetrDecoderLayer
from bev.models.backbones import ResNet
from bev.models.coders import NMSFreeCoder, SigmoidRefinement
from bev.models.detectors import Detr3D
from bev.models.heads import Detr3DHead, Detr3DTransformer
from bev.models.losses import FocalLoss, L1Loss
from bev.models.necks import FPN
from bev.models.preprocess import ImageNormalizer
from bev.registry import MODELS, TRANSFORMS
from bev.structures import Batch, Boxes3D
from tests.models.rigs import random_batch
from tests.paths import REPO_ROOT

RANGE_M = (-20.0, -20.0, -3.0, 20.0, 20.0, 3.0)
PUBLISHED = REPO_ROOT / "configs" / "detr3d" / "detr3d_r101_dcn_nusc.py"


def _detector(cameras: int = 6, layers: int = 2, dim: int = 16, queries: int = 30) -> Detr3D:
    torch.manual_seed(0)
    decoder = [
        DetrDecoderLayer(dim, 2, 32, CameraCrossAttention(dim, cameras, 2, RANGE_M, dropout=0.0), dropout=0.0)
        for _ in range(layers)
    ]
    head = Detr3DHead(
        Detr3DTransformer(dim, decoder, SigmoidRefinement(RANGE_M)),
        queries,
        dim,
        10,
        HungarianAssigner3D(),
        NMSFreeCoder(max_boxes=20),
        FocalLoss(loss_weight=2.0),
        L1Loss(0.25),
    )
    backbone = ResNet(18, base_channels=8, out_indices=(1, 2), num_stages=3, norm_eval=True)
    return Detr3D(ImageNormalizer(), backbone, FPN(backbone.out_channels, dim, 2), head)


@pytest.mark.parametrize("cameras", [1, 6, 7])
def test_three_doors_and_gradients_reach_every_parameter(cameras: int) -> None:
    detector, batch = _detector(cameras), random_batch(cameras=cameras)
    losses = detector.train().loss(batch)
    assert set(losses) == {"loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox"}
    sum(losses.values()).backward()
    silent = [n for n, p in detector.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent
    outputs = detector.eval()(batch.images, batch.rig)
    assert outputs["cls_logits"].shape == (2, 2, 30, 10) and outputs["box_code"].shape == (2, 2, 30, 10)
    for boxes in detector.predict(batch):
        assert len(boxes) <= 20 and bool((boxes.score.diff() <= 0).all()) and boxes.frame == "lidar"


def test_features_arrive_channels_last() -> None:
    """The sampling is fast on this layout only."""
    for level in _detector().extract_features(random_batch().images):
        assert level.permute(0, 1, 3, 4, 2).is_contiguous()


def test_a_batch_is_its_samples() -> None:
    detector, batch = _detector().eval(), random_batch(batch=3)
    together = detector(batch.images, batch.rig)
    for i in range(3):
        alone = detector(batch.images[i : i + 1], _sample_rig(batch, i))
        torch.testing.assert_close(alone["box_code"][:, 0], together["box_code"][:, i], atol=1e-4, rtol=1e-4)


def _sample_rig(batch: Batch, index: int):
    rig, one = batch.rig, slice(index, index + 1)
    return replace(
        rig,
        intrinsics=rig.intrinsics[one],
        cam_from_ref=rig.cam_from_ref[one],
        image_aug=rig.image_aug[one],
        timestamp_us=rig.timestamp_us[one],
    )


def test_gradients_with_shared_counts_are_those_of_the_large_batch() -> None:
    """Two micro-batches divided by their mean count, averaged: the accumulation that Detector promises."""
    detector, batch = _detector().train(), random_batch(batch=2)
    batch = replace(batch, boxes=[batch.boxes[0], batch.boxes[1][:2]])
    sum(detector.loss(batch).values()).backward()
    expected = {n: p.grad.clone() for n, p in detector.named_parameters() if p.grad is not None}
    detector.zero_grad()
    parts = [
        replace(batch, images=batch.images[i : i + 1], rig=_sample_rig(batch, i), boxes=[batch.boxes[i]], tokens=["t"])
        for i in range(2)
    ]
    counts = torch.stack([detector.target_counts(part)["boxes"] for part in parts]).mean()
    for part in parts:
        (sum(detector.loss(part, {"boxes": counts}).values()) / 2).backward()
    for name, parameter in detector.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-3)


def test_no_ground_truth_in_a_frame() -> None:
    batch = random_batch()
    for boxes in ([Boxes3D.empty("lidar"), batch.boxes[1]], [Boxes3D.empty("lidar")] * 2):
        losses = _detector().train().loss(replace(batch, boxes=boxes))
        assert all(bool(torch.isfinite(value)) for value in losses.values())
    assert float(losses["loss_bbox"].detach()) == 0


def test_more_boxes_than_queries() -> None:
    detector, batch = _detector(queries=3), random_batch(boxes=9)
    assert float(detector.target_counts(batch)["boxes"]) == 6
    assert bool(torch.isfinite(sum(detector.loss(batch).values())))


def test_unknown_velocity_counts_nothing_and_the_rest_of_its_box_does() -> None:
    detector, batch = _detector(), random_batch(boxes=1)  # the only box of each frame has a NaN velocity
    losses = detector.train().loss(batch)
    sum(losses.values()).backward()
    weight = detector.pts_bbox_head.reg_branches[1][4].weight
    assert not weight.grad[8:].any() and all(row.any() for row in weight.grad[:8])


def test_errors_name_what_is_wrong() -> None:
    detector, batch = _detector(), random_batch()
    with pytest.raises(ValueError, match="token0.*no ground truth"):
        detector.loss(replace(batch, boxes=None))
    with pytest.raises(ValueError, match="lidar frame, ground truth is in ego"):
        detector.loss(replace(batch, boxes=[replace(b, frame="ego") for b in batch.boxes]))
    with pytest.raises(ValueError, match=r"learned for 6 cameras and 2 levels, got 5 \(CAM_0"):
        detector(batch.images[:, :5], batch.rig.select(range(5)))


def test_a_prediction_that_is_not_finite_shows_in_the_loss() -> None:
    detector = _detector()
    torch.nn.init.constant_(detector.pts_bbox_head.reg_branches[1][4].bias, torch.nan)
    losses = detector.loss(random_batch())
    assert bool(torch.isnan(losses["loss_bbox"])) and bool(torch.isfinite(losses["d0.loss_bbox"]))


def test_autocast_keeps_boxes_and_geometry_in_float32() -> None:
    detector, batch = _detector().eval(), random_batch()
    expected = detector(batch.images, batch.rig)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = detector(batch.images, batch.rig)
        sum(detector.train().loss(batch).values()).backward()
    assert all(value.dtype == torch.float32 for value in outputs.values())
    assert (outputs["box_code"] - expected["box_code"])[..., :2].abs().median() < 0.2
    assert all(p.grad.dtype == torch.float32 for p in detector.parameters() if p.grad is not None)


class _Exported(torch.nn.Module):
    """The forward door with the rig's tensors as inputs, which is what a graph can have."""

    def __init__(self, detector: Detr3D, batch: Batch) -> None:
        super().__init__()
        self.detector, self.rig = detector, batch.rig

    def forward(self, images: torch.Tensor, intrinsics: torch.Tensor, cam_from_ref: torch.Tensor) -> torch.Tensor:
        rig = replace(self.rig, intrinsics=intrinsics, cam_from_ref=cam_from_ref)
        return self.detector(images, rig)["box_code"]


def test_export() -> None:
    batch = random_batch(batch=1)
    model = _Exported(_detector().eval(), batch)
    inputs = (batch.images, batch.rig.intrinsics, batch.rig.cam_from_ref)
    program = torch.export.export(model, inputs)
    assert not any("grid_sampl" in str(node.target) or "bev." in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), model(*inputs), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def published() -> Detr3D:
    with torch.device("meta"):
        return MODELS.build(load_config(PUBLISHED).model)


def test_published_configuration_has_the_published_names_and_shapes(published: Detr3D) -> None:
    shapes = {name: tuple(value.shape) for name, value in published.state_dict().items()}
    expected = {
        "img_backbone.conv1.weight": (64, 3, 7, 7),
        "img_backbone.bn1.running_var": (64,),
        "img_backbone.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "img_backbone.layer1.0.downsample.1.num_batches_tracked": (),
        "img_backbone.layer2.3.conv2.weight": (128, 128, 3, 3),
        "img_backbone.layer3.22.conv2.conv_offset.weight": (27, 256, 3, 3),
        "img_backbone.layer4.2.conv2.conv_offset.bias": (27,),
        "img_backbone.layer4.2.bn3.weight": (2048,),
        "img_neck.lateral_convs.0.conv.weight": (256, 512, 1, 1),
        "img_neck.lateral_convs.2.conv.bias": (256,),
        "img_neck.fpn_convs.3.conv.weight": (256, 256, 3, 3),
        "pts_bbox_head.code_weights": (10,),
        "pts_bbox_head.query_embedding.weight": (900, 512),
        "pts_bbox_head.cls_branches.5.6.weight": (10, 256),
        "pts_bbox_head.cls_branches.0.4.bias": (256,),
        "pts_bbox_head.reg_branches.5.4.weight": (10, 256),
        "pts_bbox_head.transformer.reference_points.weight": (3, 256),
    }
    layer = "pts_bbox_head.transformer.decoder.layers.5"
    expected |= {
        f"{layer}.attentions.0.attn.in_proj_weight": (768, 256),
        f"{layer}.attentions.0.attn.out_proj.bias": (256,),
        f"{layer}.attentions.1.attention_weights.weight": (24, 256),
        f"{layer}.attentions.1.output_proj.weight": (256, 256),
        f"{layer}.attentions.1.position_encoder.0.weight": (256, 3),
        f"{layer}.attentions.1.position_encoder.4.weight": (256,),
        f"{layer}.ffns.0.layers.0.0.weight": (512, 256),
        f"{layer}.ffns.0.layers.1.bias": (256,),
        f"{layer}.norms.2.weight": (256,),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def test_published_configuration_has_no_other_parameters(published: Detr3D) -> None:
    names = list(published.state_dict())
    head = [name for name in names if name.startswith("pts_bbox_head.")]
    # code weights, queries, reference points; 10 + 6 branch tensors and 4 + 12 + 4 + 6 decoder tensors a layer
    assert len(head) == 1 + 1 + 2 + 6 * (10 + 6) + 6 * (4 + 12 + 4 + 6)
    assert len([name for name in names if name.startswith("img_neck.")]) == 2 * (3 + 4)
    convolutions = 1 + 3 * (3 + 4 + 23 + 3) + 4  # stem, bottlenecks, shortcuts
    backbone = [name for name in names if name.startswith("img_backbone.")]
    assert len(backbone) == 6 * convolutions + 2 * (23 + 3)
    assert len(names) == len(head) + 2 * 7 + len(backbone)


def test_published_parts_that_do_not_train(published: Detr3D) -> None:
    frozen = [name for name, value in published.named_parameters() if not value.requires_grad]
    trained = [name for name, value in published.named_parameters() if value.requires_grad]
    assert "img_backbone.layer1.2.conv3.weight" in frozen and "img_backbone.layer2.0.conv1.weight" in trained
    assert all(name in frozen for name, _ in published.named_parameters() if ".bn" in name)


def test_published_configuration_reads_what_the_recipe_says() -> None:
    config = load_config(PUBLISHED)
    transform = TRANSFORMS.build(config.train_dataloader.dataset.image)
    image, homography = transform(np.full((900, 1600, 3), 7, np.uint8))
    assert image.shape == (928, 1600, 3) and np.array_equal(homography, np.eye(3))
    assert (image[:900] == 7).all() and (image[900:] == (124, 116, 104)).all()
    kinds = [TRANSFORMS.build(t).__class__.__name__ for t in config.train_dataloader.dataset.transforms]
    assert kinds == ["PhotoMetricDistortion", "RangeFilter"]
