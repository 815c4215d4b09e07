"""Published checkpoints of the lift-splat detectors -> weights of :class:`LiftSplatDetector`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# BEVDepth's own code splits the detector into a backbone, which lifts, and a head, which holds the grid's encoder.
_BEVDEPTH = {
    "backbone.img_backbone.": "img_backbone.",
    "backbone.img_neck.": "img_neck.",
    "backbone.": "img_view_transformer.",
    "head.trunk.": "img_bev_encoder_backbone.",
    "head.neck.": "img_bev_encoder_neck.",
    "head.": "pts_bbox_head.",
}


def from_bevdepth(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BEVDepth's names (with or without Lightning's ``model.``) -> ours.

    Raises:
        ValueError: a key that is of neither part.
    """
    renamed = {}
    for name, value in state_dict.items():
        bare = name.removeprefix("model.")
        prefix = next((old for old in _BEVDEPTH if bare.startswith(old)), None)
        if prefix is None:
            raise ValueError(f"key {name!r} is not of a BEVDepth checkpoint: expected model.backbone.* or model.head.*")
        renamed[_BEVDEPTH[prefix] + bare.removeprefix(prefix)] = value
    return renamed


def to_bevdepth(state_dict: Mapping[str, Tensor], prefix: str = "model.") -> dict[str, Tensor]:
    """Our names -> BEVDepth's; the inverse of :func:`from_bevdepth`."""
    old_names = {new: old for old, new in _BEVDEPTH.items()}
    return {
        prefix + next(old + name.removeprefix(new) for new, old in old_names.items() if name.startswith(new)): value
        for name, value in state_dict.items()
    }


def from_bevdet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BEVDet's names, of either generation -> ours: only a wrapper's ``module.`` goes."""
    return {name.removeprefix("module."): value for name, value in state_dict.items()}
