"""PETR's head, losses, gradients and decoding against the published implementation.

Golden item petr_head; tolerances from its README. Every file of the folder is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bev.models.attention import GlobalDecoderLayer, GlobalTransformer
from bev.structures import Boxes3D, CameraRig
from bev.structures.conventions import boxes_from_array
from projects.petr import PETRHead
from tests.parity.golden import Golden, load_weights
from tests.parity.query_heads import assert_boxes, assert_losses, head_parts, rig_from
from tests.paths import golden_cases

CASES = pytest.mark.parametrize("path", golden_cases("petr_head"), ids=lambda p: p.stem)
FEATURES, METRES = {"atol": 5e-5, "rtol": 1e-4}, {"atol": 5e-4, "rtol": 1e-5}
# Shares of each gradient's largest entry, over 5e-5: a constant added to all keys has no effect, so that the positions'
# biases have no gradient but rounding. Self-attention begins with content that is zero: the gradients of its query and
# key weights are mostly rounding (the published code in float64 and float32 differs by 3 % there, else by .23 %).
GRADIENT, SELF_ATTENTION_GRADIENT = 4e-3, 5e-2
# The first layer's are nothing but rounding: one and two threads differ by five times the published gradient. It grows
# with what is summed up there, which the gradient of the same projection's bias has the size of.
ROUNDING_ALONE, ROUNDING = "layers.0.attentions.0.attn.in_proj_weight", 1e-4


def _transformer(config: dict[str, Any]) -> GlobalTransformer:
    decoder = config["decoder"]
    layer = decoder["transformerlayers"]
    own = layer["attn_cfgs"][0]
    dim, heads, hidden = own["embed_dims"], own["num_heads"], layer["feedforward_channels"]
    return GlobalTransformer(dim, [GlobalDecoderLayer(dim, heads, hidden, 0.0) for _ in range(decoder["num_layers"])])


def _head(config: dict[str, Any]) -> PETRHead:
    """The published configuration, in this library's terms."""
    transformer = _transformer(config["transformer"])
    return PETRHead(
        transformer,
        config["in_channels"],
        embed_dim=transformer.decoder.post_norm.normalized_shape[0],
        range_m=config["bbox_coder"]["pc_range"],
        position_range_m=config["position_range"],
        depth_count=config["depth_num"],
        increasing=config["LID"],
        across_cameras=config["with_multiview"],
        **head_parts(config),
    )


@pytest.fixture
def loaded(path: Path) -> tuple[Golden, PETRHead, CameraRig]:
    golden = Golden(path)
    head = _head(golden.config["head"])
    load_weights(head, golden.group("weights"))
    return golden, head.eval(), rig_from(golden["in.lidar2img"], golden["in.pad_shape"])


def _truth(golden: Golden) -> list[Boxes3D]:
    gt, count = golden.group("in.gt"), len(golden["in.feat"])
    return [boxes_from_array(gt[f"{b}.boxes_gravity"], gt[f"{b}.labels"], "mmdet3d_v0", "center") for b in range(count)]


def _outputs(golden: Golden, head: PETRHead, rig: CameraRig) -> dict[str, torch.Tensor]:
    return head([golden["in.feat"]], rig, tuple(golden["in.img_shape"].tolist()))


@CASES
def test_positions_along_the_rays(loaded: tuple[Golden, PETRHead, CameraRig]) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        embedding, beyond = head.encode_rays(rig, golden["in.feat"].shape[-2:])
    torch.testing.assert_close(embedding[:, 0], golden["out.coords_position_embeding_cam0"], **FEATURES)
    assert torch.equal(beyond[:, 0], golden["out.coords_mask_cam0"])


@CASES
def test_outputs_of_every_layer(loaded: tuple[Golden, PETRHead, CameraRig]) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        outputs = _outputs(golden, head, rig)
    torch.testing.assert_close(outputs["cls_logits"], golden["out.all_cls_scores"], **FEATURES)
    torch.testing.assert_close(outputs["box_code"], golden["out.all_bbox_preds"], **METRES)


@CASES
def test_losses_and_gradients(loaded: tuple[Golden, PETRHead, CameraRig]) -> None:
    golden, head, rig = loaded
    golden["in.feat"].requires_grad_()
    boxes, outputs = _truth(golden), _outputs(golden, head.train(), rig)
    assert_losses(head.loss(outputs, boxes, head.count_targets(boxes)), golden.group("out.loss")).backward()
    leaves = {"in.feat": golden["in.feat"], **dict(head.named_parameters())}
    published = golden.group("grad")
    for name, expected in published.items():
        if name.endswith(ROUNDING_ALONE):
            floor = ROUNDING * published[name.replace("weight", "bias")].abs().max()
            assert expected.abs().max() < floor, f"gradient of {name} is more than rounding"
            assert leaves[name].grad.abs().max() < floor, f"gradient of {name} should be rounding alone"
            continue
        share = SELF_ATTENTION_GRADIENT if "attentions.0.attn.in_proj" in name else GRADIENT
        error = (leaves[name].grad - expected).abs().max()
        assert error <= share * expected.abs().max() + 5e-5, f"gradient of {name} is off by {error}"


@CASES
def test_decoding(loaded: tuple[Golden, PETRHead, CameraRig]) -> None:
    golden, head, rig = loaded
    with torch.no_grad():
        decoded = head.decode(_outputs(golden, head, rig))
    for sample, boxes in enumerate(decoded):
        assert_boxes(boxes, golden.group(f"out.decode.{sample}"))
