"""StreamPETR's head: image tokens with positions, fresh and remembered queries, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import GlobalTransformer, Tokens
from bev.models.attention.camera_rays import ray_depths, ray_points
from bev.models.attention.sine_positions import encode_points, encode_shares
from bev.models.coders import MetricRange, NMSFreeCoder, SigmoidRefinement, inverse_sigmoid
from bev.models.heads import Motion, StreamingHead
from bev.models.heads.denoising import NoisyQueries
from bev.models.heads.query_seeds import QuerySeeds
from bev.registry import MODELS
from bev.structures import Boxes3D, CameraRig
from projects.streampetr.denoising import BoxDenoising
from projects.streampetr.memory import Memory
from projects.streampetr.parts import Gate, MotionLayerNorm, encode_motion, two_layers

# StreamPETR's code is cx, cy, cz, log l, log w, log h, ...; ours has cz fifth.
_FROM_PUBLISHED = (0, 1, 3, 4, 2, 5, 6, 7, 8, 9)
# Which point of a ray tells its direction, counted from the last one: fixed in the published code.
_NEAR_POINT = 30
_MOTION_DIM = 15  # velocity, age, upper rows of a pose


class Queries(NamedTuple):
    """What the decoder starts from: ``content``, ``pos`` (B, Q, C), ``reference`` (B, Q, 3), and what it remembers."""

    content: Tensor
    pos: Tensor
    reference: Tensor
    remembered: Tokens


@MODELS.register_module()
class StreamPETRHead(StreamingHead):
    """StreamPETR (Wang et al., ICCV 2023, arXiv 2303.11926) with the published parameter names.

    Args:
        transformer: the decoder.
        in_channels: of the features.
        embed_dim: C, even.
        num_queries: fresh queries.
        num_propagated: remembered queries that are decoded again with the fresh ones.
        memory_length: remembered queries in all that are attended to.
        top_k: queries remembered of each frame.
        range_m, position_range_m, depth_count, depth_low_m: as in ``PETRHead``.
        stride_px: network px a feature pixel.
        code_weights: in the published order cx, cy, cz, log l, log w, log h, sin, cos, vx, vy.
        compat: ``"official"`` pairs tokens with focal lengths as the published code does: token i of all cameras'
            gets those of camera i mod N. ``"fixed"`` gives every token its own camera's.
        denoising: noised ground truth decoded beside the queries in training; None for none.
        num_classes, assigner, coder, loss_cls, loss_bbox: as in ``QueryHead``.
        num_branches: names that the one pair of branches has in checkpoints; at least the number of layers.
        num_peaks: queries beside the fresh ones that begin at peaks of the image heatmaps; not published.
        refinement: how a regression moves a reference point, over ``range_m``; None: as published, in the logits of its
            share of the range.
    """

    position_range: Tensor
    coords_d: Tensor

    def __init__(
        self,
        transformer: GlobalTransformer,
        in_channels: int,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        range_m: Sequence[float],
        position_range_m: Sequence[float],
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        num_propagated: int = 256,
        memory_length: int = 1024,
        top_k: int = 256,
        depth_count: int = 64,
        depth_low_m: float = 1.0,
        stride_px: int = 16,
        code_weights: Sequence[float] = (2, 2, 1, 1, 1, 1, 1, 1, 1, 1),
        compat: str = "fixed",
        num_branches: int = 6,
        denoising: BoxDenoising | None = None,
        num_peaks: int = 0,
        refinement: MetricRange | None = None,
    ) -> None:
        super().__init__(
            num_queries,
            embed_dim,
            num_classes,
            num_branches,
            assigner,
            coder,
            loss_cls,
            loss_bbox,
            code_weights,
            shared_branches=True,
        )
        if num_propagated > memory_length or depth_count < _NEAR_POINT:
            raise ValueError(
                f"{num_propagated} propagated queries must fit a memory of {memory_length}, "
                f"and a ray needs at least {_NEAR_POINT} points, not {depth_count}"
            )
        if compat not in ("fixed", "official"):
            raise ValueError(f"compat = {compat!r}; valid: 'fixed', 'official'")
        self.transformer, self.official, self.stride_px = transformer, compat == "official", stride_px
        self.num_propagated, self.memory_length, self.top_k = num_propagated, memory_length, top_k
        self.axis_channels = embed_dim // 2
        self.refinement: MetricRange = SigmoidRefinement(range_m) if refinement is None else refinement
        self.denoising, self.num_peaks = denoising, num_peaks
        if num_peaks:
            self.seed_content = nn.Linear(in_channels + num_classes, embed_dim)
        self._fixed(range_m, position_range_m, ray_depths(depth_low_m, float(position_range_m[3]), depth_count))
        self.position_encoder = two_layers(3 * depth_count, 4 * embed_dim, embed_dim)
        self.memory_embed = two_layers(in_channels, embed_dim, embed_dim)
        self.featurized_pe = Gate(embed_dim)
        self.reference_points = nn.Embedding(num_queries, 3)
        self.pseudo_reference_points = nn.Embedding(num_propagated, 3)
        for points in (self.reference_points, self.pseudo_reference_points):
            nn.init.uniform_(points.weight, 0, 1)
        self.pseudo_reference_points.weight.requires_grad = False
        self.query_embedding = two_layers(3 * self.axis_channels, embed_dim, embed_dim)
        self.spatial_alignment = MotionLayerNorm(8, embed_dim)
        self.time_embedding = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.LayerNorm(embed_dim))
        self.ego_pose_pe = MotionLayerNorm(12 * _MOTION_DIM, embed_dim)
        self.ego_pose_memory = MotionLayerNorm(12 * _MOTION_DIM, embed_dim)

    def _fixed(self, range_m: Sequence[float], position_range_m: Sequence[float], depths_m: Tensor) -> None:
        """Constants that published checkpoints hold as parameters; they are never trained."""
        constants = {
            "match_costs": self.code_weights.detach().clone(),
            "pc_range": torch.tensor(range_m, dtype=torch.float32),
            "position_range": torch.tensor(position_range_m, dtype=torch.float32),
            "coords_d": depths_m,
        }
        for name, value in constants.items():
            self.register_parameter(name, nn.Parameter(value, requires_grad=False))

    @property
    def num_matched(self) -> int:
        """Queries that may be matched: fresh, seeded and propagated."""
        return self.num_queries + self.num_peaks + self.num_propagated

    def target_weights(self, target: Tensor) -> Tensor:
        """(M, 10) weight of every entry of the targets' codes: 0 where it is not known."""
        return self.code_weights[list(_FROM_PUBLISHED)] * torch.isfinite(target)

    def motion_inputs(self, motion: Motion) -> Mapping[str, Tensor]:
        """``continues`` (B,), ``ref_from_previous`` (B, 4, 4) and ``elapsed_s`` (B,) of the motion, float32."""
        return {
            "continues": motion.continues,
            "ref_from_previous": motion.ref_from_previous.float(),
            "elapsed_s": motion.elapsed_s.float(),
        }

    def forward(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None = None,
        picked: Tensor | None = None,
        seeds: QuerySeeds | None = None,
    ) -> dict[str, Any]:
        """Predict.

        Args:
            features: levels (B, N, in_channels, H, W), of which the first is used.
            rig: calibration with the batch axis.
            state: entries of :meth:`motion_inputs` and, after a previous frame, of ``Memory``; None: a first frame.
            picked: (B, S) int64, which of the N * H * W tokens are used (Focal-PETR's selection); None: all.
            seeds: of the image, with ``num_peaks``; those queries follow the fresh ones.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes), ``box_code`` (layers, B, Q, 10; m, rad, m/s), the fresh queries
            first, and ``state``.
        """
        return self._detect(features[0], rig, state, picked, None, seeds)

    def train_frame(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        boxes: Sequence[Boxes3D],
        avg_factors: Mapping[str, Tensor],
        **hints: Any,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Losses of ``QueryHead`` and, with denoising, ``dn.loss_cls`` and ``dn.loss_bbox``; see ``StreamingHead``."""
        noisy = None if self.denoising is None else self.denoising.draw(boxes, self.num_classes)
        outputs = self._detect(features[0], rig, state, None, noisy, **hints)
        if noisy is None:
            return self.loss(outputs, boxes, avg_factors["boxes"]), outputs
        count = noisy.label.shape[1]
        logits, code = outputs["cls_logits"], outputs["box_code"]
        restored = self.restoring_loss(logits[:, :, :count], code[:, :, :count], noisy, boxes, avg_factors["boxes"])
        outputs = {"cls_logits": logits[:, :, count:], "box_code": code[:, :, count:], "state": outputs["state"]}
        return {**self.loss(outputs, boxes, avg_factors["boxes"]), **restored}, outputs

    def restoring_loss(
        self, logits: Tensor, code: Tensor, noisy: NoisyQueries, boxes: Sequence[Boxes3D], avg_factor: Tensor
    ) -> dict[str, Tensor]:
        """Denoising losses, summed over the layers.

        Args:
            logits: (layers, B, R, num_classes), code: (layers, B, R, 10) of the denoising queries.
            noisy: where they come from.
            boxes: ground truth, one entry a frame.
            avg_factor: scalar number of boxes of the batch.
        """
        assert self.denoising is not None
        sample, query = (noisy.box >= 0).nonzero(as_tuple=True)
        first = torch.tensor([0, *(len(b) for b in boxes)], device=sample.device).cumsum(0)[sample]
        target = torch.cat([self.coder.encode(b) for b in boxes])[first + noisy.box[sample, query]]
        label, weight = noisy.label[sample, query], self.target_weights(target)
        count = (avg_factor * noisy.groups).clamp(min=1)
        kept = (count * self.denoising.kept_share).clamp(min=1)
        cls = [self.loss_cls(layer[sample, query], label, avg_factor=kept) for layer in logits]
        bbox = [self.loss_bbox(layer[sample, query], target.to(layer), weight, avg_factor=count) for layer in code]
        scale = self.denoising.loss_weight
        return {"dn.loss_cls": scale * torch.stack(cls).sum(), "dn.loss_bbox": scale * torch.stack(bbox).sum()}

    def _detect(
        self,
        feature: Tensor,
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        picked: Tensor | None,
        noisy: NoisyQueries | None,
        seeds: QuerySeeds | None = None,
    ) -> dict[str, Any]:
        """Outputs of all queries, the denoising ones in front; those are not remembered."""
        memory = self._recall(feature, state)
        queries, mask = self._queries(memory, noisy, seeds), None
        if noisy is not None:
            others = queries.content.shape[1] - noisy.label.shape[1]
            mask = F.pad(noisy.attention_mask(others), (0, queries.remembered.value.shape[1]))
        image = self._image_tokens(feature, rig, picked)
        decoded = self.transformer(queries.content, queries.pos, image, queries.remembered, mask)
        raw = torch.stack([branch(query) for branch, query in zip(self.reg_branches, decoded)])
        code = self.refinement(raw.float()[..., list(_FROM_PUBLISHED)], queries.reference)[1]
        logits = self.classify(decoded)
        own = slice(0 if noisy is None else noisy.label.shape[1], None)
        state = self._remember(memory, decoded[-1][:, own], logits[-1][:, own], code[-1][:, own])
        return {"cls_logits": logits, "box_code": code, "state": state}

    def _recall(self, feature: Tensor, state: Mapping[str, Tensor] | None) -> Memory:
        """The memory as seen from this frame; frames that begin get learned points in the place of propagated ones."""
        batch, device = feature.shape[0], feature.device
        continues = torch.zeros(batch, dtype=torch.bool, device=device) if state is None else state["continues"]
        if state is None or "embedding" not in state:
            memory = Memory.empty(batch, self.memory_length, 2 * self.axis_channels, device)
            continues = torch.zeros_like(continues)
        else:
            kept = Memory.of(state).first(self.memory_length)
            memory = kept.carried(state["ref_from_previous"], state["elapsed_s"], continues)
        return memory.with_first(self.refinement.to_metric(self.pseudo_reference_points.weight), ~continues)

    def _queries(self, memory: Memory, noisy: NoisyQueries | None, seeds: QuerySeeds | None) -> Queries:
        batch = memory.point_m.shape[0]
        reference = self.reference_points.weight.expand(batch, -1, -1)
        if noisy is not None:
            noised = self.refinement.from_metric(noisy.point_m).clamp(0, 1) * (noisy.box >= 0).unsqueeze(-1)
            reference = torch.cat([noised, reference], 1)
        start = torch.zeros(*reference.shape[:2], 2 * self.axis_channels, device=reference.device)
        if seeds is not None:
            reference = torch.cat([reference, self.refinement.from_metric(seeds.point_m).clamp(0, 1)], 1)
            start = torch.cat([start, self.seed_content(seeds.known).to(start.dtype)], 1)
        pos = self.query_embedding(encode_points(reference, self.axis_channels))
        at_rest = torch.zeros(*reference.shape[:2], 3, device=reference.device)
        identity = torch.eye(4, device=reference.device)[:3].flatten().expand(*reference.shape[:2], -1)
        still = encode_motion(torch.cat([at_rest, identity], -1))
        content, pos = self.ego_pose_memory(start.to(pos.dtype), still), self.ego_pose_pe(pos, still)
        pos = pos + self._time(torch.zeros_like(reference[..., 0]))
        old_reference = self.refinement.from_metric(memory.point_m)
        motion = torch.cat([memory.velocity_mps, memory.age_s.unsqueeze(-1), memory.pose[..., :3, :].flatten(-2)], -1)
        motion = encode_motion(motion)
        old_pos = self.ego_pose_pe(self.query_embedding(encode_points(old_reference, self.axis_channels)), motion)
        old_pos = old_pos + self._time(memory.age_s)
        old = self.ego_pose_memory(memory.embedding, motion)
        count = self.num_propagated
        return Queries(
            torch.cat([content, old[:, :count]], 1),
            torch.cat([pos, old_pos[:, :count]], 1),
            torch.cat([reference, old_reference[:, :count]], 1),
            Tokens(old[:, count:], old_pos[:, count:]),
        )

    def _time(self, age_s: Tensor) -> Tensor:
        return self.time_embedding(encode_shares(age_s, 2 * self.axis_channels))

    def _image_tokens(self, feature: Tensor, rig: CameraRig, picked: Tensor | None) -> Tokens:
        value = feature.permute(0, 1, 3, 4, 2).flatten(1, 3)
        rays, cone = self._rays(rig, feature.shape[-2:])
        if picked is not None:
            value, rays, cone = (_pick(part, picked) for part in (value, rays, cone))
        value = self.spatial_alignment(self.memory_embed(value), cone)
        return Tokens(value, self.featurized_pe(self.position_encoder(rays), value))

    def _rays(self, rig: CameraRig, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, S, 3 D) logits of the points along each pixel's ray, and (B, S, 8) what tells its viewing cone."""
        v, u = ((torch.arange(count, device=rig.device) + 0.5) * self.stride_px for count in size)
        pixels_px = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1).flatten(0, 1)
        low_m, high_m = self.position_range[:3], self.position_range[3:]
        share = (ray_points(rig, pixels_px, self.coords_d) - low_m) / (high_m - low_m)
        share = share.flatten(1, 2)
        focal, tokens = rig.focal_px / 1e3, len(pixels_px)
        focal = focal.repeat(1, tokens, 1) if self.official else focal.repeat_interleave(tokens, 1)
        cone = torch.cat([focal, share[..., -1, :], share[..., -_NEAR_POINT, :]], -1)
        return inverse_sigmoid(share.flatten(-2)), cone

    def _remember(self, memory: Memory, query: Tensor, logits: Tensor, code: Tensor) -> dict[str, Tensor]:
        """The best queries of this frame in front of what was remembered."""
        best = logits.sigmoid().amax(-1).topk(self.top_k, 1).indices
        eye = torch.eye(4, device=query.device).expand(*best.shape, 4, 4)
        latest = Memory(
            _pick(query, best).float(),
            _pick(code[..., [0, 1, 4]], best),
            _pick(code[..., 8:10], best),
            torch.zeros(best.shape, device=query.device),
            eye,
        )
        return memory.with_latest(latest, self.memory_length + self.top_k).state()


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, S, K), (B, M) -> (B, M, K)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
