"""Detectors and their parts; importing this registers them all."""

from bev.models import (
    assigners,
    attention,
    backbones,
    coders,
    detectors,
    grid_mask,
    heads,
    losses,
    necks,
    preprocess,
    priors,
    view,
)

__all__ = [
    "assigners",
    "attention",
    "backbones",
    "coders",
    "detectors",
    "grid_mask",
    "heads",
    "losses",
    "necks",
    "preprocess",
    "priors",
    "view",
]
