"""Recordings of any rig in the folder format (:mod:`bev.data.folder.schema`) -> 3D detections and pictures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track
from torch import Tensor, nn

from bev.data.folder import FolderDataset
from bev.data.folder.schema import Calibration, read_json
from bev.data.frames import FrameDataset
from bev.data.whole import whole_frames
from bev.engine.adapter import DetectorAdapter
from bev.engine.data import build_dataloader
from bev.engine.infer.detections import write_detections
from bev.evaluation.nuscenes.submission import to_global
from bev.geometry.transforms import rigid_from_quaternion
from bev.registry import DATASETS, ConfigError, build_node
from bev.structures import Batch, Boxes3D
from bev.structures.conventions import CAMERAS_DETR3D
from bev.viz import DrawOptions, RenderError, draw_results

_LOG = logging.getLogger("bev.engine")
# What of a configuration's test data describes the network's input, and so holds for other recordings too.
_KEPT = ("frame", "image", "transforms", "history", "history_pool", "on_error")
# Where nuScenes' LiDAR is (its published calibration), in whose frame many detectors predict: x right, y forward.
NUSCENES_EGO_FROM_LIDAR = rigid_from_quaternion(
    torch.tensor([0.707795515, -0.006492243, 0.010646210, -0.706307312], dtype=torch.float64),
    torch.tensor([0.943713, 0.0, 1.840230], dtype=torch.float64),
)
_NUSCENES_LIDAR = "this detector predicts in a LiDAR frame, so nuScenes' is taken: x right, 0.94 m ahead, 1.84 m up"


def infer_rig(
    model: nn.Module, cfg: Config, source: Path, out: Path, *, score_threshold: float, device: str
) -> Path:
    """Detect in every frame of every recording, in order of time, as testing does.

    Args:
        model: a detector of rigs, on its device, in evaluation mode.
        cfg: the cameras' order, the frame and the network's pictures are those of ``test_dataloader.dataset``.
        source: the rig's folder; any number of cameras of any sizes.
        out: gets ``detections.json`` (:mod:`bev.engine.infer.detections`) and ``pictures/*.png``.
        score_threshold: 0..1, boxes below it are left out.
        device: of the model.

    Returns:
        Path of the JSON file.

    Raises:
        FileError: a file of the folder cannot be used (``on_error="raise"``).
        ConfigError: the configuration has no test data, or the detector cannot take this rig.
        ImportError, RenderError: the pictures cannot be drawn here; the JSON file is written before.
    """
    frames = rig_frames(cfg, source)
    found = _predict(model, frames, cfg, score_threshold)
    path = write_detections(out / "detections.json", frames, found, score_threshold)
    options = DrawOptions(score_threshold=score_threshold)
    try:
        draw_results(whole_frames(frames, "ego"), found, out / "pictures", options=options)
    except (ImportError, RenderError) as error:
        raise type(error)(f"{error} (the detections are in {path})") from error
    return path


def rig_frames(cfg: Config, source: Path) -> FolderDataset:
    """A folder's frames as the configuration's detector reads its test frames.

    Cameras come in the configuration's order where the folder has all of them, else in the order of ``calib.json``. A
    detector of the LiDAR frame on a rig without LiDAR gets the place of nuScenes' LiDAR, from which it has learned.

    Raises:
        ConfigError, FileError: as :func:`infer_rig`.
    """
    node = (cfg.get("test_dataloader") or {}).get("dataset")
    if not node:
        raise ConfigError(f"{cfg.filename}: config key 'test_dataloader.dataset' is missing: it says what is seen")
    calibration = read_json(source / "calib.json", Calibration)
    options = {key: node[key] for key in _KEPT if key in node}
    wanted = list(node.get("cameras") or CAMERAS_DETR3D)
    if set(wanted) <= set(calibration.cameras):
        options["cameras"] = wanted
    if node.get("frame", "lidar") == "lidar" and calibration.ego_from_lidar is None:
        _LOG.warning("%s: calib.json has no ego_from_lidar; %s", source, _NUSCENES_LIDAR)
        options["ego_from_lidar"] = NUSCENES_EGO_FROM_LIDAR.tolist()
    frames: FolderDataset = build_node(
        {"type": "FolderDataset", "root": str(source), **options}, DATASETS, path="test_dataloader.dataset"
    )
    return frames


def _predict(model: nn.Module, frames: FolderDataset, cfg: Config, score_threshold: float) -> dict[str, Boxes3D]:
    """Boxes in the ego frame by token, float64, from the threshold on."""
    loader = build_dataloader(
        {
            "dataset": frames,
            "batch_size": 1,
            "num_workers": cfg.test_dataloader.get("num_workers", 0),
            "sampler": {"type": "SceneEvalSampler"},
        },
        path="test_dataloader",
        seed=0,
        train=False,
    )
    adapter, found = DetectorAdapter(model), {}  # type: ignore[arg-type]
    with torch.inference_mode():
        for batch in track(loader, description="frames"):
            boxes = _of_batch(adapter, batch, frames)[0]
            ego = in_ego(boxes, batch.global_from_ref[0], batch.tokens[0], frames)
            found[batch.tokens[0]] = ego[ego.score >= score_threshold]
    return found


def in_ego(boxes: Boxes3D, global_from_ref: Tensor, token: str, frames: FrameDataset) -> Boxes3D:
    """Boxes of a frame in the vehicle's frame, float64.

    Through the global frame: the reference frame may be turned by a transform.

    Args:
        boxes: in the reference frame.
        global_from_ref: (4, 4) m.
        token: of the frame.
        frames: that it is one of.
    """
    pose = torch.from_numpy(np.array(frames.index.global_from_ego[frames.index.frame_of[token]]))
    return to_global(boxes, global_from_ref).transform(torch.linalg.inv(pose), "ego")


def _of_batch(adapter: DetectorAdapter, batch: Batch, frames: FolderDataset) -> list[Boxes3D]:
    try:
        return adapter.val_step(batch)
    except ValueError as error:  # e.g. an embedding that is learned for another number of cameras
        message = f"{frames.root}: the detector cannot take frame {batch.tokens[0]} of this rig: {error}"
        raise ConfigError(message) from error
