"""This project's detectors in mmdet3d's registry: its own tools, data sets and metrics build and run them.

A configuration of mmdet3d says ``custom_imports = dict(imports=["projects.mmdet3d.detectors"])`` and takes the
``model`` of one of ours as it is: every detector is registered there under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from mmdet3d.models import Base3DDetector
from mmdet3d.registry import MODELS as MMDET3D_MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from bev.models.detectors import Detector
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig
from bev.structures.conventions import CAMERAS_DETR3D, boxes_from_array, boxes_to_array

# Pictures as ours take them: RGB, 0..255; normalisation is the detector's own.
_PREPROCESSOR = {
    **{"type": "Det3DDataPreprocessor", "mean": [0.0] * 3, "std": [1.0] * 3},
    **{"bgr_to_rgb": True, "pad_size_divisor": 32},
}


class WrappedDetector(Base3DDetector):
    """One of our detectors behind the ``mode=`` interface of mmdet3d.

    Args:
        detector: configuration of the detector.
        data_preprocessor: of mmdet3d; default: RGB 0..255, padded to multiples of 32 px.
        frame: reference frame that the detector predicts in. ``ego`` needs ``lidar_points`` among the ``meta_keys`` of
            Pack3DDetInputs.
        cameras: names of the data's cameras, in its order (that of mmdet3d's info files).
        camera_order: those that the detector takes, in its order; None: as the data has them.
    """

    def __init__(
        self,
        detector: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | None = None,
        frame: Literal["lidar", "ego"] = "lidar",
        cameras: Sequence[str] = CAMERAS_DETR3D,
        camera_order: Sequence[str] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor=dict(data_preprocessor or _PREPROCESSOR), init_cfg=init_cfg)
        self.detector: Detector = MODELS.build(dict(detector))
        self.frame, self.cameras = frame, tuple(cameras)
        self.picked = [self.cameras.index(name) for name in camera_order or cameras]
        self.register_load_state_dict_pre_hook(_with_prefix)

    def loss(
        self, batch_inputs_dict: dict[str, Any], batch_data_samples: list[Any], **unused: Any
    ) -> dict[str, Tensor]:
        """Loss terms by name; mmengine sums those whose name contains "loss", hence the prefix where it is missing."""
        terms = self.detector.loss(self._batch(batch_inputs_dict, batch_data_samples))
        return {name if "loss" in name else f"loss_{name}": term for name, term in terms.items()}

    def predict(self, batch_inputs_dict: dict[str, Any], batch_data_samples: list[Any], **unused: Any) -> list[Any]:
        """The samples with ``pred_instances_3d``: boxes in the LiDAR frame, as mmdet3d's metrics take them."""
        found = self.detector.predict(self._batch(batch_inputs_dict, batch_data_samples))
        results = [self._instances(boxes, sample) for boxes, sample in zip(found, batch_data_samples)]
        samples: list[Any] = self.add_pred_to_datasample(batch_data_samples, results)
        return samples

    def _forward(self, batch_inputs_dict: dict[str, Any], batch_data_samples: list[Any], **unused: Any) -> Any:
        batch = self._batch(batch_inputs_dict, batch_data_samples)
        return self.detector(batch.images, batch.rig)

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Asked for by mmdet's base class; our detectors need the cameras too."""
        raise NotImplementedError("feature maps alone are not offered; call forward(..., mode='tensor')")

    def _batch(self, inputs: Mapping[str, Any], samples: Sequence[Any]) -> Batch:
        images = inputs["imgs"][:, self.picked]
        ego = [self._frame_from_lidar(sample) for sample in samples]
        rigs = [self._rig(sample, images, pose).select(self.picked) for sample, pose in zip(samples, ego)]
        return Batch(
            images=images,
            rig=CameraRig.stack(rigs).to(images.device),
            global_from_ref=torch.eye(4, dtype=torch.float64, device=images.device).repeat(len(samples), 1, 1),
            tokens=[str(sample.metainfo.get("sample_idx", i)) for i, sample in enumerate(samples)],
            timestamp_us=torch.zeros(len(samples), dtype=torch.int64, device=images.device),
            scenes=[""] * len(samples),
            boxes=self._boxes(samples, ego, images.device),
        )

    def _rig(self, sample: Any, images: Tensor, frame_from_lidar: Tensor) -> CameraRig:
        """``cam2img`` follows mmdet3d's resizing, so that it is the network picture's already."""
        meta = sample.metainfo
        if meta.get("transformation_3d_flow"):
            raise ValueError(
                f"sample {meta.get('sample_idx')}: the pipeline turns or scales the points "
                f"({meta['transformation_3d_flow']}) and leaves the cameras as they were; take these transforms out"
            )
        count = len(self.cameras)
        intrinsics, cam_from_lidar = (torch.as_tensor(_stacked(meta[key])) for key in ("cam2img", "lidar2cam"))
        return CameraRig(
            intrinsics[:, :3, :3],
            cam_from_lidar @ torch.linalg.inv(frame_from_lidar),
            torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
            (int(images.shape[-2]), int(images.shape[-1])),
            self.cameras,
            torch.zeros(count, dtype=torch.int64),
        )

    def _frame_from_lidar(self, sample: Any) -> Tensor:
        if self.frame == "lidar":
            return torch.eye(4, dtype=torch.float64)
        if "lidar_points" not in sample.metainfo:
            raise ValueError("a detector in the ego frame needs 'lidar_points' among the meta_keys of Pack3DDetInputs")
        return torch.as_tensor(_stacked(sample.metainfo["lidar_points"]["lidar2ego"]))

    def _boxes(self, samples: Sequence[Any], poses: Sequence[Tensor], device: torch.device) -> list[Boxes3D] | None:
        truths = [sample.get("gt_instances_3d") for sample in samples]
        if any(truth is None or "bboxes_3d" not in truth for truth in truths):
            return None
        boxes = [boxes_from_array(t.bboxes_3d.tensor, t.labels_3d, "mmdet3d_v1", z="bottom") for t in truths]
        return [b.transform(pose, self.frame).to(device) for b, pose in zip(boxes, poses)]

    def _instances(self, boxes: Boxes3D, sample: Any) -> InstanceData:
        boxes = boxes.transform(torch.linalg.inv(self._frame_from_lidar(sample)), "lidar")
        array = boxes_to_array(boxes, "mmdet3d_v1", z="bottom")
        kind = sample.metainfo["box_type_3d"]
        return InstanceData(
            bboxes_3d=kind(array, box_dim=array.shape[1]), scores_3d=boxes.score, labels_3d=boxes.label
        )


def _stacked(matrices: Any) -> Any:
    """Nested lists or arrays -> one float64 array."""
    import numpy as np

    return np.asarray(matrices, dtype=np.float64)


def _with_prefix(module: torch.nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    """Weights of the bare detector (ours or published ones) fit as well as those that mmdet3d's tools save."""
    if not any(key.startswith(f"{prefix}detector.") for key in state):
        for key in [key for key in state if key.startswith(prefix)]:
            state[f"{prefix}detector.{key.removeprefix(prefix)}"] = state.pop(key)


_OWN = ("data_preprocessor", "frame", "cameras", "camera_order", "init_cfg")


def _builder(name: str) -> Callable[..., WrappedDetector]:
    def build(**arguments: Any) -> WrappedDetector:
        own = {key: arguments.pop(key) for key in _OWN if key in arguments}
        return WrappedDetector({"type": name, **arguments}, **own)

    return build


def register() -> list[str]:
    """Register every detector of this project with mmdet3d; the names, those it has taken already left out."""
    MODELS.import_from_location()
    kinds = {k: v for k, v in MODELS.module_dict.items() if isinstance(v, type) and issubclass(v, Detector)}
    names = [name for name in kinds if name not in MMDET3D_MODELS.module_dict]
    for name in names:
        MMDET3D_MODELS.register_module(name=name, module=_builder(name))
    return names


register()
