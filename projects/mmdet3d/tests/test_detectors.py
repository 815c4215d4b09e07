"""Our detectors built and run by mmdet3d: its registry, its data set, its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from bev.structures.conventions import CAMERAS_DETR3D
from tests.paths import REPO_ROOT, real_data_dir

CONFIG = REPO_ROOT / "projects" / "mmdet3d" / "configs" / "detr3d_r101_nus-mv3d.py"


def _config(tmp_path: Path) -> Config:
    """The shipped configuration with a small network, on the one real frame at a quarter of its size."""
    from projects.mmdet3d.tests.real_data import nuscenes_root

    config = Config.fromfile(str(CONFIG))
    root = str(nuscenes_root(real_data_dir("nuscenes_frame"), tmp_path / "nuscenes"))
    config.merge_from_dict({f"{split}_dataloader.dataset.data_root": root for split in ("train", "test")})
    config.model.img_backbone.update({"depth": 18, "style": "pytorch"})
    config.model.img_backbone.dcn_stages = (False, False, False, False)
    config.model.img_neck.in_channels = (64, 128, 256, 512)
    config.model.pts_bbox_head.num_queries = 40
    head = config.model.pts_bbox_head.transformer
    head.layers = head.layers[:2]
    resize = {"type": "MultiViewWrapper", "transforms": [{"type": "Resize3D", "scale": (400, 225), "keep_ratio": True}]}
    for split in ("train", "test"):
        config[f"{split}_dataloader"].dataset.pipeline.insert(-1, resize)
    return config


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """Model, a training batch and a test batch, all built by mmdet3d's registries."""
    from mmdet3d.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    import projects.mmdet3d.detectors  # noqa: F401

    config = _config(tmp_path_factory.mktemp("detectors"))
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    data = [DATASETS.build(config[f"{split}_dataloader"].dataset) for split in ("train", "test")]
    return model, *(pseudo_collate([dataset[0]]) for dataset in data)


def test_cameras_and_boxes_are_those_of_mmdet3d(parts: tuple[Any, Any, Any]) -> None:
    model, train, _ = parts
    data = model.data_preprocessor(train, True)
    batch = model._batch(data["inputs"], data["data_samples"])
    meta = data["data_samples"][0].metainfo
    assert batch.rig.names == CAMERAS_DETR3D
    assert float(batch.images.max()) > 200, "pictures stay 0..255"
    for camera in range(6):
        cam2img, lidar2cam = (torch.as_tensor(meta[k][camera]).double() for k in ("cam2img", "lidar2cam"))
        expected = torch.eye(4, dtype=torch.float64)
        expected[:3, :3] = cam2img[:3, :3]
        ours = batch.rig.img_from_ref[0, camera].double()
        torch.testing.assert_close(ours, expected @ lidar2cam, atol=1e-3, rtol=1e-5)
    assert 390 < float(batch.rig.intrinsics[0, 0, 0, 2]) * 2 < 420, "the intrinsics follow the resizing"
    assert batch.boxes is not None
    truth = data["data_samples"][0].gt_instances_3d
    back = model._instances(batch.boxes[0], data["data_samples"][0])
    torch.testing.assert_close(back.bboxes_3d.tensor, truth.bboxes_3d.tensor, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(batch.boxes[0].center_m, truth.bboxes_3d.gravity_center)


def test_training_step_and_prediction(parts: tuple[Any, Any, Any]) -> None:
    model, train, test = parts
    data = model.data_preprocessor(train, True)
    losses = model(**data, mode="loss")
    assert all("loss" in name for name in losses)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in model.parameters()) > 50
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(test)
        again = model.detector.predict(model._batch(**_tested(model, test)))[0]
    found = result.pred_instances_3d
    assert len(found.bboxes_3d) == len(again) > 0
    torch.testing.assert_close(found.bboxes_3d.gravity_center, again.center_m)


def _tested(model: Any, test: Any) -> dict[str, Any]:
    data = model.data_preprocessor(test, False)
    return {"inputs": data["inputs"], "samples": data["data_samples"]}


def test_bare_weights_and_those_of_mmdet3d_load_alike(parts: tuple[Any, Any, Any]) -> None:
    model, _, _ = parts
    bare = model.detector.state_dict()
    assert not model.load_state_dict({name: value + 1 for name, value in bare.items()}).missing_keys
    whole = model.state_dict()
    assert all(name.startswith("detector.") for name in whole)
    assert not model.load_state_dict({name: value.clone() for name, value in whole.items()}).missing_keys
    assert torch.equal(next(iter(model.detector.state_dict().values())), next(iter(whole.values())))


def test_points_turned_without_their_cameras_are_refused(parts: tuple[Any, Any, Any]) -> None:
    model, train, _ = parts
    data = model.data_preprocessor(train, True)
    sample = data["data_samples"][0].clone()
    sample.set_metainfo({"transformation_3d_flow": ["R"]})
    with pytest.raises(ValueError, match="leaves the cameras as they were"):
        model._batch(data["inputs"], [sample])
