"""DETR3D's decoder, heads, matching, losses, gradients and decoding against the published implementation.

Golden item detr3d_decoder; tolerances from its README. Every file of the folder is checked.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bev.geometry.projection import in_image, project
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import CameraCrossAttention, DetrDecoderLayer
from bev.models.coders import NMSFreeCoder, SigmoidRefinement
from bev.models.heads import Detr3DHead, Detr3DTransformer
from bev.models.losses import FocalLoss, L1Loss
from bev.ops.camera_sampling import camera_sampling
from bev.structures import Boxes3D, CameraRig
from bev.structures.conventions import CAMERAS_DETR3D, boxes_from_array, boxes_to_array
from tests.parity.golden import Golden, assert_gradients, load_weights
from tests.paths import golden_cases

CASES = pytest.mark.parametrize("path", golden_cases("detr3d_decoder"), ids=lambda p: p.stem)
METRES, FEATURES, GRADIENTS = {"atol": 2e-3, "rtol": 1e-5}, {"atol": 1e-3, "rtol": 1e-4}, {"atol": 5e-4, "rtol": 1e-4}


def _cross_attention(config: dict, num_cameras: int) -> CameraCrossAttention:
    return CameraCrossAttention(
        config["embed_dims"], num_cameras, config["num_levels"], config["pc_range"], config["num_points"], dropout=0.0
    )


def _head(config: dict) -> Detr3DHead:
    """The published configuration, in this library's terms."""
    transformer, coder, cost = config["transformer"], config["bbox_coder"], config["train_cfg"]["assigner"]
    layer, loss_cls = transformer["decoder"]["transformerlayers"], config["loss_cls"]
    attention, dim = layer["attn_cfgs"], config["in_channels"]
    layers = [
        DetrDecoderLayer(
            dim,
            attention[0]["num_heads"],
            layer["feedforward_channels"],
            _cross_attention(attention[1], transformer["num_cams"]),
            dropout=0.0,
        )
        for _ in range(transformer["decoder"]["num_layers"])
    ]
    return Detr3DHead(
        Detr3DTransformer(dim, layers, SigmoidRefinement(coder["pc_range"])),
        config["num_query"],
        dim,
        config["num_classes"],
        HungarianAssigner3D(cost["cls_cost"]["weight"], cost["reg_cost"]["weight"]),
        NMSFreeCoder(coder["max_num"], coder["post_center_range"], legacy_box_code=True),
        FocalLoss(loss_cls["gamma"], loss_cls["alpha"], loss_cls["loss_weight"]),
        L1Loss(config["loss_bbox"]["loss_weight"]),
    )


def _rig(golden: Golden) -> CameraRig:
    """The file's projection matrices as a rig: they already hold the intrinsics."""
    matrices = golden["in.lidar2img"]
    batch, cameras = matrices.shape[:2]
    eye = torch.eye(3, dtype=torch.float64).expand(batch, cameras, 3, 3)
    height, width = golden["in.img_shape"].tolist()
    time = torch.zeros(batch, cameras, dtype=torch.long)
    return CameraRig(eye, matrices, eye, (height, width), CAMERAS_DETR3D[:cameras], time)


def _ground_truth(golden: Golden) -> list[Boxes3D]:
    gt = golden.group("in.gt")
    count = len({key.split(".")[0] for key in gt})
    return [boxes_from_array(gt[f"{b}.boxes_gravity"], gt[f"{b}.labels"], "mmdet3d_v0", "center") for b in range(count)]


@pytest.fixture
def loaded(path: Path) -> tuple[Golden, Detr3DHead, CameraRig]:
    golden = Golden(path)
    head = _head(golden.config["head"])
    load_weights(head, golden.group("weights"))
    return golden, head, _rig(golden)


@CASES
def test_sampling_and_first_cross_attention(loaded: tuple[Golden, Detr3DHead, CameraRig]) -> None:
    golden, head, rig = loaded
    features, attention = golden.sequence("in.mlvl_feats"), head.transformer.decoder.layers[0].attentions[1]
    reference = golden["out.init_reference"]
    pixels, depth = project(attention.range.to_metric(reference), rig.img_from_ref)
    visible = in_image(pixels, depth, rig.image_size_px)
    assert torch.equal(visible.transpose(1, 2)[:, None, :, :, None, None], golden["out.sampling.mask"])
    if "out.sampling.feats_masked" in golden:
        for camera, level in ((n, k) for n in range(rig.num_cameras) for k in range(len(features))):
            one = torch.zeros(*reference.shape[:2], rig.num_cameras, 1, len(features))
            one[:, :, camera, 0, level] = 1
            sampled = camera_sampling(features, pixels[..., None, :], visible[..., None], one, rig.image_size_px)
            expected = golden["out.sampling.feats_masked"][:, :, :, camera, 0, level].transpose(1, 2)
            torch.testing.assert_close(sampled, expected, **FEATURES)
    query_pos, query = head.query_embedding.weight.expand(len(reference), -1, -1).chunk(2, -1)
    result = attention(query, query_pos, reference, features, rig)
    torch.testing.assert_close(result.transpose(0, 1), golden["out.cross_atten0"], **FEATURES)


@CASES
def test_outputs_of_every_layer(loaded: tuple[Golden, Detr3DHead, CameraRig]) -> None:
    golden, head, rig = loaded
    features = golden.sequence("in.mlvl_feats")
    with torch.no_grad():
        decoded = head.transformer(features, head.query_embedding.weight, rig, head.reg_branches)
        outputs = head.eval()(features, rig)
    torch.testing.assert_close(decoded.references[0], golden["out.init_reference"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoded.references[1:], golden["out.inter_references"], atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(decoded.queries.transpose(1, 2), golden["out.hs"], **FEATURES)
    torch.testing.assert_close(outputs["cls_logits"], golden["out.all_cls_scores"], **FEATURES)
    torch.testing.assert_close(outputs["box_code"], golden["out.all_bbox_preds"], **METRES)


@CASES
def test_matching(loaded: tuple[Golden, Detr3DHead, CameraRig]) -> None:
    golden, head, rig = loaded
    boxes, outputs = _ground_truth(golden), head(golden.sequence("in.mlvl_feats"), rig)
    for layer in range(len(outputs["cls_logits"])):
        for sample, truth in enumerate(boxes):
            logits, code = outputs["cls_logits"][layer, sample], outputs["box_code"][layer, sample]
            query, box = head.assigner.assign(logits, code, truth.label, head.coder.encode(truth))
            indices = torch.zeros(len(code), dtype=torch.long)
            indices[query] = box + 1
            expected = golden.group(f"out.assign.l{layer}.b{sample}")
            assert torch.equal(indices, expected["gt_inds"])
            assert torch.equal(truth.label[box], expected["labels"][query])


@CASES
def test_losses_and_all_gradients(loaded: tuple[Golden, Detr3DHead, CameraRig]) -> None:
    golden, head, rig = loaded
    features = [x.requires_grad_() for x in golden.sequence("in.mlvl_feats")]
    boxes = _ground_truth(golden)
    losses = head.train().loss(head(features, rig), boxes, head.count_targets(boxes))
    expected = golden.group("out.loss")
    total = sum(losses.values())
    torch.testing.assert_close(total, expected.pop("total").squeeze(), atol=1e-4, rtol=1e-4)
    assert set(losses) == set(expected)
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name].squeeze(), atol=1e-4, rtol=1e-4)
    total.backward()
    gradients = golden.group("grad")
    for level, feature in enumerate(features):
        torch.testing.assert_close(feature.grad, gradients.pop(f"in.mlvl_feats.{level}"), **GRADIENTS)
    assert_gradients(head, gradients, **GRADIENTS)


@CASES
def test_decoding(loaded: tuple[Golden, Detr3DHead, CameraRig]) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        decoded = head.eval().decode(head(golden.sequence("in.mlvl_feats"), rig))
    for sample, boxes in enumerate(decoded):
        expected = golden.group(f"out.decode.{sample}")
        assert torch.equal(boxes.label, expected["labels"])
        torch.testing.assert_close(boxes.score, expected["scores"], atol=2e-4, rtol=1e-4)
        _assert_arrays(boxes_to_array(boxes, "mmdet3d_v0", "center"), expected["bboxes"])
        bottom = golden[f"out.get_bboxes.{sample}.bboxes_bottom"]
        _assert_arrays(boxes_to_array(boxes, "mmdet3d_v0", "bottom"), bottom)


def _assert_arrays(array: Tensor, expected: Tensor) -> None:
    """(M, 9) boxes; sizes are exponentials of the code, yaw is compared on the circle."""
    turn = array[:, 6] - expected[:, 6]
    torch.testing.assert_close(
        torch.stack([turn.cos(), turn.sin()]), torch.tensor([[1.0], [0.0]]).expand(2, len(turn)), **METRES
    )
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    torch.testing.assert_close(array[:, others], expected[:, others], atol=2e-3, rtol=1e-3)
