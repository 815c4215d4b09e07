"""Decoder that refines one reference point a query, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.registry import MODELS
from bev.structures import CameraRig


class Decoded(NamedTuple):
    """Result of every decoder layer.

    Attributes:
        queries: (L, B, Q, C).
        references: (L + 1, B, Q, 3) share of the range, the initial ones first.
        code: (L, B, Q, 10) box codes in m, rad, m/s.
    """

    queries: Tensor
    references: Tensor
    code: Tensor


class SeededQueries(NamedTuple):
    """Queries with a known start: ``content``, ``position`` (B, S, C), ``reference`` (B, S, 3) share of the range."""

    content: Tensor
    position: Tensor
    reference: Tensor


class Detr3DDecoder(nn.Module):
    """The layers; a module of its own for the published parameter names."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference: Tensor,
        features: Sequence[Tensor],
        rig: CameraRig,
        branches: nn.ModuleList,
        refinement: nn.Module,
        mask: Tensor | None = None,
    ) -> Decoded:
        """Refine.

        Args:
            query, query_pos: (B, Q, C).
            reference: (B, Q, 3) float32 share of the range.
            features: L maps (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.
            branches: regression branch of each layer, (B, Q, C) -> (B, Q, 10).
            refinement: (raw regression, reference) -> (new reference, box code).
            mask: (Q, Q) True where a query must not attend.
        """
        queries, references, codes = [], [reference], []
        for layer, branch in zip(self.layers, branches):
            query = layer(query, query_pos, reference, features, rig, mask)
            refined, code = refinement(branch(query).float(), reference)
            # Detached: each layer answers for its own step only (iterative refinement of Deformable DETR).
            reference = refined.detach()
            queries.append(query)
            references.append(reference)
            codes.append(code)
        return Decoded(torch.stack(queries), torch.stack(references), torch.stack(codes))


@MODELS.register_module()
class Detr3DTransformer(nn.Module):
    """Learned queries with predicted reference points, decoded.

    Args:
        embed_dim: C.
        layers: decoder layers.
        refinement: how a regression moves a reference point.
    """

    def __init__(self, embed_dim: int, layers: Sequence[nn.Module], refinement: nn.Module) -> None:
        super().__init__()
        self.reference_points = nn.Linear(embed_dim, 3)
        self.decoder = Detr3DDecoder(layers)
        self.refinement = refinement
        self._initialise()

    def _initialise(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if callable(initialise := getattr(module, "initialise", None)):
                initialise()  # attentions have their own start, not Xavier's
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self,
        features: Sequence[Tensor],
        query_embedding: Tensor,
        rig: CameraRig,
        branches: nn.ModuleList,
        seeded: SeededQueries | None = None,
    ) -> Decoded:
        """Decode learned queries.

        Args:
            features: L maps (B, N, C, H_l, W_l).
            query_embedding: (Q, 2 C): position part, then content part.
            rig, branches: as in :class:`Detr3DDecoder`.
            seeded: further queries, decoded behind the learned ones.
        """
        batch = features[0].shape[0]
        query_pos, query = query_embedding.unsqueeze(0).expand(batch, -1, -1).chunk(2, -1)
        with torch.autocast(query.device.type, enabled=False):
            reference = self.reference_points(query_pos).sigmoid()
        if seeded is not None:
            query = torch.cat([query, seeded.content.to(query.dtype)], 1)
            query_pos = torch.cat([query_pos, seeded.position.to(query_pos.dtype)], 1)
            reference = torch.cat([reference, seeded.reference], 1)
        return self.decoder(query, query_pos, reference, features, rig, branches, self.refinement)
