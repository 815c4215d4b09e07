"""Several network resolutions in one training, one a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bev.data.transforms.image import ImageTransform
from bev.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResolutionBuckets:
    """One of several image transforms for all samples of a batch, drawn from the batch's seed.

    Args:
        transforms: the image transforms, e.g. of different ``size``.
        weights: how often each is drawn; None: equally often.

    Raises:
        ValueError: no transforms, or weights that do not fit them.
    """

    is_random = True

    def __init__(self, transforms: Sequence[ImageTransform], weights: Sequence[float] | None = None) -> None:
        shares = np.asarray([1.0] * len(transforms) if weights is None else weights, np.float64)
        if not transforms or shares.shape != (len(transforms),) or shares.min() < 0 or shares.sum() <= 0:
            raise ValueError(f"ResolutionBuckets: {len(transforms)} transforms need as many weights, got {weights}")
        self.transforms, self.shares = tuple(transforms), shares / shares.sum()

    def choose(self, batch_seed: tuple[int, ...]) -> ImageTransform:
        """The transform of a batch."""
        rng = np.random.default_rng((*batch_seed, len(self.transforms)))
        return self.transforms[int(rng.choice(len(self.transforms), p=self.shares))]
