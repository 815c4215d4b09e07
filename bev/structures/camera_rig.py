"""The calibrated cameras of a frame: the only geometry that models see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CameraRig:
    """Calibration of N cameras, without (sample) or with (batch) a leading batch axis B.

    Pixel coordinates are continuous: the image spans [0, W] x [0, H], u to the right and v down, so that resizing by s
    is exactly ``u' = s u``. Camera frames follow OpenCV (x right, y down, z forward); the reference frame is the one
    that boxes are predicted in (nuScenes LiDAR frame: x right, y forward, z up; ego frame: x forward, y left, z up).

    Attributes:
        intrinsics: (*B, N, 3, 3) px of the original image.
        cam_from_ref: (*B, N, 4, 4) metres; rigid, or with the reflection and scale of an augmented reference frame.
        image_aug: (*B, N, 3, 3) homography, original px -> network px (resize, crop, flip, pad).
        image_size_px: (H, W) of the network's input, padding included.
        names: N camera names.
        timestamp_us: (*B, N) int64, when each camera fired.
    """

    intrinsics: Tensor
    cam_from_ref: Tensor
    image_aug: Tensor
    image_size_px: tuple[int, int]
    names: tuple[str, ...]
    timestamp_us: Tensor

    def __post_init__(self) -> None:
        lead, n = tuple(self.timestamp_us.shape[:-1]), len(self.names)
        expected = {"intrinsics": (3, 3), "cam_from_ref": (4, 4), "image_aug": (3, 3), "timestamp_us": ()}
        for name, tail in expected.items():
            shape = tuple(getattr(self, name).shape)
            if shape != (*lead, n, *tail):
                raise ValueError(
                    f"CameraRig.{name} has shape {shape}, expected {(*lead, n, *tail)} for cameras {self.names}"
                )

    @cached_property
    def _img_from_ref(self) -> Tensor:
        """``img_from_ref`` in the stored precision (float64 from the data sets)."""
        scaled = torch.zeros_like(self.cam_from_ref)
        scaled[..., :3, :3] = self.image_aug.to(self.cam_from_ref) @ self.intrinsics.to(self.cam_from_ref)
        scaled[..., 3, 3] = 1.0
        return scaled @ self.cam_from_ref

    @cached_property
    def img_from_ref(self) -> Tensor:
        """(*B, N, 4, 4) float32: x, y, z, 1 (m) -> u d, v d, d, 1 (network px times depth d in m)."""
        # Multiplied in the stored precision and rounded once, as the published code does.
        return self._img_from_ref.float()

    @cached_property
    def ref_from_img(self) -> Tensor:
        """(*B, N, 4, 4) float32, inverse of img_from_ref before its rounding."""
        return torch.linalg.inv(self._img_from_ref.double()).float()

    @cached_property
    def focal_px(self) -> Tensor:
        """(*B, N, 2) float32 focal lengths of the network images along x and y, px."""
        lens = self.image_aug.to(self.intrinsics) @ self.intrinsics
        return lens[..., [0, 1], [0, 1]].abs().float()

    @property
    def num_cameras(self) -> int:
        """N."""
        return len(self.names)

    @property
    def device(self) -> torch.device:
        """Of the matrices."""
        return self.cam_from_ref.device

    def to(self, device: torch.device | str) -> CameraRig:
        """The same rig on another device."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(device),
            cam_from_ref=self.cam_from_ref.to(device),
            image_aug=self.image_aug.to(device),
            timestamp_us=self.timestamp_us.to(device),
        )

    def select(self, indices: Sequence[int]) -> CameraRig:
        """The cameras at ``indices``, in that order."""
        picked = list(indices)
        return CameraRig(
            self.intrinsics[..., picked, :, :],
            self.cam_from_ref[..., picked, :, :],
            self.image_aug[..., picked, :, :],
            self.image_size_px,
            tuple(self.names[i] for i in picked),
            self.timestamp_us[..., picked],
        )

    def augment_images(self, network_from_image: Tensor, image_size_px: tuple[int, int]) -> CameraRig:
        """Compose a further homography (broadcastable to (*B, N, 3, 3)) after the present image_aug."""
        return replace(
            self, image_aug=network_from_image.to(self.image_aug) @ self.image_aug, image_size_px=image_size_px
        )

    def augment_ref(self, new_from_ref: Tensor) -> CameraRig:
        """Express the rig in another reference frame; ``new_from_ref`` broadcasts to (*B, N, 4, 4), invertible."""
        return replace(self, cam_from_ref=self.cam_from_ref @ torch.linalg.inv(new_from_ref.to(self.cam_from_ref)))

    def check(self, source: str) -> CameraRig:
        """Raise ValueError, naming ``source`` and the camera, where a calibration is not finite or not a camera."""
        for i, name in enumerate(self.names):
            k, t = self.intrinsics[..., i, :, :], self.cam_from_ref[..., i, :, :]
            if not bool(
                torch.isfinite(k).all()
                and torch.isfinite(t).all()
                and torch.isfinite(self.image_aug[..., i, :, :]).all()
            ):
                raise ValueError(f"{source}: calibration of {name} holds a NaN or infinite value")
            if bool((k[..., 0, 0] <= 0).any() or (k[..., 1, 1] <= 0).any()):
                raise ValueError(f"{source}: intrinsics of {name} need positive focal lengths, got {k.tolist()}")
            r = t[..., :3, :3].double()
            r = r / torch.linalg.det(r).abs().clamp(min=1e-9)[..., None, None] ** (1 / 3)  # augmentation may scale
            error = float((r @ r.transpose(-1, -2) - torch.eye(3, dtype=torch.float64, device=r.device)).abs().max())
            if error > 1e-3:
                raise ValueError(f"{source}: rotation of {name} is not orthonormal (off by {error:.2g})")
        return self

    @staticmethod
    def stack(rigs: Sequence[CameraRig]) -> CameraRig:
        """Batch rigs of one size and the same camera names: adds the leading axis B. Raises ValueError otherwise."""
        first = rigs[0]
        for rig in rigs[1:]:
            if (rig.names, rig.image_size_px) != (first.names, first.image_size_px):
                ours, theirs = (f"{r.names} at {r.image_size_px} px" for r in (first, rig))
                raise ValueError(f"cannot batch rigs of {ours} and {theirs}")
        return replace(
            first,
            intrinsics=torch.stack([r.intrinsics for r in rigs]),
            cam_from_ref=torch.stack([r.cam_from_ref for r in rigs]),
            image_aug=torch.stack([r.image_aug for r in rigs]),
            timestamp_us=torch.stack([r.timestamp_us for r in rigs]),
        )
