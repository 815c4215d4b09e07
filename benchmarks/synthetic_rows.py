"""The rows of ``benchmarks.synthetic``: families, their twins without a past, ablations, and the world they see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        config: configuration file.
        steps: of two frames; None: what the configuration says.
        options: changes to it, as ``tools/train.py --cfg-options`` takes them.
        against: name of the row to compare with, of which this one is a twin or an ablation.
    """

    config: str
    steps: int | None = None
    options: tuple[str, ...] = ()
    against: str | None = None


_ALONE = ("train_dataloader.sampler.clip_frames=1", "val_dataloader.sampler.type=EvalSampler")
_NO_DEPTH = ("model.depth_loss_weight=0.0", "model.measured_share=0.0")
_NO_IMAGES = (*_NO_DEPTH, "model.center_loss_weight=0.0", "model.image_evidence=0.0")
_BEVDET, _DETR3D = "configs/bevdet/bevdet_tiny_synthetic.py", "configs/detr3d/detr3d_tiny_synthetic.py"
_BEVFORMER = "configs/bevformer/bevformer_tiny_synthetic.py"
_STREAMPETR = "projects/streampetr/configs/streampetr_tiny_synthetic.py"

# Of ``tools/create_data.py synthetic``: the demo's quiet town with twice its scenes, for trainings of up to an hour.
WORLD = "--scenes 1240 --val-scenes 40 --frames-per-scene 4 --sweeps 1 --traffic-percent 30 --seed 0"

FAMILIES = {
    "lift-splat": Row(_BEVDET, 18000),
    "BEVDepth": Row("configs/bevdepth/bevdepth_tiny_synthetic.py", 4000),
    "DETR3D": Row(_DETR3D, 10000),
    "BEVFormer": Row(_BEVFORMER, 4500),
    "BEVFormer, lifted queries": Row("configs/bevformer/bevformer_tiny_lifted_synthetic.py", 8000),
    "PETR": Row("projects/petr/configs/petr_tiny_synthetic.py", 6000),
    "StreamPETR": Row(_STREAMPETR, 6000),
    "BEVDet4D": Row("configs/bevdet/bevdet4d_tiny_synthetic.py", 4000),
}
ABLATIONS = {
    "BEVDet4D, one frame": Row("configs/bevdet/bevdet4d_single_tiny_synthetic.py", 4000, against="BEVDet4D"),
    "BEVFormer, one frame": Row(_BEVFORMER, 4500, _ALONE, "BEVFormer"),
    "StreamPETR, one frame": Row(_STREAMPETR, 6000, _ALONE, "StreamPETR"),
    # Minutes instead of an hour: what is left out shows early.
    "lift-splat, short": Row(_BEVDET),
    "lift-splat, short, no depth loss": Row(_BEVDET, None, _NO_DEPTH, "lift-splat, short"),
    "lift-splat, short, no image losses": Row(_BEVDET, None, _NO_IMAGES, "lift-splat, short"),
    "lift-splat, short, calibrations exchanged": Row(
        "configs/ablations/bevdet_tiny_exchanged_synthetic.py", against="lift-splat, short, no image losses"
    ),
    "DETR3D, short": Row(_DETR3D),
    "DETR3D, short, no depth loss": Row(_DETR3D, None, ("model.loss_weights.depth=0.0",), "DETR3D, short"),
}
ROWS = {**FAMILIES, **ABLATIONS}
