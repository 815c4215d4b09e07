"""A head that predicts, and something beside it that only teaches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.head import DenseHead
from bev.structures import Boxes2D


class TaughtHead(nn.Module):
    """What heads with a second, training-only part share: inference and export see ``head`` alone.

    Args:
        head: predicts.
        prefix: of the second part's maps and loss terms.
    """

    def __init__(self, head: DenseHead, prefix: str) -> None:
        super().__init__()
        self.head, self.prefix = head, prefix
        self.decoder = head.decoder

    def named(self, maps: Maps) -> Maps:
        """Maps of the second part, as they stand beside the first one's."""
        return {f"{self.prefix}{name}": levels for name, levels in maps.items()}

    def parted(self, maps: Maps) -> tuple[Maps, Maps]:
        """Maps of the head and of the second part.

        Raises:
            ValueError: the second part's are not there: no forward pass in training mode.
        """
        second = {name.removeprefix(self.prefix): maps[name] for name in maps if name.startswith(self.prefix)}
        if not second:
            raise ValueError(f"{type(self).__name__}.loss needs the maps of a forward pass in training mode")
        return {name: levels for name, levels in maps.items() if not name.startswith(self.prefix)}, second

    def predict(self, maps: Maps, sizes_px: Sequence[tuple[float, float]]) -> list[Boxes2D]:
        """Boxes of the head that predicts; see :meth:`DenseHead.predict`."""
        return self.head.predict(maps, sizes_px)
