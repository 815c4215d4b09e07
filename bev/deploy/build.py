"""From a configuration and a checkpoint to a graph: what ``tools/export.py`` does."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.deploy.export import ExportError
from bev.deploy.graph import DetectorGraph, Outputs
from bev.deploy.pictures import picture_of
from bev.deploy.pipeline import image_of
from bev.deploy.surgery import Surgery
from bev.engine.api import checkpoint_file
from bev.engine.config import load_config
from bev.io import FileError
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.models.detectors.dense import DenseDetector
from bev.models.detectors.temporal import TemporalDetector
from bev.models.motion import Motion
from bev.registry import DATASETS, MODELS
from bev.structures import Batch, CameraRig, collate
from bev.structures.conventions import CLASSES


@dataclass(frozen=True)
class Exportable:
    """A detector with an example of what it sees.

    Attributes:
        model: with its weights, in evaluation mode.
        images: example (B, N, 3, H, W) or, for pictures, (B, 3, H, W) uint8.
        rig: of the example, with batch axis; None for pictures.
        metadata: kept with the graph.
        state: of temporal detectors with a previous frame, as their ``forward`` takes it; None for others.
    """

    model: nn.Module
    images: Tensor
    rig: CameraRig | None
    metadata: dict[str, Any]
    state: Mapping[str, Tensor] | None = None

    def graph(
        self,
        bake: bool = False,
        outputs: Outputs = "boxes",
        plugins: bool = False,
        surgery: Surgery = Surgery(),
    ) -> DetectorGraph:
        """The detector as a graph; see :class:`DetectorGraph`."""
        return DetectorGraph(self.model, self.images, self.rig, self.state, bake, outputs, surgery, plugins)

    @staticmethod
    def streaming(model: TemporalDetector, frame: Batch, metadata: dict[str, Any]) -> Exportable:
        """A detector with memory after its first frame: the graph takes and gives the state, also for first frames.

        A recording's first frame has zeros for the memory and ``continues`` False; between frames the caller tells the
        motion (``motion_inputs``). Poses in the graph are float32.
        """
        motion = model.motion_inputs(Motion.first(frame))
        with torch.no_grad():
            memory = model.eval()(frame.images, frame.rig, motion)["state"]
        state = {n: v.float() if v.is_floating_point() else v for n, v in {**motion, **memory}.items()}
        state = {name: value.contiguous() for name, value in state.items()}
        return Exportable(model, frame.images, frame.rig, metadata, state)


def load_detector(config: Any, checkpoint: str | Path) -> nn.Module:
    """A configuration's detector with a checkpoint's weights, in evaluation mode.

    ``checkpoint`` is a file, a work folder for its last one, or official YOLOX weights (``*.onnx``).

    Raises:
        CheckpointError: the weights are of another model.
    """
    model = MODELS.build(config.model)
    if Path(checkpoint).suffix == ".onnx":
        from bev.models.detectors.yolox_weights import load_onnx

        if not isinstance(model, DenseDetector):
            raise ExportError(f"{checkpoint}: only official YOLOX weights are read from ONNX")
        load_onnx(model, checkpoint)
    else:
        file = checkpoint_file(checkpoint)
        load_weights(model, weights_of(load_checkpoint(file), file), file)
    return model.eval()


def prepare_export(
    config_path: str | Path,
    checkpoint: str | Path,
    rig_file: str | Path | None = None,
    batch: int = 1,
    size_px: tuple[int, int] | None = None,
    options: Sequence[str] = (),
) -> Exportable:
    """Detector and example.

    Args:
        config_path: configuration.
        checkpoint: its weights.
        rig_file: calibration written by :func:`save_rig`; default: the first test frame of the configuration.
        batch: frames of the example.
        size_px: (H, W) of pictures, for 2D detectors.
        options: ``key=value`` that change the configuration.

    Raises:
        ExportError: neither a calibration nor a data set is there, or no size of pictures.
    """
    config = load_config(config_path, options)
    model = load_detector(config, checkpoint)
    metadata: dict[str, Any] = {"config": Path(config_path).name, "git": _revision(), "classes": list(CLASSES)}
    if isinstance(model, DenseDetector):
        if size_px is None:
            raise ExportError("a detector of single pictures needs the size of its images: --size HEIGHT WIDTH")
        images = torch.randint(0, 256, (batch, 3, *size_px), dtype=torch.uint8, generator=_seeded())
        return Exportable(model, images, None, {**metadata, "classes": None, "picture": picture_of(config, size_px)})
    metadata["image"] = image_of(config)
    if rig_file is not None:
        rig = load_rig(rig_file)
        shape = (rig.num_cameras, 3, *rig.image_size_px)
        images = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=_seeded())
        frames = as_batch(images, CameraRig.stack([rig] * batch))
    else:
        frames = frames_of(config, batch)
    if isinstance(model, TemporalDetector) and model.remembers:
        return Exportable.streaming(model, frames, metadata)
    return Exportable(model, frames.images, frames.rig, metadata)


def as_batch(images: Tensor, rig: CameraRig) -> Batch:
    """Frames without a past, at the origin."""
    count = len(images)
    pose = torch.eye(4, dtype=torch.float64).expand(count, 4, 4)
    return Batch(images, rig, pose, [""] * count, torch.zeros(count, dtype=torch.int64), [""] * count)


def frames_of(config: Any, count: int) -> Batch:
    """The first test frames of a configuration.

    Raises:
        ExportError: it names no data set, or the data set is not there.
    """
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if loader is None:
        raise ExportError("the configuration names no test frames: give the calibration with --rig")
    try:
        dataset = DATASETS.build(loader.dataset.to_dict())
    except (OSError, FileError) as error:
        raise ExportError(f"no test frames ({error}); give the calibration with --rig") from error
    samples = [dataset[i % len(dataset)] for i in range(count)]
    return collate([replace(sample, boxes=None, points=None) for sample in samples])


def save_rig(rig: CameraRig, path: str | Path) -> None:
    """Write a rig without batch axis as ``.npz``."""
    arrays: Mapping[str, Any] = {
        "intrinsics": rig.intrinsics.numpy(),
        "cam_from_ref": rig.cam_from_ref.numpy(),
        "image_aug": rig.image_aug.numpy(),
        "image_size_px": np.array(rig.image_size_px),
        "names": np.array(rig.names),
    }
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_rig(path: str | Path) -> CameraRig:
    """Read what :func:`save_rig` wrote.

    Raises:
        ExportError: no such file, or not a rig.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            intrinsics, poses, homographies = (
                torch.from_numpy(file[name]) for name in ("intrinsics", "cam_from_ref", "image_aug")
            )
            height, width = (int(side) for side in file["image_size_px"])
            names = tuple(str(name) for name in file["names"])
        seconds = torch.zeros(len(names), dtype=torch.int64)
        rig = CameraRig(intrinsics, poses, homographies, (height, width), names, seconds)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{path} is not a rig written by save_rig ({type(error).__name__}: {error})") from error
    return rig.check(str(path))


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _revision() -> str | None:
    """Git revision of the library's checkout; None where it is installed or git is not there."""
    folder = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
