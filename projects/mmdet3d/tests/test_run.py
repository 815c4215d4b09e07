"""Official configurations by this project's commands, what is refused, and the repairs."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from bev.io.checkpoint import CheckpointError
from bev.registry import ConfigError
from tests.paths import REPO_ROOT


def test_official_names() -> None:
    from projects.mmdet3d import official_config, official_path

    path = official_path("mmdet3d::pointpillars/pointpillars_hv_secfpn_sbn-all_8xb4-2x_nus-3d")
    assert path.is_file()
    assert official_config("mmdet::atss/atss_r50_fpn_1x_coco.py").model.type == "ATSS"
    with pytest.raises(ConfigError, match="did you mean 'atss/atss_r50_fpn_1x_coco.py'"):
        official_path("mmdet::atss/atss_r50_fpn_1_coco.py")
    with pytest.raises(ConfigError, match="mmseg::x"):
        official_path("mmseg::x")


def test_which_configurations_are_openmmlabs(tmp_path: Path) -> None:
    from projects.mmdet3d.run import openmmlab_config

    assert openmmlab_config("mmdet::atss/atss_r50_fpn_1x_coco.py") is not None
    assert openmmlab_config(str(REPO_ROOT / "configs" / "detr3d" / "detr3d_r101_dcn_nusc.py")) is None
    derived = tmp_path / "mine.py"
    derived.write_text('_base_ = "mmdet::atss/atss_r50_fpn_1x_coco.py"\n')
    config = openmmlab_config(str(derived))
    assert config is not None and config.model.type == "ATSS"
    with pytest.raises(ConfigError, match="does not exist"):
        openmmlab_config(str(tmp_path / "none.py"))


def test_scripts_of_the_installed_packages() -> None:
    from projects.mmdet3d.run import script

    assert script("mmdet3d/tools/train.py").is_file()
    with pytest.raises(ConfigError, match="test.py, train.py"):
        script("mmdet3d/tools/trane.py")
    with pytest.raises(ConfigError, match="does not exist"):
        script("nowhere.py")


def test_train_and_test_with_an_official_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tools/train.py and tools/test.py on a folder of two pictures, with mmdet's data set, hooks and metric."""
    from projects.mmdet3d.run import openmmlab_config, test, train
    from tests.paths import real_data_dir

    monkeypatch.chdir(tmp_path)
    coco = real_data_dir("coco_val80")
    config = tmp_path / "tiny.py"
    config.write_text(_TINY.format(root=f"{coco}/"))
    read = openmmlab_config(str(config))
    assert read is not None
    assert train(read, ["train_cfg.max_epochs=1"], work_dir="run", seed=3, launcher="none") == 0
    saved = tmp_path / "run" / "epoch_1.pth"
    assert torch.load(saved, weights_only=False)["meta"]["seed"] == 3
    again = openmmlab_config(str(config))
    assert again is not None
    metrics = test(again, str(saved), work_dir="run", launcher="none")
    assert 0 <= metrics["coco/bbox_mAP"] <= 1


_TINY = """
_base_ = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
model = dict(backbone=dict(init_cfg=None), test_cfg=dict(score_thr=0.0))
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(64, 64), keep_ratio=False),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
data = dict(type="CocoDataset", data_root="{root}", ann_file="instances_val2017.json",
            data_prefix=dict(img="val2017/"), pipeline=pipeline, indices=2)
loader = dict(_delete_=True, batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
train_dataloader = dict(dataset=data, **loader)
val_dataloader = dict(dataset=dict(test_mode=True, **data), **loader)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="CocoMetric", ann_file="{root}instances_val2017.json", metric="bbox")
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1e-6))
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=1, val_interval=5)
"""


def test_checkpoints_hold_no_code(tmp_path: Path) -> None:
    """mmengine's loader reads published files (HistoryBuffer, numpy scalars) and nothing that could run."""
    from mmengine.logging import HistoryBuffer
    from mmengine.runner import load_checkpoint

    model = torch.nn.Linear(2, 2)
    history = HistoryBuffer()
    history.update(0.5)
    published = {"state_dict": model.state_dict(), "message_hub": {"loss": history, "best": np.float64(0.5)}}
    torch.save(published, tmp_path / "published.pth")
    assert load_checkpoint(model, str(tmp_path / "published.pth"))["message_hub"]["best"] == 0.5

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("run",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(CheckpointError):
        load_checkpoint(model, str(tmp_path / "evil.pth"))


def test_old_numpy_names_are_given_to_those_who_ask() -> None:
    from mmdet3d.datasets.transforms import dbsampler

    assert dbsampler.np.zeros(2, dtype=dbsampler.np.long).dtype == np.int64
    assert dbsampler.np.float32 is np.float32
    assert not isinstance(np, type(dbsampler.np)) and sys.modules["numpy"] is np


def test_configurations_by_package_need_no_pkg_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "pkg_resources", None)  # any import of it fails
    derived = tmp_path / "mine.py"
    derived.write_text('_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"\n')
    assert Config.fromfile(str(derived)).model.type == "RetinaNet"
