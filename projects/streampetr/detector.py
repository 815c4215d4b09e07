"""StreamPETR as a detector."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bev.models.detectors import StreamingDetector
from bev.models.detectors.base import ground_truth
from bev.models.heads.image_center_head import CenterMaps
from bev.models.heads.image_supervision import ImageSupervision
from bev.registry import MODELS
from bev.structures import Batch
from projects.streampetr.focal_head import FocalHead
from projects.streampetr.head import StreamPETRHead


@MODELS.register_module()
class StreamPETR(StreamingDetector):
    """StreamPETR (Wang et al., ICCV 2023, arXiv 2303.11926); parameter names are those of the published checkpoints.

    Its state goes through the interface of ``bev.models.detectors.temporal``, as BEVFormer's does.

    Args:
        preprocess, img_backbone, img_neck, pts_bbox_head, grid_mask, image_supervision: as of ``StreamingDetector``.
        img_roi_head: boxes and centres in the pictures, in training alone; on the finest level.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        pts_bbox_head: StreamPETRHead,
        grid_mask: nn.Module | None = None,
        image_supervision: ImageSupervision | None = None,
        img_roi_head: FocalHead | None = None,
    ) -> None:
        super().__init__(preprocess, img_backbone, img_neck, pts_bbox_head, grid_mask, image_supervision)
        self.img_roi_head = img_roi_head

    def image_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Of ``ImageEncoder`` and of the 2D head."""
        seen = {} if self.img_roi_head is None else self.img_roi_head.counts(batch, ground_truth(batch))
        return {**super().image_counts(batch), **seen}

    def image_losses(
        self, levels: list[Tensor], maps: CenterMaps | None, batch: Batch, factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of ``ImageEncoder`` and, with a 2D head, its ``picture.loss_...``."""
        losses, head = super().image_losses(levels, maps, batch, factors), self.img_roi_head
        if head is None:
            return losses
        targets, size_px = head.targets(batch, ground_truth(batch)), batch.rig.image_size_px
        return {**losses, **head.loss(head(levels[0]), targets, size_px, factors["picture_boxes"])}
