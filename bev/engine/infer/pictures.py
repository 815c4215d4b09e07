"""A 2D detector on pictures and videos: drawn boxes, and all of them in one JSON file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track
from torch import nn

from bev.data.detection2d import PICTURE_SUFFIXES
from bev.data.detection2d.letterbox import letterbox
from bev.data.detection2d.picture import PAD_VALUE
from bev.engine.views import NetworkInput, PictureViews, build_views
from bev.io import FileError
from bev.io.images import read_image
from bev.io.json_files import write_json
from bev.registry import ConfigError
from bev.structures import Boxes2D, ImageBatch
from bev.tracking import Tracker2D, Tracker2DSettings
from bev.viz.boxes2d import better_than, draw_boxes, write_picture
from bev.viz.drawing_paths import drawing_paths

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
RESULTS = "detections.json"


@dataclass(frozen=True)
class PictureInput(NetworkInput):
    """How a configuration's test data prepares pictures.

    Attributes:
        classes: names of the labels; empty where the configuration does not say.
        views: what is looked at of a picture; None: the whole picture, once.
    """

    classes: tuple[str, ...] = ()
    views: PictureViews | None = None

    def name(self, label: int) -> str:
        """Of a class; its number where it has no name."""
        return self.classes[label] if label < len(self.classes) else str(label)


def infer_pictures(
    model: nn.Module,
    cfg: Config,
    source: Path,
    out: Path,
    *,
    score_threshold: float,
    device: str,
    views: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    follow: bool = False,
) -> Path:
    """Detect in a picture, in all pictures of a folder (and its folders), or in a video.

    Args:
        model: a detector of single pictures, in evaluation mode, on ``device``.
        cfg: its configuration: ``test_dataloader.dataset`` (else ``val_dataloader``'s, ``train_dataloader``'s) says the
            network's size and the classes' names; its files need not exist.
        source: what to look at.
        out: folder; gets drawn pictures (a video: a drawn video) and ``detections.json``.
        score_threshold: 0..1, boxes below it are left out.
        device: of torch.
        views: arguments of :class:`bev.engine.views.PictureViews`, which take the place of ``test_cfg.views``.
        classes: names of the labels where the configuration does not list them (a checkpoint has them).
        follow: number the objects of a video (:class:`bev.tracking.Tracker2D`). Then the boxes are those of numbered
            objects: also weaker ones than ``score_threshold`` that continue one, while a new one needs .1 more.

    Returns:
        Path of the JSON: ``classes``, ``score_threshold`` and ``pictures``, a list of ``file``, ``size_px`` (H, W) and
        ``boxes`` (``name``, ``label``, ``score``, ``xyxy_px`` in the file's px); pictures also have their ``drawing``,
        frames of a video ``frame`` and ``time_s``, and followed boxes ``track``. A picture that cannot be read has
        ``error`` in place of the boxes.

    Raises:
        FileError: the source is missing, is no picture or video, holds none, or nothing in it can be read.
        ConfigError: the configuration does not say the network's size.
    """
    source, out = Path(source), Path(out)
    how = picture_input(cfg, views, classes)
    out.mkdir(parents=True, exist_ok=True)
    if source.suffix.lower() in VIDEOS and source.is_file():
        tracker = _tracker(score_threshold) if follow else None
        rows = _video(model, how, source, out, score_threshold, device, tracker)
    elif follow:
        raise FileError(f"{source}: objects are followed through videos ({', '.join(VIDEOS)})")
    else:
        rows = _files(model, how, source, out, score_threshold, device)
    path = out / RESULTS
    content = {"source": str(source), "classes": how.classes, "score_threshold": score_threshold, "pictures": rows}
    write_json(path, content, indent=1)
    return path


def picture_input(
    cfg: Config, views: Mapping[str, Any] | None = None, names: Sequence[str] = ()
) -> PictureInput:
    """How test pictures are prepared; raises ConfigError where no data section says the size."""
    chosen = (cfg.get("test_cfg") or {}).get("views") if views is None else views
    made = None if chosen is None else build_views(chosen, "test_cfg.views")
    for stage in ("test", "val", "train"):
        node = (cfg.get(f"{stage}_dataloader") or {}).get("dataset") or {}
        if node.get("type") == "PictureDataset":
            size = node["size"]
            first = size if isinstance(size[0], int) else size[0]
            pictures: Mapping[str, Any] = node.get("pictures") or {}
            classes = tuple(pictures.get("classes") or names)
            place, pad_value = node.get("place", "corner"), node.get("pad_value", PAD_VALUE)
            return PictureInput((first[0], first[1]), place, pad_value, classes, made)
    raise ConfigError(f"{cfg.filename}: config key 'test_dataloader.dataset' must be a PictureDataset: it has the size")


@torch.inference_mode()
def detect_picture(model: nn.Module, how: PictureInput, image: np.ndarray, token: str, device: str) -> Boxes2D:
    """Boxes of one (H, W, 3) uint8 RGB picture, in its px, by falling score, on CPU."""
    if how.views is not None:
        return how.views.detect(model.predict, image, how, token, device)  # type: ignore[arg-type]
    scaled, matrix = letterbox(image, how.size_px, how.pad_value, how.place)
    pixels = torch.from_numpy(scaled).permute(2, 0, 1)[None].to(device)
    batch = ImageBatch(pixels, torch.from_numpy(matrix)[None].to(device), [(image.shape[0], image.shape[1])], [token])
    found: Boxes2D = model.predict(batch)[0]  # type: ignore[operator]
    return found.to("cpu")


def _files(
    model: nn.Module, how: PictureInput, source: Path, out: Path, score_threshold: float, device: str
) -> list[dict[str, Any]]:
    files = _listed(source, out)
    base = source if source.is_dir() else source.parent
    names = [str(file.relative_to(base)) for file in files]
    drawings = dict(zip(files, drawing_paths(names, out, files)))
    rows: list[dict[str, Any]] = []
    for file, drawing in track(drawings.items(), description="pictures", disable=len(files) < 2):
        name = str(file.relative_to(base))
        try:
            image = read_image(file, upright=True)
        except FileError as error:
            # One damaged picture of a folder is no reason to lose the others; alone it is the answer.
            if len(files) == 1:
                raise
            rows.append({"file": name, "error": str(error)})
            continue
        boxes = better_than(detect_picture(model, how, image, name, device), score_threshold)
        write_picture(drawing, draw_boxes(image, boxes, _names(how, boxes)))
        place = {"file": name, "drawing": str(drawing.relative_to(out))}
        rows.append({**place, "size_px": list(image.shape[:2]), "boxes": _rows(boxes, how)})
    if all("error" in row for row in rows):
        raise FileError(f"{source}: none of its {len(rows)} pictures can be read; the first: {rows[0]['error']}")
    return rows


def _listed(source: Path, out: Path) -> list[Path]:
    """Pictures of the source, without those of an earlier run into a folder within it."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileError(f"{source}: no such picture, folder or video")
    target = out.resolve()
    files = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file()]
    files = [p for p in files if target == source.resolve() or target not in p.resolve().parents]
    if not files:
        raise FileError(f"{source}: no pictures in it ({', '.join(PICTURE_SUFFIXES)})")
    return files


def _video(
    model: nn.Module,
    how: PictureInput,
    source: Path,
    out: Path,
    score_threshold: float,
    device: str,
    tracker: Tracker2D | None,
) -> list[dict[str, Any]]:
    rate, writer = _rate(source), None
    rows: list[dict[str, Any]] = []
    path = out / f"{source.stem}_detections.mp4"
    try:
        for number, image in enumerate(_frames(source)):
            found = detect_picture(model, how, image, f"{source.name}:{number}", device)
            boxes, numbers = better_than(found, score_threshold), None
            if tracker is not None:
                boxes, numbers = _followed(tracker, found, number / rate)
            drawn = draw_boxes(image, boxes, _names(how, boxes), numbers=numbers)
            if writer is None:
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, drawn.shape[1::-1])
            writer.write(np.ascontiguousarray(drawn[..., ::-1]))
            place = {"file": source.name, "frame": number, "time_s": round(number / rate, 4)}
            rows.append({**place, "size_px": list(image.shape[:2]), "boxes": _rows(boxes, how, numbers)})
    finally:
        if writer is not None:
            writer.release()
    if not rows:
        raise FileError(f"{source}: not a video that OpenCV can read, or one without frames")
    return rows


def _tracker(score_threshold: float) -> Tracker2D:
    """Scores from the threshold on are associated first; a new object needs .1 more, as in ByteTrack."""
    start, weak = min(1.0, score_threshold + 0.1), min(0.1, score_threshold)
    return Tracker2D(Tracker2DSettings(high_score=score_threshold, low_score=weak, start_score=start))


def _followed(tracker: Tracker2D, found: Boxes2D, time_s: float) -> tuple[Boxes2D, list[int]]:
    """The boxes of numbered objects, and their numbers."""
    found = found[(found.xyxy_px[:, 2:] > found.xyxy_px[:, :2]).all(-1)]
    numbers = torch.from_numpy(tracker.update(found.xyxy_px, found.score, found.label, time_s))
    return found[numbers >= 0], numbers[numbers >= 0].tolist()


def _rate(source: Path) -> float:
    capture = cv2.VideoCapture(str(source))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate < 1000 else 25.0


def _frames(source: Path) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB, one after the other."""
    capture = cv2.VideoCapture(str(source))
    try:
        while True:
            done, frame = capture.read()
            if not done:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def _names(how: PictureInput, boxes: Boxes2D) -> list[str]:
    most = int(boxes.label.max()) + 1 if len(boxes) else 0
    return [how.name(label) for label in range(max(most, len(how.classes)))]


def _rows(boxes: Boxes2D, how: PictureInput, numbers: Sequence[int] | None = None) -> list[dict[str, Any]]:
    rows = [
        {"name": how.name(label), "label": label, "score": round(score, 5), "xyxy_px": [round(v, 2) for v in corners]}
        for corners, label, score in zip(boxes.xyxy_px.tolist(), boxes.label.tolist(), boxes.score.tolist())
    ]
    return rows if numbers is None else [{**row, "track": number} for row, number in zip(rows, numbers)]
