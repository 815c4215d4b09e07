"""DETR3D: backbone, pyramid and a set-prediction head that samples the pyramid at projected points."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bev.models.detectors.query import QueryDetector
from bev.models.heads.query_head import CODE_SIZE
from bev.registry import MODELS
from bev.structures.conventions import convert_detr_branch


@MODELS.register_module()
class Detr3D(QueryDetector):
    """DETR3D (Wang et al., CoRL 2021, arXiv 2110.06922); parameter names are those of the published checkpoints."""


def checkpoint_filter(state_dict: Mapping[str, Tensor], legacy_box_code: bool = False) -> dict[str, Tensor]:
    """Published weights -> weights of :class:`Detr3D` with the present box code.

    Understands the files of the original repository, of mmdet3d 1.x (``projects/DETR3D``) and of an FCOS3D detector
    (whose backbone and neck DETR3D starts from).

    Args:
        state_dict: of the file, a wrapper's ``module.`` included or not.
        legacy_box_code: the file learned the box code of mmdet3d < 1.0 (all of the original repository's did; names
            and shapes do not tell). Alternatively keep its weights and build the coder with ``legacy_box_code=True``.

    Returns:
        renamed tensors; regression branches converted where they need it.
    """
    converted = {}
    for name, value in state_dict.items():
        name = name.removeprefix("module.").replace("conv2_offset.", "conv2.conv_offset.")
        if name.startswith(("backbone.", "neck.")):
            name = f"img_{name}"
        last_layer = ".reg_branches." in name and value.shape[0] == CODE_SIZE
        converted[name] = convert_detr_branch(value) if legacy_box_code and last_layer else value
    return converted
