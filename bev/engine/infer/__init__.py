"""A detector on data without annotations: a rig's recordings in 3D, pictures and videos in 2D."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from mmengine.config import Config
from torch import nn

from bev.engine.api import checkpoint_file
from bev.io import FileError
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.models.folding import fold_batch_norms
from bev.models.reparam import switch_to_deploy
from bev.registry import MODELS, ConfigError, build_node
from bev.structures import Boxes3D, ImageBatch

Kind = Literal["rig", "pictures"]


def infer(
    cfg: Config,
    checkpoint: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    score_threshold: float = 0.25,
    device: str = "cpu",
    views: Mapping[str, Any] | None = None,
    follow: bool = False,
) -> Path:
    """Detect in a rig's folder (one with ``calib.json``), or in a picture, a folder of pictures or a video.

    Args:
        cfg: as ``load_config`` gives it; ``model`` and, for a rig, ``test_dataloader.dataset`` are used.
        checkpoint: file, or a work folder for its last one; every weight must fit.
        source: what to look at.
        out: folder that gets the results, made where it is missing.
        score_threshold: 0..1, boxes below it are left out.
        device: of torch.
        views: of pictures: arguments of :class:`bev.engine.views.PictureViews` (mirrored, scaled, tiles), in place of
            the configuration's ``test_cfg.views``.
        follow: number the objects of a video.

    Returns:
        Path of the JSON file with the detections.

    Raises:
        FileError: the source is missing or not what this detector looks at; a file of it cannot be used.
        ConfigError, CheckpointError: the detector cannot be built.
        ImportError, RenderError: pictures cannot be drawn here; the detections are written.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise FileError(f"{source} does not exist")
    file = checkpoint_file(checkpoint)
    content = load_checkpoint(file)
    model, meta = _built(cfg, content, file, device), content.get("meta")
    del content  # an optimizer's state may be twice as large as the model
    wants, found = kind_of(model), "rig" if (source / "calib.json").is_file() else "pictures"
    if wants != found:
        raise FileError(f"{source} {_WHAT_IT_IS[found]}, but {_WHAT_IT_NEEDS[wants].format(type(model).__name__)}")
    if found == "rig":
        if views is not None:
            raise ConfigError("several views (mirrored, scaled, tiles) are of single pictures, not of a rig's")
        if follow:
            raise ConfigError("objects are followed in single videos; a rig's detections are tracked by tools/track.py")
        from bev.engine.infer.rig import infer_rig

        return infer_rig(model, cfg, source, out, score_threshold=score_threshold, device=device)
    from bev.engine.infer.pictures import infer_pictures

    classes = tuple(map(str, meta.get("classes") or ())) if isinstance(meta, Mapping) else ()
    options: dict[str, Any] = {"score_threshold": score_threshold, "device": device, "views": views, "classes": classes}
    return infer_pictures(model, cfg, source, out, follow=follow, **options)


_WHAT_IT_IS = {"rig": "holds calib.json, a rig's recordings", "pictures": "has no calib.json"}
_WHAT_IT_NEEDS = {
    "rig": "{} detects in 3D and needs a rig's folder: calib.json, poses.json and pictures",
    "pictures": "{} detects in single pictures: name a picture, a folder of pictures or a video",
}


def build_detector(cfg: Config, checkpoint: str | Path, device: str) -> nn.Module:
    """The configuration's model with a checkpoint's weights (their moving average where there is one), to predict only.

    Branches and batch norms are folded into convolutions, which gives the same results up to rounding in less time.

    Raises:
        ConfigError, CheckpointError: the model cannot be built, or not every weight fits.
    """
    file = checkpoint_file(checkpoint)
    return _built(cfg, load_checkpoint(file), file, device)


def _built(cfg: Config, content: dict[str, Any], file: Path, device: str) -> nn.Module:
    if cfg.get("model") is None:
        raise ConfigError(f"{cfg.filename}: config key 'model' is missing")
    model: nn.Module = build_node(cfg.model, MODELS, path="model")
    load_weights(model, weights_of(content, file), file)
    switch_to_deploy(model.eval())
    fold_batch_norms(model)
    # As in training: images are channels_last.
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def kind_of(model: nn.Module) -> Kind:
    """What a detector looks at, as the types of its ``predict`` say: batches of rigs or of single pictures.

    Raises:
        ConfigError: it predicts no boxes (e.g. maps of the ground).
    """
    predict: Any = getattr(type(model), "predict", None)
    hints: dict[str, Any] = {} if predict is None else get_type_hints(predict)
    result = hints.get("return")
    if hints.get("batch") is ImageBatch:
        return "pictures"
    if get_origin(result) is not list or get_args(result) != (Boxes3D,):
        raise ConfigError(f"{type(model).__name__} predicts no boxes, so there is nothing to draw")
    return "rig"
