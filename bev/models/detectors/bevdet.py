"""BEVDet, BEVDet4D, BEVDepth: the published lift-splat detectors, of one frame or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bev.models.detectors.base import State, ground_truth
from bev.models.detectors.temporal import TemporalDetector
from bev.models.heads.center_point_head import CenterPointHead
from bev.models.heads.image_supervision import ImageSupervision
from bev.models.losses.depth import batch_depth_targets
from bev.models.losses.depth_supervision import DepthSupervision
from bev.models.motion import Motion
from bev.models.view.lift_splat import LiftSplatOutput
from bev.models.view.published_lift import PublishedLiftSplat
from bev.models.view.warp import warp_bev
from bev.registry import MODELS
from bev.structures import Batch, Boxes3D, CameraRig

Alignment = Literal["warp", "lift"]


@MODELS.register_module()
class LiftSplatDetector(TemporalDetector):
    """Image encoder, view transform, grid encoder, CenterPoint head; parameter names of BEVDet's checkpoints.

    BEVDet (arXiv 2112.11790) with ``num_previous=0``, BEVDet4D (arXiv 2203.17054) with more, BEVDepth (arXiv
    2206.10092) with its view transform and ``depth_supervision``.

    The state (see ``TemporalDetector``) holds grids of the last ``num_previous`` frames, newest first: ``bev``
    (B, F, C, Y, X), ``known`` (B, F) bool, ``older_from_newest`` (B, F, 4, 4) m; of the motion ``continues`` (B,) and
    ``newest_from_ref`` (B, 4, 4) m, from the present reference frame to the last one's. Where a frame is not known the
    present grid stands in for it, as published.

    Args:
        preprocess: uint8 images -> normalised images.
        img_backbone, img_neck: (B * N, 3, H, W) -> one map at the view transform's stride.
        img_view_transformer: image features -> grid.
        img_bev_encoder_backbone, img_bev_encoder_neck: grid -> maps -> grid.
        pts_bbox_head: grid -> boxes.
        pre_process_net: grid -> [grid] of every frame alone, before frames are joined.
        num_previous: earlier frames that are joined to the present one; no gradient flows into them.
        alignment: how frames of a batch come together. ``"warp"``: each is lifted in its own pose and resampled
            (BEVDet4D's first generation; streaming always does so). ``"lift"``: earlier pixels are lifted right into
            the present pose (second generation, BEVDepth), which resamples nothing.
        compat: ``"official"`` warps with the published half-cell offset, see ``warp_bev``.
        depth_supervision: loss of the present frame's depth; needs points.
        image_supervision: class centres on the present images, in training alone; it must leave the depth alone where
            ``depth_supervision`` teaches it.
    """

    def __init__(
        self,
        preprocess: nn.Module,
        img_backbone: nn.Module,
        img_neck: nn.Module,
        img_view_transformer: PublishedLiftSplat,
        img_bev_encoder_backbone: nn.Module,
        img_bev_encoder_neck: nn.Module,
        pts_bbox_head: CenterPointHead,
        pre_process_net: nn.Module | None = None,
        num_previous: int = 0,
        alignment: Alignment = "lift",
        compat: Literal["official"] | None = "official",
        depth_supervision: DepthSupervision | None = None,
        image_supervision: ImageSupervision | None = None,
    ) -> None:
        super().__init__()
        if num_previous < 0 or alignment not in ("warp", "lift") or compat not in (None, "official"):
            raise ValueError(
                f"num_previous {num_previous} must not be negative, alignment {alignment!r} 'warp' or 'lift', "
                f"compat {compat!r} None or 'official'"
            )
        self.preprocess, self.img_backbone, self.img_neck = preprocess, img_backbone, img_neck
        self.img_view_transformer, self.pre_process_net = img_view_transformer, pre_process_net
        self.img_bev_encoder_backbone, self.img_bev_encoder_neck = img_bev_encoder_backbone, img_bev_encoder_neck
        self.pts_bbox_head, self.depth_supervision = pts_bbox_head, depth_supervision
        self.num_previous, self.alignment, self.compat = num_previous, alignment, compat
        if image_supervision is not None and depth_supervision is not None and image_supervision.weights["depth"]:
            raise ValueError("depth would be taught twice: give image_supervision weights=dict(depth=0.0)")
        self.image_supervision = image_supervision

    def extract_features(self, images: Tensor) -> Tensor:
        """(B, N, 3, H, W) -> (B, N, C, H / stride, W / stride)."""
        flat = self.preprocess(images.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        return self.img_neck(self.img_backbone(flat)).unflatten(0, images.shape[:2])

    def lift(self, images: Tensor, rig: CameraRig) -> LiftSplatOutput:
        """One frame's grid (B, C, Y, X) and depth logits."""
        return self._lift(self.extract_features(images), rig)

    def _lift(self, features: Tensor, rig: CameraRig) -> LiftSplatOutput:
        lifted: LiftSplatOutput = self.img_view_transformer(features, rig)
        if self.pre_process_net is None:
            return lifted
        return lifted._replace(bev=self.pre_process_net(lifted.bev)[0])

    def encode(self, bev: Tensor) -> Tensor:
        """(B, C * frames, Y, X) -> (B, C', Y, X)."""
        return self.img_bev_encoder_neck(self.img_bev_encoder_backbone(bev))

    @property
    def remembers(self) -> bool:
        """Whether earlier frames are joined to the present one."""
        return self.num_previous > 0

    def motion_inputs(self, motion: Motion) -> State:
        """``continues`` (B,) bool and ``newest_from_ref`` (B, 4, 4) m, float64."""
        return {"continues": motion.continues, "newest_from_ref": invert_pose(motion.ref_from_previous)}

    def forward(self, images: Tensor, rig: CameraRig, state: State | None = None) -> dict[str, Any]:
        """Returns ``tasks`` (maps of every branch, see CenterHead), ``depth_logits`` (B, N, H, W, D) and, for several
        frames, ``state``.

        Raises:
            ValueError: a state without the motion since it was made.
        """
        return self._forward(self.extract_features(images), rig, state)

    def _forward(self, features: Tensor, rig: CameraRig, state: State | None) -> dict[str, Any]:
        lifted = self._lift(features, rig)
        if not self.num_previous:
            return self._detect(lifted, [])
        state = self._complete(state, lifted.bev)
        history_from_ref = state["older_from_newest"] @ state["newest_from_ref"][:, None]
        grid, official = self.img_view_transformer.grid, bool(self.compat)
        older = [
            torch.where(
                state["known"][:, f, None, None, None],
                warp_bev(state["bev"][:, f], history_from_ref[:, f], grid, official),
                lifted.bev.detach(),
            )
            for f in range(self.num_previous)
        ]
        return {**self._detect(lifted, older), "state": self._next_state(lifted.bev, state, history_from_ref)}

    def _detect(self, lifted: LiftSplatOutput, older: list[Tensor]) -> dict[str, Any]:
        tasks = self.pts_bbox_head(self.encode(torch.cat([lifted.bev, *older], 1)))
        return {"tasks": tasks, "depth_logits": lifted.depth_logits}

    def _complete(self, state: State | None, bev: Tensor) -> dict[str, Tensor]:
        """A state with memory and motion, in which what does not continue is not known."""
        batch, count = bev.shape[0], self.num_previous
        pose = torch.eye(4, dtype=torch.float64, device=bev.device)
        if state is None or "bev" not in state:
            return {
                "bev": torch.zeros_like(bev)[:, None].expand(-1, count, -1, -1, -1),
                "known": torch.zeros(batch, count, dtype=torch.bool, device=bev.device),
                "older_from_newest": pose.expand(batch, count, 4, 4),
                "newest_from_ref": pose.expand(batch, 4, 4),
            }
        if "newest_from_ref" not in state:
            raise ValueError("the last frame's state lacks the motion since then: join motion_inputs(motion) to it")
        return {**state, "known": state["known"] & state["continues"][:, None]}

    def _next_state(self, bev: Tensor, state: State, history_from_ref: Tensor) -> dict[str, Tensor]:
        keep = self.num_previous - 1
        now = torch.ones_like(state["known"][:, :1])
        pose = torch.eye(4, dtype=history_from_ref.dtype, device=bev.device).expand(bev.shape[0], 1, 4, 4)
        return {
            "bev": torch.cat([bev.detach()[:, None], state["bev"][:, :keep]], 1),
            "known": torch.cat([now, state["known"][:, :keep]], 1),
            "older_from_newest": torch.cat([pose, history_from_ref[:, :keep]], 1),
        }

    def remember(self, images: Tensor, rig: CameraRig, state: State | None = None) -> State:
        """The memory alone, without detecting anything."""
        bev = self.lift(images, rig).bev
        known = self._complete(state, bev)
        return self._next_state(bev, known, known["older_from_newest"] @ known["newest_from_ref"][:, None])

    def _detect_batch(self, batch: Batch, features: Tensor | None = None) -> dict[str, Any]:
        """The present frame of a batch, whose features may be known, with its ``previous`` ones."""
        lifted = self._lift(self.extract_features(batch.images) if features is None else features, batch.rig)
        stand_in, older, newer = lifted.bev.detach(), [], batch
        known = torch.ones(len(batch), dtype=torch.bool, device=lifted.bev.device)
        for frame in batch.previous[::-1][: self.num_previous]:
            # Before a recording's start the data set repeats its first frame: such a past is none.
            known = known & (frame.timestamp_us < newer.timestamp_us)
            with torch.no_grad():
                older.append(torch.where(known[:, None, None, None], self._lift_previous(frame, batch), stand_in))
            newer = frame
        older += [stand_in] * (self.num_previous - len(older))
        return self._detect(lifted, older)

    def _lift_previous(self, frame: Batch, batch: Batch) -> Tensor:
        frame_from_ref = invert_pose(frame.global_from_ref) @ batch.global_from_ref
        if self.alignment == "lift":
            return self.lift(frame.images, frame.rig.augment_ref(invert_pose(frame_from_ref)[:, None])).bev
        grid = self.img_view_transformer.grid
        return warp_bev(self.lift(frame.images, frame.rig).bev, frame_from_ref, grid, bool(self.compat))

    def target_counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the head counts and, with depth supervision, ``depth``."""
        counts = self.pts_bbox_head.target_counts(ground_truth(batch))
        if self.image_supervision is not None:
            counts |= self.image_supervision.counts(batch, ground_truth(batch))
        if self.depth_supervision is not None:
            counts["depth"] = self.depth_supervision.count(
                self._depth_targets(batch), self.img_view_transformer.depth_bins
            )
        return counts

    def loss(self, batch: Batch, avg_factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The head's terms and, with depth supervision, ``loss_depth``."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        features = self.extract_features(batch.images)
        return self._losses(self._detect_batch(batch, features), features, batch, factors)

    def stream_loss(
        self, batch: Batch, state: State, avg_factors: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """See ``TemporalDetector``; earlier grids are warped, whatever ``alignment`` says."""
        factors = self.target_counts(batch) if avg_factors is None else avg_factors
        features = self.extract_features(batch.images)
        output = self._forward(features, batch.rig, state)
        return self._losses(output, features, batch, factors), output.get("state", {})

    def _losses(
        self, output: dict[str, Any], features: Tensor, batch: Batch, factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        losses = self.pts_bbox_head.loss(output["tasks"], ground_truth(batch), factors)
        if self.image_supervision is not None:
            maps = self.image_supervision.image_head(features, batch.rig)
            losses |= self.image_supervision(maps, batch, ground_truth(batch), factors)
        if self.depth_supervision is not None:
            losses["loss_depth"] = self.depth_supervision(
                output["depth_logits"],
                self._depth_targets(batch),
                self.img_view_transformer.depth_bins,
                factors["depth"],
            )
        return losses

    def _depth_targets(self, batch: Batch) -> Tensor:
        return batch_depth_targets(batch, self.img_view_transformer.stride_px)

    def predict(self, batch: Batch) -> list[Boxes3D]:
        """Boxes in the reference frame, one entry a frame, by falling score; earlier frames come from
        ``batch.previous``."""
        return self.decode(self._detect_batch(batch))

    def decode(self, outputs: dict[str, Any]) -> list[Boxes3D]:
        """Outputs of :meth:`forward` -> boxes, one entry a frame."""
        return self.pts_bbox_head.decode(outputs["tasks"])


def invert_pose(dst_from_src: Tensor) -> Tensor:
    """(..., 4, 4) -> its inverse in float64. Augmented reference frames may be scaled, so no transpose."""
    return torch.linalg.inv(dst_from_src.double())
