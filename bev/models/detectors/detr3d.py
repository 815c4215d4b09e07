"""DETR3D: backbone, pyramid and a set-prediction head that samples the pyramid at projected points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.detectors.base import Detector, State, ground_truth
from bev.models.heads.detr3d_head import CODE_SIZE, Detr3DHead
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig
from bev.structures.conventions import convert_detr_branch


@MODELS.register_module()
class Detr3D(Detector):
    """DETR3D (Wang et al., CoRL 2021, arXiv 2110.06922); parameter names are those of the published checkpoints.

    Args:
        preprocess: uint8 images -> normalised images.
        img_backbone: (B * N, 3, H, W) -> maps, finest first.
        img_neck: maps -> levels.
        pts_bbox_head: levels -> boxes.
        grid_mask: image -> image in training.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        pts_bbox_head: Detr3DHead,
        grid_mask: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.preprocess, self.grid_mask = preprocess, grid_mask
        self.img_backbone, self.img_neck, self.pts_bbox_head = img_backbone, img_neck, pts_bbox_head

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """(B, N, 3, H, W) -> levels (B, N, C, H_l, W_l), each camera's map in channels_last layout."""
        flat = self.preprocess(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        if self.grid_mask is not None:
            flat = self.grid_mask(flat)
        return [level.unflatten(0, images.shape[:2]) for level in self.img_neck(self.img_backbone(flat))]

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Returns ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10); see Detr3DHead."""
        return self.pts_bbox_head(self.extract_features(images), rig)

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """``boxes``: pairs that matching will make."""
        return {"boxes": self.pts_bbox_head.count_targets(ground_truth(batch))}

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox`` of the last layer, ``d{i}.loss_cls`` ... of the earlier ones."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        outputs = self(batch.images, batch.rig)
        return self.pts_bbox_head.loss(outputs, ground_truth(batch), factors["boxes"])

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score."""
        return self.pts_bbox_head.decode(self(batch.images, batch.rig))


def checkpoint_filter(state_dict: Mapping[str, Tensor], legacy_box_code: bool = False) -> dict[str, Tensor]:
    """Published weights -> weights of :class:`Detr3D` with the present box code.

    Understands the files of the original repository, of mmdet3d 1.x (``projects/DETR3D``) and of an FCOS3D detector
    (whose backbone and neck DETR3D starts from).

    Args:
        state_dict: of the file, a wrapper's ``module.`` included or not.
        legacy_box_code: the file learned the box code of mmdet3d < 1.0 (all of the original repository's did; names
            and shapes do not tell). Alternatively keep its weights and build the coder with ``legacy_box_code=True``.

    Returns:
        renamed tensors; regression branches converted where they need it.
    """
    converted = {}
    for name, value in state_dict.items():
        name = name.removeprefix("module.").replace("conv2_offset.", "conv2.conv_offset.")
        if name.startswith(("backbone.", "neck.")):
            name = f"img_{name}"
        last_layer = ".reg_branches." in name and value.shape[0] == CODE_SIZE
        converted[name] = convert_detr_branch(value) if legacy_box_code and last_layer else value
    return converted
