"""The shipped BEVFormer configurations: published names, shapes and counts; the synthetic one learns a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bev.data.draw import Draw
from bev.engine.config import load_config
from bev.models.detectors import BEVFormer, FrameStream, TemporalDetector
from bev.registry import DATASETS, MODELS, TRANSFORMS
from bev.structures import collate
from tests.paths import REPO_ROOT

FOLDER = REPO_ROOT / "configs" / "bevformer"
# cells, encoder layers, feature levels, millions of parameters, network image, earlier frames
PUBLISHED = {
    "tiny": ((50, 50), 3, 1, 33.52, (480, 800), 2),
    "small": ((150, 150), 3, 1, 59.46, (736, 1280), 2),
    "base": ((200, 200), 6, 4, 69.03, (928, 1600), 3),
}


def _build(size: str) -> BEVFormer:
    with torch.device("meta"):
        return MODELS.build(load_config(FOLDER / f"bevformer_{size}_nusc.py").model)


def _head_shapes(shape: tuple[int, int], layers: int, levels: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the published head, from the reference's list of keys."""
    dim, ffn = 256, 512
    shapes = {
        "code_weights": (10,),
        "bev_embedding.weight": (shape[0] * shape[1], dim),
        "query_embedding.weight": (900, 2 * dim),
        "positional_encoding.row_embed.weight": (shape[0], dim // 2),
        "positional_encoding.col_embed.weight": (shape[1], dim // 2),
        "transformer.level_embeds": (4, dim),
        "transformer.cams_embeds": (6, dim),
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (dim,), f"{name}.bias": (dim,)})

    linear("transformer.reference_points", dim, 3)
    linear("transformer.can_bus_mlp.0", 18, 128)
    linear("transformer.can_bus_mlp.2", 128, dim)
    norm("transformer.can_bus_mlp.norm")
    for stack, count in (("encoder", layers), ("decoder", 6)):
        for index in range(count):
            layer = f"transformer.{stack}.layers.{index}"
            if stack == "encoder":
                own, cross = f"{layer}.attentions.0", f"{layer}.attentions.1"
                linear(f"{own}.sampling_offsets", 2 * dim, 128)
                linear(f"{own}.attention_weights", 2 * dim, 64)
                linear(f"{own}.value_proj", dim, dim)
                linear(f"{own}.output_proj", dim, dim)
                linear(f"{cross}.deformable_attention.sampling_offsets", dim, 128 * levels)
                linear(f"{cross}.deformable_attention.attention_weights", dim, 64 * levels)
                linear(f"{cross}.deformable_attention.value_proj", dim, dim)
                linear(f"{cross}.output_proj", dim, dim)
            else:
                own, cross = f"{layer}.attentions.0.attn", f"{layer}.attentions.1"
                shapes.update({f"{own}.in_proj_weight": (3 * dim, dim), f"{own}.in_proj_bias": (3 * dim,)})
                linear(f"{own}.out_proj", dim, dim)
                linear(f"{cross}.sampling_offsets", dim, 64)
                linear(f"{cross}.attention_weights", dim, 32)
                linear(f"{cross}.value_proj", dim, dim)
                linear(f"{cross}.output_proj", dim, dim)
            linear(f"{layer}.ffns.0.layers.0.0", dim, ffn)
            linear(f"{layer}.ffns.0.layers.1", ffn, dim)
            for index_norm in range(3):
                norm(f"{layer}.norms.{index_norm}")
    for index in range(6):
        for position in (0, 3):
            linear(f"cls_branches.{index}.{position}", dim, dim)
        for position in (1, 4):
            norm(f"cls_branches.{index}.{position}")
        linear(f"cls_branches.{index}.6", dim, 10)
        for position in (0, 2):
            linear(f"reg_branches.{index}.{position}", dim, dim)
        linear(f"reg_branches.{index}.4", dim, 10)
    return {f"pts_bbox_head.{name}": value for name, value in shapes.items()}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_names_shapes_and_counts(size: str) -> None:
    shape, layers, levels, millions, _, _ = PUBLISHED[size]
    model = _build(size)
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    head = {name: value for name, value in state.items() if name.startswith("pts_bbox_head.")}
    assert head == _head_shapes(shape, layers, levels)
    assert state["img_neck.lateral_convs.0.conv.weight"][1] == (512 if size == "base" else 2048)
    assert len([name for name in state if "fpn_convs" in name]) == 2 * levels
    assert ("img_backbone.layer3.0.conv2.conv_offset.weight" in state) == (size != "tiny")
    assert round(sum(value.numel() for value in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_data(size: str) -> None:
    *_, image_px, earlier = PUBLISHED[size]
    config = load_config(FOLDER / f"bevformer_{size}_nusc.py")
    dataset = config.train_dataloader.dataset
    assert (dataset.history, dataset.history_pool) == (earlier, earlier + 1)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.sampler.type == "SceneEvalSampler" and "history" not in loader.dataset
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        image, homography = TRANSFORMS.build(loader.dataset.image)(np.full((900, 1600, 3), 7, np.uint8))
        assert image.shape == (*image_px, 3)
        factor = image_px[1] / 1600
        rows = round(900 * factor)
        assert np.allclose(homography, np.diag([factor, factor, 1])) and (image[:rows] == 7).all()
        assert (image[rows:] == (124, 116, 104)).all()


SMALL = (
    "configs/bevformer/bevformer_tiny_synthetic.py",
    "projects/petr/configs/petr_tiny_synthetic.py",
    "projects/streampetr/configs/streampetr_tiny_synthetic.py",
)


@pytest.mark.parametrize("path", SMALL, ids=lambda p: Path(p).stem)
def test_synthetic_configurations_learn(path: str, synthetic_root: Path) -> None:
    """Four steps on two frames and the one after each, as a stream: everything trains and the loss falls."""
    torch.manual_seed(0)
    config = load_config(REPO_ROOT / path)
    node = {**config.train_dataloader.dataset.to_dict(), "root": str(synthetic_root), "cache": "none"}
    node["image"] = {"type": "ImageTransform", "size": (64, 176)}
    dataset = DATASETS.build(node)
    rows = [[dataset[Draw(i + step, (0,), starts=step == 0)] for i in (2, 8)] for step in (0, 1)]
    batches = [collate(row) for row in rows]
    model = MODELS.build(config.model).train()
    stream = FrameStream(model) if isinstance(model, TemporalDetector) else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(4):
        loss = torch.stack([sum(stream.loss(batch).values()) for batch in batches]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        history.append(float(loss.detach()))
    assert np.isfinite(history).all() and history[-1] < 0.9 * history[0], history
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    # One level uses one of the level embeddings' rows; every parameter is reached.
    assert not silent, silent
    assert len(model.eval().predict(batches[0])) == 2
    if stream is not model:
        assert stream.continued == 8
