"""BEVFormer's encoder, transformer, decoder, head, losses, gradients and decoding against the published implementation.

Golden item bevformer_encoder; tolerances from its README. Every tensor of every file of the folder is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bev.models.attention import BEVCrossAttention, DetrDecoderLayer, SpatialCrossAttention, TemporalSelfAttention
from bev.models.coders import SigmoidRefinement
from bev.models.heads import BEVFormerEncoder, BEVFormerHead, BEVFormerLayer, PerceptionTransformer
from bev.structures import Boxes3D, CameraRig
from bev.structures.conventions import boxes_from_array
from tests.parity.golden import Golden, assert_gradients, load_weights
from tests.parity.query_heads import assert_boxes, assert_losses, assert_matching, head_parts, rig_from
from tests.paths import golden_cases

CASES = pytest.mark.parametrize("path", golden_cases("bevformer_encoder"), ids=lambda p: p.stem)
FEATURES, METRES = {"atol": 3e-5, "rtol": 1e-5}, {"atol": 1e-4, "rtol": 1e-5}
# Float64 and float32 of the published code differ by up to 6.5e-4 in the gradients of the sampling offsets.
GRADIENTS = {"atol": 1e-3, "rtol": 1e-3}


def _encoder(config: dict[str, Any], shape: tuple[int, int]) -> BEVFormerEncoder:
    layer = config["transformerlayers"]
    temporal, spatial = layer["attn_cfgs"]
    cameras = spatial["deformable_attention"]
    dim = temporal["embed_dims"]
    layers = [
        BEVFormerLayer(
            dim,
            layer["feedforward_channels"],
            TemporalSelfAttention(dim, temporal["num_heads"], temporal["num_points"], 0.0, "official"),
            SpatialCrossAttention(
                dim, cameras["num_levels"], cameras["num_heads"], cameras["num_points"], 0.0, "official"
            ),
            dropout=0.0,
        )
        for _ in range(config["num_layers"])
    ]
    return BEVFormerEncoder(layers, shape, config["pc_range"], config["num_points_in_pillar"])


def _head(config: dict[str, Any]) -> BEVFormerHead:
    """The published configuration, in this library's terms."""
    transformer, dim = config["transformer"], config["in_channels"]
    decoder = transformer["decoder"]
    own, cross = decoder["transformerlayers"]["attn_cfgs"]
    layers = [
        DetrDecoderLayer(
            dim,
            own["num_heads"],
            decoder["transformerlayers"]["feedforward_channels"],
            BEVCrossAttention(dim, cross["num_heads"], cross.get("num_points", 4), 0.0),
            dropout=0.0,
        )
        for _ in range(decoder["num_layers"])
    ]
    parts = PerceptionTransformer(
        dim,
        _encoder(transformer["encoder"], (config["bev_h"], config["bev_w"])),
        layers,
        SigmoidRefinement(config["bbox_coder"]["pc_range"]),
        num_feature_levels=transformer["num_feature_levels"],
        rotate_center=transformer["rotate_center"],
        compat="official",
    )
    return BEVFormerHead(parts, embed_dim=dim, compat="official", **head_parts(config))


@pytest.fixture
def loaded(path: Path) -> tuple[Golden, BEVFormerHead, CameraRig]:
    golden = Golden(path)
    head = _head(golden.config["head"])
    load_weights(head, golden.group("weights"))
    return golden, head.eval(), rig_from(golden["in.lidar2img"][None], golden["in.img_shape"])


def _state(golden: Golden, frame: int) -> dict[str, Tensor]:
    state = {"can_bus": golden["in.can_bus"][frame : frame + 1], "continues": torch.tensor([frame > 0])}
    return {**state, "bev": golden["in.frame1.prev_bev"]} if frame else state


def _truth(golden: Golden) -> list[Boxes3D]:
    return [boxes_from_array(golden["in.gt.boxes_gravity"], golden["in.gt.labels"], "mmdet3d_v0", "center")]


@CASES
def test_geometry(loaded: tuple[Golden, BEVFormerHead, CameraRig]) -> None:
    golden, head, rig = loaded
    encoder = head.transformer.encoder
    shares = head.transformer.refinement.from_metric(encoder.pillars_m)
    torch.testing.assert_close(shares.transpose(0, 1)[None], golden["out.ref_3d"], atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.cells[None, :, None], golden["out.ref_2d"], atol=1e-7, rtol=0)
    pillars = encoder.project(rig)
    assert torch.equal(pillars.visible.transpose(0, 1), golden["out.bev_mask"])
    masked = (pillars.points * pillars.visible.unsqueeze(-1)).transpose(0, 1)
    torch.testing.assert_close(masked, golden["out.reference_points_cam_masked"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.positional_encoding()[:, None], golden["out.bev_pos"])


@CASES
@pytest.mark.parametrize("frame", [0, 1])
def test_what_the_encoder_starts_from(loaded: tuple[Golden, BEVFormerHead, CameraRig], frame: int) -> None:
    golden, head, _ = loaded
    state = _state(golden, frame)
    inputs = head.transformer.prepare(head.bev_embedding.weight, state["can_bus"], state.get("bev"))
    torch.testing.assert_close(inputs.query.transpose(0, 1), golden[f"out.frame{frame}.bev_query_in"], **FEATURES)
    if frame:
        assert torch.equal(inputs.previous.transpose(0, 1), golden["out.frame1.prev_bev_rotated"])
        torch.testing.assert_close(inputs.shift, golden["out.frame1.shift"], atol=1e-7, rtol=1e-5)


@CASES
@pytest.mark.parametrize("frame", [0, 1])
def test_map_and_outputs_of_every_layer(loaded: tuple[Golden, BEVFormerHead, CameraRig], frame: int) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        outputs = head(golden.sequence(f"in.frame{frame}.mlvl_feats"), rig, _state(golden, frame))
    bev, expected = outputs["state"]["bev"], golden.group(f"out.frame{frame}")
    torch.testing.assert_close(bev.transpose(0, 1), expected["bev_embed"], **FEATURES)
    if "bev_only" in expected:
        torch.testing.assert_close(bev, expected["bev_only"], **FEATURES)
    torch.testing.assert_close(outputs["cls_logits"], expected["all_cls_scores"], **FEATURES)
    torch.testing.assert_close(outputs["box_code"], expected["all_bbox_preds"], **METRES)


@CASES
def test_matching_losses_and_all_gradients(loaded: tuple[Golden, BEVFormerHead, CameraRig]) -> None:
    golden, head, rig = loaded
    features = [x.requires_grad_() for x in golden.sequence("in.frame1.mlvl_feats")]
    boxes, outputs = _truth(golden), head.train()(features, rig, _state(golden, 1))
    assert_matching(head, outputs, boxes, golden)
    assert_losses(head.loss(outputs, boxes, head.count_targets(boxes)), golden.group("out.loss")).backward()
    gradients = golden.group("grad")
    for level, feature in enumerate(features):
        torch.testing.assert_close(feature.grad, gradients.pop(f"in.frame1.mlvl_feats.{level}"), **GRADIENTS)
    assert_gradients(head, gradients, **GRADIENTS)


@CASES
def test_decoding(loaded: tuple[Golden, BEVFormerHead, CameraRig]) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        (boxes,) = head.decode(head(golden.sequence("in.frame1.mlvl_feats"), rig, _state(golden, 1)))
    assert_boxes(boxes, golden.group("out.frame1.decode"))


@CASES
def test_a_stream_is_its_frames(loaded: tuple[Golden, BEVFormerHead, CameraRig]) -> None:
    """Frame 0's state, handed on as it is, gives frame 1."""
    golden, head, rig = loaded
    with torch.no_grad():
        first = head(golden.sequence("in.frame0.mlvl_feats"), rig, _state(golden, 0))
        state = {**_state(golden, 1), **first["state"]}
        second = head(golden.sequence("in.frame1.mlvl_feats"), rig, state)
    torch.testing.assert_close(second["state"]["bev"].transpose(0, 1), golden["out.frame1.bev_embed"], **FEATURES)
