"""Set-prediction head of DETR3D: learned queries, decoded against the image features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.assigners import HungarianAssigner3D
from bev.models.coders import NMSFreeCoder
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.heads.query_head import QueryHead
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class Detr3DHead(QueryHead):
    """DETR3D (Wang et al., CoRL 2021) with the published parameter names.

    Args:
        transformer: see ``Detr3DTransformer``.
        num_queries: Q.
        embed_dim: C.
        num_classes: foreground classes.
        assigner: matches predictions and boxes.
        coder: boxes <-> codes.
        loss_cls, loss_bbox: called with (prediction, target, weight, avg_factor).
        code_weights: weight of each of the 10 entries of the code in ``loss_bbox``.
    """

    def __init__(
        self,
        transformer: Detr3DTransformer,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
    ) -> None:
        super().__init__(
            num_queries,
            embed_dim,
            num_classes,
            len(transformer.decoder.layers),
            assigner,
            coder,
            loss_cls,
            loss_bbox,
            code_weights,
        )
        self.transformer = transformer
        self.query_embedding = nn.Embedding(num_queries, 2 * embed_dim)

    def forward(self, features: Sequence[Tensor], rig: CameraRig) -> dict[str, Tensor]:
        """Predict.

        Args:
            features: L maps (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10; m, rad, m/s).
        """
        decoded = self.transformer(features, self.query_embedding.weight, rig, self.reg_branches)
        return {"cls_logits": self.classify(decoded.queries), "box_code": decoded.code}
