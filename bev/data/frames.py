"""Key frames as samples: what nuScenes tables, info files and other sources have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bev.data.draw import Draw
from bev.data.faults import BLANKED, SKIPPED, FaultLog
from bev.data.frame_boxes import boxes_in_global
from bev.data.frame_index import FrameIndex
from bev.data.sensor_files import SensorFiles
from bev.data.transforms import ImageDraw, ImageTransform, SampleTransform
from bev.io import FileError
from bev.registry import suggest
from bev.structures import Boxes3D, CameraRig, PointCloud, Sample
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES

OnError = Literal["raise", "skip", "blank_camera"]
# So many unreadable frames one after the other are no accident but a missing disk.
_MAX_SKIPS = 100


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
        self.load_points, self.use_valid_flag = load_points, use_valid_flag
        self.history, self.on_error = history, on_error
        self.metainfo = {"classes": CLASSES, "frame": frame, "cameras": self.cameras}
        self._channels = self._find_channels()
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache == "memory" else None
        self.files = SensorFiles(index, self.root, self._channels, blank=on_error == "blank_camera")
        self.fault_log = FaultLog(len(self.frames))

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
        named = {"skipped": SKIPPED, "blanked": BLANKED}
        tokens = self.tokens
        return {name: [tokens[i] for i in self.fault_log.positions(fault)] for name, fault in named.items()}

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
                self.fault_log.mark(position, SKIPPED, f"skipped a frame: {error}")
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

    def _global_from_ref(self, frame: int) -> np.ndarray:
        global_from_ego = np.asarray(self.index.global_from_ego[frame])
        return global_from_ego @ self.index.ego_from_lidar[frame] if self.frame == "lidar" else global_from_ego

    def poses(self) -> list[Tensor]:
        """``global_from_ref`` of every frame, in order: (4, 4) float64 each, without reading a file."""
        return [torch.from_numpy(self._global_from_ref(int(frame)).copy()) for frame in self.frames]

    def _frame(self, frame: int, position: int, draws: list[ImageDraw]) -> Sample:
        """One key frame without its previous ones and before the sample transforms."""
        global_from_ref = self._global_from_ref(frame)
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
        if (calibration < 0).any():
            name = self.cameras[int((calibration < 0).argmax())]
            raise FileError(f"{self.root}: frame {self.index.token[frame]} has no calibration of {name}")
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
        pictures, readable = self.files.pictures(frame, self._reporter(position))
        done = [self._transform(picture, draw) for picture, draw in zip(pictures, draws)]
        shapes = {image.shape for image, _ in done}
        if len(shapes) != 1:
            raise FileError(
                f"frame {self.index.token[frame]}: cameras of different sizes {sorted(shapes)} need an image transform"
            )
        images = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in done]))
        homographies = torch.from_numpy(np.stack([matrix for _, matrix in done]))
        if self._cache is not None and readable == len(pictures):
            self._cache[frame] = (images, homographies)
        return images, homographies, readable > 0

    def _transform(self, image: np.ndarray, draw: ImageDraw) -> tuple[np.ndarray, np.ndarray]:
        return (image, np.eye(3)) if self.image is None else self.image(image, draw)

    def _points(self, frame: int, position: int) -> PointCloud:
        points = self.files.points(frame, self._reporter(position))
        if self.frame == "lidar":
            return points
        return points.transform(torch.from_numpy(np.array(self.index.ego_from_lidar[frame])), "ego")

    def _reporter(self, position: int) -> Callable[[str], None]:
        return lambda message: self.fault_log.mark(position, BLANKED, message)

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


Kind = TypeVar("Kind", bound=type)


def takes_frame_options(kind: Kind) -> Kind:
    """Class decorator: spell out what a subclass's ``**options`` stands for; configs are checked against it."""
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
