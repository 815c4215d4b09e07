"""The rows of ``benchmarks.synthetic``: families, their twins without a past, ablations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        config: configuration file.
        options: changes to it, as ``tools/train.py --cfg-options`` takes them.
        against: name of the row to compare with, of which this one is a twin or an ablation.
    """

    config: str
    options: tuple[str, ...] = ()
    against: str | None = None


_ALONE = ("train_dataloader.sampler.type=EndlessSampler", "val_dataloader.sampler.type=EvalSampler")
_NO_DEPTH = ("model.depth_loss_weight=0.0", "model.measured_share=0.0")
_NO_IMAGES = (*_NO_DEPTH, "model.center_loss_weight=0.0", "model.image_evidence=0.0")
_BEVDET, _DETR3D = "configs/bevdet/bevdet_tiny_synthetic.py", "configs/detr3d/detr3d_tiny_synthetic.py"
_BEVFORMER = "configs/bevformer/bevformer_tiny_synthetic.py"
_STREAMPETR = "projects/streampetr/configs/streampetr_tiny_synthetic.py"

FAMILIES = {
    "lift-splat": Row(_BEVDET),
    "BEVDepth": Row("configs/bevdepth/bevdepth_tiny_synthetic.py"),
    "DETR3D": Row(_DETR3D),
    "BEVFormer": Row(_BEVFORMER),
    "PETR": Row("projects/petr/configs/petr_tiny_synthetic.py"),
    "StreamPETR": Row(_STREAMPETR),
    "BEVDet4D": Row("configs/bevdet/bevdet4d_tiny_synthetic.py"),
}
ABLATIONS = {
    "BEVDet4D, one frame": Row("configs/bevdet/bevdet4d_single_tiny_synthetic.py", (), "BEVDet4D"),
    "BEVFormer, one frame": Row(_BEVFORMER, _ALONE, "BEVFormer"),
    "StreamPETR, one frame": Row(_STREAMPETR, _ALONE, "StreamPETR"),
    "lift-splat, no depth loss": Row(_BEVDET, _NO_DEPTH, "lift-splat"),
    "DETR3D, no depth loss": Row(_DETR3D, ("model.loss_weights.depth=0.0",), "DETR3D"),
    "lift-splat, no image losses": Row(_BEVDET, _NO_IMAGES, "lift-splat"),
    "lift-splat, calibrations exchanged": Row(
        "configs/ablations/bevdet_tiny_exchanged_synthetic.py", (), "lift-splat, no image losses"
    ),
}
ROWS = {**FAMILIES, **ABLATIONS}
