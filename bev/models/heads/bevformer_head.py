"""BEVFormer's head: learned grid, its positions, object queries; branches and losses of every query head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bev.models.assigners import HungarianAssigner3D
from bev.models.attention.ray_cross_attention import PointEncoding
from bev.models.attention.temporal_self_attention import Compat
from bev.models.coders import MetricRange, NMSFreeCoder
from bev.models.heads.bevformer_transformer import PerceptionTransformer
from bev.models.heads.detr3d_transformer import SeededQueries
from bev.models.heads.map_proposals import MapProposals
from bev.models.heads.query_seeds import QuerySeeds
from bev.models.heads.streaming_head import StreamingHead
from bev.models.motion import Motion
from bev.models.view.ego_motion import CAN_BUS, can_bus_vector
from bev.models.view.lift_splat import LiftedQueries
from bev.registry import MODELS
from bev.structures import Boxes3D, CameraRig

# Of the learned grid beside lifted queries, whose channels have a variance of 1 and say more at first.
_LIFTED_STD = 0.02


class LearnedPositions(nn.Module):
    """Position of a cell: a learned vector of its column, then one of its row.

    Args:
        shape: (Y, X).
        channels: C, half of it each.
    """

    def __init__(self, shape: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(shape[0], channels // 2)
        self.col_embed = nn.Embedding(shape[1], channels // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self) -> Tensor:
        """(Y * X, C)."""
        rows, columns = self.row_embed.weight, self.col_embed.weight
        layout = (len(rows), len(columns), -1)
        return torch.cat([columns[None].expand(layout), rows[:, None].expand(layout)], -1).flatten(0, 1)


@MODELS.register_module()
class BEVFormerHead(StreamingHead):
    """BEVFormer (Li et al., ECCV 2022, arXiv 2203.17270) with the published parameter names.

    Args:
        transformer: encoder and decoder.
        num_queries, embed_dim, num_classes, assigner, coder, loss_cls, loss_bbox, code_weights: as in ``QueryHead``.
        compat: ``"official"`` hands the difference of headings on unwrapped (350 degrees for a turn of -10), as the
            published data pipeline does.
        num_peaks: queries beside the learned ones that begin at peaks of the image heatmaps; not published.
        lifted: what the grid's queries begin with in addition to what is learned; not published.
        proposals: dense losses on the map, whose peaks begin further queries; not published.
    """

    def __init__(
        self,
        transformer: PerceptionTransformer,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        compat: Compat = "fixed",
        num_peaks: int = 0,
        lifted: LiftedQueries | None = None,
        proposals: MapProposals | None = None,
    ) -> None:
        num_layers = len(transformer.decoder.layers)
        super().__init__(
            num_queries, embed_dim, num_classes, num_layers, assigner, coder, loss_cls, loss_bbox, code_weights
        )
        self.transformer, self.wrap_turns = transformer, compat != "official"
        rows, columns = transformer.encoder.bev_shape
        self.bev_embedding = nn.Embedding(rows * columns, embed_dim)
        self.query_embedding = nn.Embedding(num_queries, 2 * embed_dim)
        self.positional_encoding = LearnedPositions((rows, columns), embed_dim)
        self.lifted, self.reads_depth = lifted, lifted is not None
        if lifted is not None:
            if lifted.shape != (rows, columns):
                raise ValueError(f"lifted: a grid of {lifted.shape} queries, the encoder has {rows, columns}")
            nn.init.normal_(self.bev_embedding.weight, std=_LIFTED_STD)
        self.proposals = proposals
        if proposals is not None:
            there, factor = proposals.head.coder.grid.shape[1:], proposals.factor
            if there != (rows * factor, columns * factor):
                raise ValueError(f"proposals: a grid of {there} cells, the encoder has {rows, columns} times {factor}")
            if proposals.fine is not None and (lifted is None or lifted.grid.shape[1:] != there):
                raise ValueError(f"proposals: a finer map needs lifted queries, whose {there} cells it reads")
        self.num_peaks = num_peaks
        if num_peaks:
            self.seed_content = nn.Linear(embed_dim + num_classes, embed_dim)
            self.seed_position = PointEncoding(embed_dim)

    def motion_inputs(self, motion: Motion) -> Mapping[str, Tensor]:
        """``can_bus`` (B, 18) from poses, and ``continues`` (B,) bool.

        Entries 7-15 of ``can_bus`` are 0; who has a CAN bus may write them into the state.
        """
        vector = can_bus_vector(motion, self.transformer.frame, self.wrap_turns)
        return {"can_bus": vector.float(), "continues": motion.continues}

    def forward(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None = None,
        seeds: QuerySeeds | None = None,
        depth: Tensor | None = None,
    ) -> dict[str, Any]:
        """Predict.

        Args:
            features: L maps (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.
            state: ``can_bus``, ``continues`` and, after a previous frame, its map ``bev`` (B, Y * X, C). None: a
                first frame whose motion and heading are 0.
            seeds: of the image, with ``num_peaks``; those queries follow the learned ones.
            depth: (B, N, H, W, D) distribution in the pixels of the finest level, with ``lifted``.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes), ``box_code`` (layers, B, Q, 10; m, rad, m/s) and ``state``:
            ``bev`` of this frame.
        """
        return self._detect(features, rig, state, seeds, depth)[0]

    def _detect(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        seeds: QuerySeeds | None = None,
        depth: Tensor | None = None,
    ) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
        """Outputs of :meth:`forward`, and the maps of the proposals' head."""
        bev, cells = self._encoded(features, rig, state, depth)
        layout = self.transformer.encoder.bev_shape
        image = bev.transpose(1, 2).unflatten(2, layout)
        position_range: MetricRange = self.transformer.refinement  # type: ignore[assignment]
        begun = [] if seeds is None else [self._seeded(seeds, position_range)]
        maps: list[dict[str, Tensor]] = []
        if self.proposals is not None:
            proposed, maps = self.proposals(image, position_range, cells)
            begun.append(proposed)
        seeded = SeededQueries(*(torch.cat(parts, 1) for parts in zip(*begun))) if begun else None
        embedding = self.query_embedding.weight
        decoded = self.transformer([image.unsqueeze(1)], embedding, rig, self.reg_branches, seeded)
        outputs = {"cls_logits": self.classify(decoded.queries), "box_code": decoded.code, "state": {"bev": bev}}
        return outputs, maps

    def _seeded(self, seeds: QuerySeeds, position_range: MetricRange) -> SeededQueries:
        reference = position_range.from_metric(seeds.point_m).clamp(0, 1)
        return SeededQueries(self.seed_content(seeds.known), self.seed_position(seeds.point_m), reference)

    @property
    def num_matched(self) -> int:
        """Queries of a frame that may be matched: learned ones, peaks of the images, peaks of the map."""
        return super().num_matched + (0 if self.proposals is None else self.proposals.count)

    def target_counts(self, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """Of ``QueryHead`` and of the proposals."""
        dense = {} if self.proposals is None else self.proposals.target_counts(boxes)
        return {**super().target_counts(boxes), **dense}

    def train_frame(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        boxes: Sequence[Boxes3D],
        avg_factors: Mapping[str, Tensor],
        **hints: Any,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Losses of ``QueryHead`` and, with proposals, ``map.loss_heatmap`` and ``map.loss_bbox``; see
        ``StreamingHead``."""
        outputs, maps = self._detect(features, rig, state, **hints)
        dense = {} if self.proposals is None else self.proposals.loss(maps, boxes, avg_factors)
        return {**self.loss(outputs, boxes, avg_factors["boxes"]), **dense}, outputs

    def remember(
        self, features: Sequence[Tensor], rig: CameraRig, state: Mapping[str, Tensor] | None, **hints: Any
    ) -> Mapping[str, Tensor]:
        """``bev`` of this frame, without decoding it."""
        return {"bev": self.encode(features, rig, state, hints.get("depth"))}

    def encode(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None = None,
        depth: Tensor | None = None,
    ) -> Tensor:
        """The BEV map alone (B, Y * X, C); arguments as of :meth:`forward`."""
        return self._encoded(features, rig, state, depth)[0]

    def _encoded(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        state: Mapping[str, Tensor] | None,
        depth: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The map, and the cells that its queries were lifted into."""
        state = state if state is not None else _standing(features[0])
        grid, positions, cells = self.bev_embedding.weight, self.positional_encoding(), None
        if self.lifted is not None:
            if depth is None:
                raise ValueError("queries that are lifted need the depth distribution of the images")
            queries, cells = self.lifted(features[0], depth, rig)
            grid = grid + queries
        previous = state.get("bev")
        bev = self.transformer.encode(
            features, rig, grid, positions, state["can_bus"], previous, state["continues"]
        )
        return bev, cells


def _standing(feature: Tensor) -> dict[str, Tensor]:
    """Motion of frames that follow nothing."""
    batch, device = feature.shape[0], feature.device
    can_bus = torch.zeros(batch, CAN_BUS, device=device)
    return {"can_bus": can_bus, "continues": torch.zeros(batch, dtype=torch.bool, device=device)}
