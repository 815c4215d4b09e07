"""Key frames as samples: what nuScenes tables, info files and other sources have in common."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bev.data.draw import Draw
from bev.data.frame_index import FrameIndex
from bev.data.transforms import ImageDraw, ImageTransform, SampleTransform
from bev.geometry.rotations import matrix_from_quaternion, yaw_from_matrix
from bev.io import FileError
from bev.io.images import read_image
from bev.io.points import read_nuscenes_points
from bev.registry import suggest
from bev.structures import Boxes3D, CameraRig, PointCloud, Sample
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES

_LOG = logging.getLogger(__name__)

OnError = Literal["raise", "skip", "blank_camera"]
# So many unreadable frames one after the other are no accident but a missing disk.
_MAX_SKIPS = 100
_SKIPPED, _BLANKED = 1, 2


class FrameDataset(Dataset[Sample]):
    """Frames of an index, read and transformed on demand.

    ``dataset[i]`` and ``dataset[Draw(i, seed)]`` give the same sample for the same seed, whatever the process; a plain
    number draws with the seed ``(i,)``.

    Args:
        index: what the frames are.
        frames: (F,) rows of the index, in the order of this data set.
        root: folder that the index's file names are relative to.
        cameras: names and order of the cameras; learned weights may depend on the order.
        frame: reference frame of cameras, boxes and points: ``"lidar"`` (LIDAR_TOP) or ``"ego"``, both at the time of
            the key frame's LiDAR sweep. Cameras are reached through the global frame with the vehicle's pose at each
            sensor's own time.
        image: how pictures become network images; None keeps them as they are (then all must have one size).
        transforms: of whole samples, in order.
        load_points: whether samples have the LiDAR sweep of the key frame.
        history: number of previous key frames in ``Sample.previous``, oldest first; before the start of a scene the
            oldest frame there is is repeated.
        on_error: for a frame with an unreadable file: ``raise`` the error; ``skip`` to the next readable frame;
            ``blank_camera`` puts a black picture in the place of each unreadable one (``Sample.valid`` is False when
            no picture is left), and no points in place of an unreadable sweep. Faults are logged and counted, see
            :meth:`faults`.
        use_valid_flag: drop boxes in which neither LiDAR nor radar has a point.
        cache: ``"memory"`` keeps the network images in the process (uint8), for small data sets; pictures must then
            not be transformed at random.
        max_samples: use only so many frames, spread evenly.
    """

    def __init__(
        self,
        index: FrameIndex,
        frames: Sequence[int] | np.ndarray,
        root: str | Path,
        cameras: Sequence[str] = CAMERAS_DETR3D,
        frame: Literal["lidar", "ego"] = "lidar",
        image: ImageTransform | None = None,
        transforms: Sequence[SampleTransform[Any]] = (),
        load_points: bool = False,
        history: int = 0,
        on_error: OnError = "raise",
        use_valid_flag: bool = True,
        cache: Literal["none", "memory"] = "none",
        max_samples: int | None = None,
    ) -> None:
        _check_choice("frame", frame, ("lidar", "ego"))
        _check_choice("on_error", on_error, ("raise", "skip", "blank_camera"))
        _check_choice("cache", cache, ("none", "memory"))
        if cache == "memory" and image is not None and image.is_random:
            raise ValueError("cache='memory' keeps network images, so the image transform must have no random range")
        self.index, self.root, self.cameras = index, Path(root), tuple(cameras)
        self.frames = _thin(np.asarray(frames, np.int64), max_samples)
        self.frame, self.image, self.transforms = frame, image, tuple(transforms)
        self.load_points, self.history, self.on_error, self.use_valid_flag = (
            load_points,
            history,
            on_error,
            use_valid_flag,
        )
        self.metainfo = {"classes": CLASSES, "frame": frame, "cameras": self.cameras}
        self._channels = self._find_channels()
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache == "memory" else None
        # Shared with the loader's worker processes: marks are idempotent, so they need no lock.
        self._marks = torch.zeros(len(self.frames), dtype=torch.uint8).share_memory_()

    def _find_channels(self) -> list[int]:
        for name in self.cameras:
            if name not in self.index.channels:
                raise ValueError(f"{self.root} has no camera {name!r}{suggest(name, self.index.channels)}")
        return [self.index.channels.index(name) for name in self.cameras]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def tokens(self) -> list[str]:
        """Names of the frames, in order."""
        return [self.index.token[int(i)] for i in self.frames]

    def faults(self) -> dict[str, list[str]]:
        """Tokens of the frames that were ``skipped`` or had a file ``blanked`` so far, in every process."""
        marks = self._marks.numpy()
        named = {"skipped": _SKIPPED, "blanked": _BLANKED}
        return {
            k: [self.index.token[int(self.frames[i])] for i in np.flatnonzero(marks == v)] for k, v in named.items()
        }

    def __getitem__(self, item: int | Draw) -> Sample:
        """The sample of a position or of a draw.

        Raises:
            IndexError: no such position.
            FileError: a file of the frame cannot be used (``on_error="raise"``), or a hundred frames in a row.
        """
        draw = item if isinstance(item, Draw) else Draw(int(item), (int(item) % len(self),))
        if not -len(self) <= draw.index < len(self):
            raise IndexError(f"sample {draw.index} of {len(self)}")
        first = draw.index % len(self)
        for step in range(min(_MAX_SKIPS, len(self))):
            position = (first + step) % len(self)
            try:
                return self._sample(position, draw.generator())
            except FileError as error:
                if self.on_error != "skip":
                    raise
                failure = error
                self._mark(position, _SKIPPED, f"skipped a frame: {error}")
        raise FileError(f"{step + 1} frames one after the other cannot be read; the last one: {failure}") from failure

    def _sample(self, position: int, rng: np.random.Generator) -> Sample:
        frame = int(self.frames[position])
        draws = self._draw_images(rng)
        sample = self._frame(frame, position, draws)
        if self.history:
            sample = replace(sample, previous=self._previous(frame, position, sample, draws))
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def _draw_images(self, rng: np.random.Generator) -> list[ImageDraw]:
        if self.image is None or not self.image.is_random:
            return [ImageDraw()] * len(self.cameras)
        return [self.image.draw(rng) for _ in self.cameras]

    def _previous(self, frame: int, position: int, sample: Sample, draws: list[ImageDraw]) -> tuple[Sample, ...]:
        previous: list[Sample] = []
        for _ in range(self.history):
            earlier = int(self.index.previous[frame])
            if earlier >= 0:
                sample, frame = self._frame(earlier, position, draws), earlier
            previous.insert(0, sample)
        return tuple(previous)

    def _frame(self, frame: int, position: int, draws: list[ImageDraw]) -> Sample:
        """One key frame without its previous ones and before the sample transforms."""
        global_from_ref = np.asarray(self.index.global_from_ego[frame])
        if self.frame == "lidar":
            global_from_ref = global_from_ref @ self.index.ego_from_lidar[frame]
        images, homographies, readable = self._images(frame, position, draws)
        return Sample(
            images=images,
            rig=self._rig(frame, global_from_ref, homographies, (images.shape[-2], images.shape[-1])),
            global_from_ref=torch.from_numpy(global_from_ref.copy()),
            token=self.index.token[frame],
            timestamp_us=int(self.index.timestamp_us[frame]),
            scene=self.index.scenes[int(self.index.scene[frame])],
            boxes=self._boxes(frame, global_from_ref),
            points=self._points(frame, position) if self.load_points else None,
            valid=readable,
        )

    def _rig(
        self, frame: int, global_from_ref: np.ndarray, homographies: Tensor, size_px: tuple[int, int]
    ) -> CameraRig:
        calibration = self.index.camera_calibration[frame, self._channels]
        global_from_ego = self.index.global_from_ego_of_camera[frame, self._channels]
        global_from_camera = global_from_ego @ self.index.ego_from_camera[calibration]
        return CameraRig(
            intrinsics=torch.from_numpy(self.index.intrinsics[calibration]),
            cam_from_ref=torch.from_numpy(np.linalg.inv(global_from_camera) @ global_from_ref),
            image_aug=homographies,
            image_size_px=size_px,
            names=self.cameras,
            timestamp_us=torch.from_numpy(self.index.camera_timestamp_us[frame, self._channels]),
        )

    def _images(self, frame: int, position: int, draws: list[ImageDraw]) -> tuple[Tensor, Tensor, bool]:
        """(N, 3, H, W) uint8, (N, 3, 3) homographies, and whether any picture was readable."""
        if self._cache is not None and frame in self._cache:
            return *self._cache[frame], True
        pictures = [self._read_camera(frame, channel, position) for channel in self._channels]
        sizes = [p.shape[:2] for p in pictures if p is not None]
        done = [
            self._transform(self._blank(frame, c, sizes) if p is None else p, draw)
            for p, c, draw in zip(pictures, self._channels, draws)
        ]
        shapes = {image.shape for image, _ in done}
        if len(shapes) != 1:
            raise FileError(
                f"frame {self.index.token[frame]}: cameras of different sizes {sorted(shapes)} need an image transform"
            )
        images = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in done]))
        homographies = torch.from_numpy(np.stack([matrix for _, matrix in done]))
        if self._cache is not None and len(sizes) == len(pictures):
            self._cache[frame] = (images, homographies)
        return images, homographies, bool(sizes)

    def _transform(self, image: np.ndarray, draw: ImageDraw) -> tuple[np.ndarray, np.ndarray]:
        return (image, np.eye(3)) if self.image is None else self.image(image, draw)

    def _read_camera(self, frame: int, channel: int, position: int) -> np.ndarray | None:
        record = f"frame {self.index.token[frame]}, {self.index.channels[channel]}"
        name = self.index.camera_file[frame * len(self.index.channels) + channel]
        size = tuple(self.index.camera_size_px[frame, channel].tolist())
        try:
            if not name:
                raise FileError(f"{self.root}: {record} has no picture")
            return read_image(self.root / name, record, size if all(size) else None)
        except FileError as error:
            if self.on_error != "blank_camera":
                raise
            self._mark(position, _BLANKED, f"blank camera: {error}")
            return None

    def _blank(self, frame: int, channel: int, sizes: list[tuple[int, ...]]) -> np.ndarray:
        size = self.index.camera_size_px[frame, channel].tolist()
        if not all(size):
            if not sizes:
                raise FileError(f"frame {self.index.token[frame]}: no picture is readable and their size is not known")
            size = sizes[0]
        return np.zeros((*size, 3), np.uint8)

    def _points(self, frame: int, position: int) -> PointCloud:
        try:
            record = f"frame {self.index.token[frame]}, LiDAR"
            points = read_nuscenes_points(self.root / self.index.lidar_file[frame], record)
        except FileError as error:
            if self.on_error != "blank_camera":
                raise
            self._mark(position, _BLANKED, f"no points: {error}")
            empty = torch.zeros(0)
            points = PointCloud(torch.zeros(0, 3), {"intensity": empty, "ring": empty}, "lidar")
        if self.frame == "lidar":
            return points
        return points.transform(torch.from_numpy(np.array(self.index.ego_from_lidar[frame])), "ego")

    def _boxes(self, frame: int, global_from_ref: np.ndarray) -> Boxes3D | None:
        if not len(self.index.box_label):
            return None  # a version without annotations
        boxes = boxes_in_global(self.index, frame)
        if self.use_valid_flag:
            assert boxes.num_lidar_pts is not None and boxes.num_radar_pts is not None
            boxes = boxes[boxes.num_lidar_pts + boxes.num_radar_pts > 0]
        boxes = boxes.transform(torch.from_numpy(np.linalg.inv(global_from_ref)), self.frame)
        # Only now to float32: global coordinates of kilometres do not fit it.
        names = ("center_m", "size_m", "yaw_rad", "velocity_mps", "score")
        return replace(boxes, **{name: getattr(boxes, name).float() for name in names})

    def _mark(self, position: int, fault: int, message: str) -> None:
        if int(self._marks[position]) != fault:
            self._marks[position] = fault
            _LOG.warning(message)


def boxes_in_global(index: FrameIndex, frame: int) -> Boxes3D:
    """Boxes of the ten detection classes of a frame, global frame, float64."""
    rows = index.boxes_of(frame)
    rows = np.arange(rows.start, rows.stop)[index.box_label[rows] >= 0]
    column = {f: torch.from_numpy(getattr(index, f"box_{f}")[rows]) for f in _BOX_FIELDS}
    return Boxes3D(
        center_m=column["center_m"],
        size_m=column["size_m"],
        yaw_rad=yaw_from_matrix(matrix_from_quaternion(column["rotation"])),
        velocity_mps=column["velocity_mps"][:, :2],
        label=column["label"].long(),
        score=torch.ones(len(rows), dtype=torch.float64),
        frame="global",
        attribute=column["attribute"].long(),
        num_lidar_pts=column["num_lidar_pts"].long(),
        num_radar_pts=column["num_radar_pts"].long(),
        visibility=column["visibility"].long(),
        track_id=column["track"].long(),
    )


_BOX_FIELDS = (
    "center_m",
    "size_m",
    "rotation",
    "velocity_mps",
    "label",
    "attribute",
    "num_lidar_pts",
    "num_radar_pts",
    "visibility",
    "track",
)


Kind = TypeVar("Kind", bound=type)


def takes_frame_options(kind: Kind) -> Kind:
    """Class decorator: spell out what ``**options`` of a subclass stands for, so that configs are checked against it."""
    own = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    shared = list(inspect.signature(FrameDataset).parameters.values())[3:]
    keyword = [p.replace(kind=p.KEYWORD_ONLY) for p in shared]
    setattr(kind, "__signature__", inspect.Signature([*own, *keyword]))
    return kind


def _check_choice(name: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{name} = {value!r}{suggest(str(value), valid)}")


def _thin(frames: np.ndarray, count: int | None) -> np.ndarray:
    """At most ``count`` frames, spread evenly."""
    if count is None or count >= len(frames):
        return frames
    if count < 1:
        raise ValueError(f"max_samples = {count} must be positive")
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(np.int64)]
