"""One training step and one prediction of an official configuration on real data, through its own pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner

from projects.mmdet3d import official_config
from projects.mmdet3d.tests.real_data import kitti_root, nuscenes_root

# Small pictures where the pipeline allows it: a test must not take minutes.
CONFIGS = {
    "pointpillars": "mmdet3d::pointpillars/pointpillars_hv_secfpn_sbn-all_8xb4-2x_nus-3d.py",
    "centerpoint": "mmdet3d::centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
    "fcos3d": "mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py",
    "pgd": "mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_16xb2-1x_nus-mono3d.py",
    "smoke": "mmdet3d::smoke/smoke_dla34_dlaneck_gn-all_4xb8-6x_kitti-mono3d.py",
    "faster_rcnn": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py",
    "fcos": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_4xb4-1x_coco.py",
    "atss": "mmdet::atss/atss_r50_fpn_1x_coco.py",
    "yolox": "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py",
    "deformable_detr": "mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "rtmdet": "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "dino": "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
}


def shrink(node: Any, scale: tuple[int, int]) -> None:
    """Smaller pictures everywhere in a pipeline (in place)."""
    if isinstance(node, list):
        for item in node:
            shrink(item, scale)
    elif isinstance(node, dict):
        if node.get("type") in ("Resize", "mmdet.Resize", "RandomResize", "CachedMosaic", "Mosaic", "Pad", "MixUp"):
            node.update({key: scale for key in ("scale", "img_scale", "size") if node.get(key) is not None})
        if node.get("type") == "CachedMixUp":
            node["img_scale"] = scale
        if node.get("type") in ("RandomCrop",) and not node.get("crop_type"):
            node["crop_size"] = scale
        if "scales" in node:
            node["scales"] = [scale]
        for value in node.values():
            shrink(value, scale)


def prepare(name: str, data: Path, folder: Path) -> Config:
    """The configuration with the real data's folders and small pictures."""
    config = official_config(CONFIGS[name])
    if CONFIGS[name].startswith("mmdet::"):
        roots = {"data_root": str(data / "coco_val80"), "ann_file": "instances_val2017.json"}
        roots["data_prefix"] = {"img": "val2017"}
        scale = (320, 320)
    elif name == "smoke":
        roots, scale = {"data_root": str(kitti_root(data / "kitti_frame", folder / "kitti"))}, (1242, 375)
    else:
        roots, scale = {"data_root": str(nuscenes_root(data / "nuscenes_frame", folder / "nuscenes"))}, (800, 450)
    for split in ("train", "test"):
        dataset = config[f"{split}_dataloader"].dataset
        if dataset.type == "CBGSDataset":  # it needs an object of every class
            dataset = config[f"{split}_dataloader"].dataset = dataset.dataset
        shrink(dataset, scale)
        while "dataset" in dataset:
            dataset = dataset.dataset
        # It pastes objects of a database that is made from the whole data set.
        dataset.pipeline = [step for step in dataset.pipeline if step["type"] != "ObjectSample"]
        dataset.update(roots)
    config.model.pop("init_cfg", None)
    _no_downloads(config.model)
    return config


def _no_downloads(node: Any) -> None:
    if isinstance(node, dict):
        node.pop("init_cfg", None)
        for value in node.values():
            _no_downloads(value)


def step_and_predict(config: Config) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], Any]:
    """Loss terms of one training step, the parameters' largest changes by it, and the prediction of one frame."""
    init_default_scope(config.default_scope)
    MessageHub.get_current_instance().update_info("iter", 0)  # asked for by YOLOX's changes of size
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    loaders = {split: DATASETS.build(config[f"{split}_dataloader"].dataset) for split in ("train", "test")}
    wrapper = Runner.build_optim_wrapper(_Holder(model), config.optim_wrapper)
    before = [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    losses = model.train_step(pseudo_collate([loaders["train"][0]]), wrapper)
    after = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    changes = [(a - b).abs().max() for a, b in zip(after, before)]
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([loaders["test"][0]]))
    return losses, changes, result


class _Holder:
    """What ``Runner.build_optim_wrapper`` asks of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
