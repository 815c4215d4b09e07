"""DETR3D's VoVNet configuration: published names."""

import torch

from bev.engine.config import load_config
from bev.registry import MODELS
from tests.paths import REPO_ROOT


def test_published_names_and_levels() -> None:
    with torch.device("meta"):
        model = MODELS.build(load_config(REPO_ROOT / "configs" / "detr3d" / "detr3d_vovnet_nusc.py").model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["img_backbone.stem.stem_1/conv.weight"] == (64, 3, 3, 3)
    assert shapes["img_neck.lateral_convs.0.conv.weight"] == (256, 256, 1, 1)
    assert shapes["img_neck.fpn_convs.3.conv.weight"] == (256, 256, 3, 3)
    attention = "pts_bbox_head.transformer.decoder.layers.0.attentions.1.attention_weights.weight"
    assert shapes[attention] == (24, 256) and "img_neck.fpn_convs.4.conv.weight" not in shapes
    assert model.grid_mask is not None and model.grid_mask.probability == 0.7
