"""Key frames as samples: what nuScenes tables, info files and other sources have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bev.data.balance import balanced_frames
from bev.data.draw import Draw
from bev.data.faults import BLANKED, SKIPPED, FaultLog
from bev.data.frame_boxes import boxes_in_global
from bev.data.frame_index import FrameIndex
from bev.data.history import chosen_history
from bev.data.sensor_files import SensorFiles
from bev.data.transforms import ImageDraw, ImageTransform, ResolutionBuckets, SampleTransform
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
        image: how pictures become network images; None keeps them as they are (then all must have one size). With
            ``ResolutionBuckets`` all samples of a batch get the same one.
        transforms: of whole samples, in order.
        load_points: whether samples have the LiDAR sweep of the key frame.
        sweeps: so many earlier LiDAR sweeps are added to the key frame's, moved with the vehicle; see
            :func:`bev.data.sweeps.read_sweeps`. Needs ``load_points``.
        history: number of previous key frames in ``Sample.previous``, oldest first; before the start of a scene the
            oldest frame there is is repeated (its timestamp tells).
        history_pool: draw the ``history`` frames, in order of time, from so many previous ones, as BEVFormer does:
            a queue of 3 is ``history=2, history_pool=3``. None: the nearest ones.
        on_error: for a frame with an unreadable file: ``raise`` the error; ``skip`` to the next readable frame;
            ``blank_camera`` puts a black picture in the place of each unreadable one (``Sample.valid`` is False when
            no picture is left), and no points in place of an unreadable sweep. Faults are logged and counted, see
            :meth:`faults`.
        use_valid_flag: drop boxes in which neither LiDAR nor radar has a point.
        class_balance: resample the frames so that all classes come about equally often (CBGS, arXiv 1908.09492); the
            data set gets about 4.5 times as long on nuScenes.
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
        image: ImageTransform | ResolutionBuckets | None = None,
        transforms: Sequence[SampleTransform[Any]] = (),
        load_points: bool = False,
        sweeps: int = 0,
        history: int = 0,
        history_pool: int | None = None,
        on_error: OnError = "raise",
        use_valid_flag: bool = True,
        class_balance: bool = False,
        cache: Literal["none", "memory"] = "none",
        max_samples: int | None = None,
    ) -> None:
        _check_choice("frame", frame, ("lidar", "ego"))
        _check_choice("on_error", on_error, ("raise", "skip", "blank_camera"))
        _check_choice("cache", cache, ("none", "memory"))
        if cache == "memory" and image is not None and image.is_random:
            raise ValueError("cache='memory' keeps network images, so the image transform must have no random range")
        _check_counts(history, history_pool, sweeps, load_points)
        self.index, self.root, self.cameras = index, Path(root), tuple(cameras)
        self.frames = _thin(np.asarray(frames, np.int64), max_samples)
        if class_balance:
            self.frames = balanced_frames(index, self.frames, use_valid_flag)
        self.frame, self.image, self.transforms = frame, image, tuple(transforms)
        self.load_points, self.use_valid_flag = load_points, use_valid_flag
        self.history, self.history_pool, self.sweeps, self.on_error = history, history_pool, sweeps, on_error
        self.metainfo = {"classes": CLASSES, "frame": frame, "cameras": self.cameras}
        self.channels = self._find_channels()
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache == "memory" else None
        self.files = SensorFiles(index, self.root, self.channels, blank=on_error == "blank_camera")
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
                sample = self._sample(position, draw)
                # A stand-in from another scene continues nothing.
                same = self._scene(position) == self._scene(first)
                return replace(sample, starts=draw.starts if same else True)
            except FileError as error:
                if self.on_error != "skip":
                    raise
                failure = error
                self.fault_log.mark(position, SKIPPED, f"skipped a frame: {error}")
        raise FileError(f"{step + 1} frames one after the other cannot be read; the last one: {failure}") from failure

    def _scene(self, position: int) -> int:
        return int(self.index.scene[self.frames[position]])

    def scene_of_samples(self) -> np.ndarray:
        """(len(self),) int32, the scene of every sample, for samplers that walk through scenes in order of time.

        Raises:
            ValueError: the frames of a scene are not in order of time (``class_balance``).
        """
        time = np.asarray(self.index.timestamp_us)[self.frames]
        order = np.argsort(np.asarray(self.index.scene)[self.frames], kind="stable")
        same = np.diff(np.asarray(self.index.scene)[self.frames][order]) == 0
        if (np.diff(time[order])[same] <= 0).any():
            raise ValueError("the frames of a scene are not in order of time (class_balance repeats them)")
        return np.asarray(self.index.scene)[self.frames]

    def _sample(self, position: int, draw: Draw) -> Sample:
        frame, rng = int(self.frames[position]), draw.generator()
        image = self.image.choose(draw.batch_seed) if isinstance(self.image, ResolutionBuckets) else self.image
        plan = _plan(image, len(self.cameras), rng)
        sample = self._frame(frame, position, plan)
        if self.history:
            known = {frame: sample}
            for earlier in chosen_history(self.index.previous, frame, self.history, self.history_pool, rng):
                known[earlier] = known.get(earlier) or self._frame(earlier, position, plan)
                sample = replace(sample, previous=(*sample.previous, known[earlier]))
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def _global_from_ref(self, frame: int) -> np.ndarray:
        global_from_ego = np.asarray(self.index.global_from_ego[frame])
        return global_from_ego @ self.index.ego_from_lidar[frame] if self.frame == "lidar" else global_from_ego

    def poses(self) -> list[Tensor]:
        """``global_from_ref`` of every frame, in order: (4, 4) float64 each, without reading a file."""
        return [torch.from_numpy(self._global_from_ref(int(frame)).copy()) for frame in self.frames]

    def boxes(self, position: int) -> Boxes3D | None:
        """Ground truth of a sample before the transforms, in its reference frame, without reading a file."""
        frame = int(self.frames[position])
        return self._boxes(frame, self._global_from_ref(frame))

    def _frame(self, frame: int, position: int, plan: _ImagePlan) -> Sample:
        """One key frame without its previous ones and before the sample transforms."""
        global_from_ref = self._global_from_ref(frame)
        images, homographies, readable = self._images(frame, position, plan)
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
        calibration = self.index.camera_calibration[frame, self.channels]
        if (calibration < 0).any():
            name = self.cameras[int((calibration < 0).argmax())]
            raise FileError(f"{self.root}: frame {self.index.token[frame]} has no calibration of {name}")
        global_from_ego = self.index.global_from_ego_of_camera[frame, self.channels]
        global_from_camera = global_from_ego @ self.index.ego_from_camera[calibration]
        return CameraRig(
            intrinsics=torch.from_numpy(self.index.intrinsics[calibration]),
            cam_from_ref=torch.from_numpy(np.linalg.inv(global_from_camera) @ global_from_ref),
            image_aug=homographies,
            image_size_px=size_px,
            names=self.cameras,
            timestamp_us=torch.from_numpy(self.index.camera_timestamp_us[frame, self.channels]),
        )

    def _images(self, frame: int, position: int, plan: _ImagePlan) -> tuple[Tensor, Tensor, bool]:
        """(N, 3, H, W) uint8, (N, 3, 3) homographies, and whether any picture was readable."""
        if self._cache is not None and frame in self._cache:
            return *self._cache[frame], True
        pictures, readable = self.files.pictures(frame, self._reporter(position))
        done = [plan.apply(i, picture) for i, picture in enumerate(pictures)]
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

    def _points(self, frame: int, position: int) -> PointCloud:
        points = self.files.points(frame, self._reporter(position), self.sweeps)
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


@dataclass(frozen=True)
class _ImagePlan:
    """What is done to the N pictures of a frame and of its previous frames."""

    transform: ImageTransform | None
    draws: list[ImageDraw]

    def apply(self, camera: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.transform is None:
            return image, np.eye(3)
        return self.transform(image, self.draws[camera])


def _plan(image: ImageTransform | None, cameras: int, rng: np.random.Generator) -> _ImagePlan:
    if image is None or not image.is_random:
        return _ImagePlan(image, [ImageDraw()] * cameras)
    return _ImagePlan(image, [image.draw(rng) for _ in range(cameras)])


Kind = TypeVar("Kind", bound=type)


def takes_frame_options(kind: Kind) -> Kind:
    """Class decorator: spell out what a subclass's ``**options`` stands for; configs are checked against it."""
    own = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = {p.name for p in own}
    shared = [p for p in list(inspect.signature(FrameDataset).parameters.values())[3:] if p.name not in names]
    keyword = [p.replace(kind=p.KEYWORD_ONLY) for p in shared]
    setattr(kind, "__signature__", inspect.Signature([*own, *keyword]))
    return kind


def _check_choice(name: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{name} = {value!r}{suggest(str(value), valid)}")


def _check_counts(history: int, history_pool: int | None, sweeps: int, load_points: bool) -> None:
    if history < 0 or history_pool is not None and history_pool < max(history, 1):
        raise ValueError(f"history = {history} must not be negative, history_pool = {history_pool} not smaller than it")
    if sweeps < 0 or sweeps and not load_points:
        raise ValueError(f"sweeps = {sweeps} must not be negative and needs load_points=True")


def _thin(frames: np.ndarray, count: int | None) -> np.ndarray:
    """At most ``count`` frames, spread evenly."""
    if count is None or count >= len(frames):
        return frames
    if count < 1:
        raise ValueError(f"max_samples = {count} must be positive")
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(np.int64)]
