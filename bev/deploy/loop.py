"""A graph over recordings: a rig's folder in 3D; a picture, a folder of pictures or a video in 2D; with stage times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from bev.data.folder import FolderDataset
from bev.data.folder.schema import Calibration, read_json
from bev.deploy.facts import GraphFacts, WrongKind
from bev.deploy.pictures import PicturePipeline
from bev.deploy.pipeline import Pipeline
from bev.deploy.stage_times import StageTimes
from bev.engine.infer.detections import write_detections
from bev.engine.infer.pictures import infer_pictures
from bev.engine.infer.rig import NUSCENES_EGO_FROM_LIDAR, in_ego
from bev.io import FileError
from bev.io.json_files import write_json
from bev.registry import TRANSFORMS
from bev.structures import Boxes2D, CameraRig, ImageBatch, Sample

TIMES = "times.json"


def run_graph(
    path: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    score_threshold: float = 0.25,
    threads: int | None = None,
    device: int = 0,
    limit: int | None = None,
    warm_up: int = 1,
) -> tuple[Path, StageTimes]:
    """Detect in every frame of a source with an exported graph or an engine.

    Args:
        path: ``*.onnx``, ``*.pt2``, ``*.aoti.pt2`` or ``*.engine``.
        source: for graphs of a rig a folder with ``calib.json`` (docs/data.md); for those of pictures a picture, a
            folder of pictures or a video.
        out: folder that gets ``detections.json`` (as ``tools/infer.py`` writes it), ``times.json`` and, of pictures,
            drawn ones.
        score_threshold: 0..1, boxes below it are left out.
        threads: of onnxruntime.
        device: index of the GPU, for engines.
        limit: so many frames of a rig at most; None: all.
        warm_up: first frames without times.

    Returns:
        Path of ``detections.json``, and the times.

    Raises:
        FileError: the source is missing or not what this graph looks at.
        ExportError: the graph cannot be run here.
        ValueError: the source's cameras are others than the graph's.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise FileError(f"{source} does not exist")
    times, is_rig = StageTimes(warm_up), (source / "calib.json").is_file()
    try:
        if is_rig:
            pipeline = Pipeline(path, threads=threads, device=device)
        else:
            pictures = PicturePipeline(path, threads, device)
    except WrongKind as error:
        raise FileError(f"{source} holds {'a rig' if is_rig else 'no calib.json: pictures'}, but {error}") from error
    if is_rig:
        written = _run_rig(pipeline, source, out, score_threshold, times, limit)
    else:
        written = _run_pictures(pictures, source, out, score_threshold, times)
    head = {"graph": Path(path).name, "threads": threads, "warm_up": warm_up}
    write_json(out / TIMES, {**head, "stages": times.rows()}, indent=1)
    return written, times


def _run_rig(
    pipeline: Pipeline, source: Path, out: Path, score_threshold: float, times: StageTimes, limit: int | None
) -> Path:
    assert pipeline.facts is not None and pipeline.facts.calibration is not None
    frames = graph_frames(pipeline.facts, pipeline.image, source)
    found = {}
    start = time.perf_counter()
    for sample in _samples(frames, limit):
        read_ms = 1e3 * (time.perf_counter() - start)
        images, rig = sample.images[None].numpy(), CameraRig.stack([sample.rig])
        boxes = pipeline.detect(images, rig, sample.global_from_ref.numpy(), sample.timestamp_us, sample.scene)
        stages = {name: value for name, value in pipeline.times_ms.items() if name != "prepare"}
        total = 1e3 * (time.perf_counter() - start)
        device = {f"gpu {name}": value for name, value in pipeline.device_times_ms.items()}
        times.add({"read": read_ms, **stages, **device, "total": total})
        ego = in_ego(boxes, sample.global_from_ref, sample.token, frames)
        found[sample.token] = ego[ego.score >= score_threshold]
        start = time.perf_counter()
    kept = frames if limit is None else _first(frames, list(found))
    return write_detections(out / "detections.json", kept, found, score_threshold)


def _samples(frames: FolderDataset, limit: int | None) -> Iterator[Sample]:
    """In order of time within each recording."""
    order = np.lexsort((np.asarray(frames.index.timestamp_us)[frames.frames], frames.scene_of_samples()))
    for position in order[:limit].tolist():
        yield frames[position]


def _first(frames: FolderDataset, tokens: list[str]) -> FolderDataset:
    rows = [frames.index.frame_of[token] for token in tokens]
    frames.frames = np.array(sorted(rows), dtype=np.int64)
    return frames


def graph_frames(facts: GraphFacts, image: Mapping[str, Any] | None, source: Path) -> FolderDataset:
    """A rig's folder as a graph looks at it: its cameras, its reference frame, its network images.

    Raises:
        FileError: a file of the folder is missing or wrong.
    """
    assert facts.calibration is not None
    calibration, frame = read_json(source / "calib.json", Calibration), facts.finish.get("frame", "lidar")
    options: dict[str, Any] = {"frame": frame, "cameras": list(facts.calibration.camera_names)}
    if frame == "lidar" and calibration.ego_from_lidar is None:
        options["ego_from_lidar"] = NUSCENES_EGO_FROM_LIDAR.tolist()
    missing = [name for name in options["cameras"] if name not in calibration.cameras]
    if missing:
        raise FileError(f"{source}: calib.json has no cameras {missing}, which the graph is made for")
    return FolderDataset(str(source), image=None if image is None else TRANSFORMS.build(dict(image)), **options)


class _TimedPictures(torch.nn.Module):
    """A :class:`PicturePipeline` where a detector is expected, that tells its times."""

    def __init__(self, pipeline: PicturePipeline, times: StageTimes) -> None:
        super().__init__()
        self._pipeline, self._times = pipeline, times

    def predict(self, batch: ImageBatch) -> list[Boxes2D]:
        found = self._pipeline.predict(batch)
        stages = {name: self._pipeline.times_ms[name] for name in ("network", "finish")}
        device = {f"gpu {name}": value for name, value in self._pipeline.device_times_ms.items()}
        self._times.add({**stages, **device, "total": sum(stages.values())})
        return found


def _run_pictures(
    pipeline: PicturePipeline, source: Path, out: Path, score_threshold: float, times: StageTimes
) -> Path:
    """As ``tools/infer.py`` does, with the graph in the detector's place."""
    how = {"size": pipeline.size_px, "place": pipeline.place, "pad_value": pipeline.pad_value}
    dataset = {"type": "PictureDataset", **how, "pictures": {"classes": list(pipeline.classes)}}
    config = Config({"test_dataloader": {"dataset": dataset}})
    timed = _TimedPictures(pipeline, times)
    return infer_pictures(timed, config, source, out, score_threshold=score_threshold, device="cpu")
