"""Pictures with boxes as samples for training and testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from bev.data.detection2d.balance import equal_shares, held_classes, repeated
from bev.data.detection2d.letterbox import Place, letterbox
from bev.data.detection2d.picture import PAD_VALUE, Chance, Picture, PictureTransform, inside, moved
from bev.data.detection2d.records import PictureList, PictureRecord, to_coco
from bev.data.draw import Draw
from bev.data.faults import SKIPPED, FaultLog
from bev.io import FileError
from bev.io.images import read_image
from bev.registry import DATASETS
from bev.structures import Boxes2D, ImageSample, collate_images

Size = tuple[int, int]
# So many unreadable pictures one after the other are no accident but a missing disk.
_MAX_SKIPS = 100


@DATASETS.register_module()
class PictureDataset(Dataset[ImageSample]):
    """Pictures of a list, read, augmented and letterboxed on demand.

    ``dataset[i]`` and ``dataset[Draw(i, seed)]`` give the same sample for the same seed, whatever the process; a plain
    number draws with the seed ``(i,)``.

    Args:
        pictures: what there is: ``CocoPictures``, ``VocPictures`` or ``YoloPictures``.
        size: (H, W) of the network's images, or several, of which each batch gets one at random (multi-scale).
        transforms: in order; whatever they give is letterboxed to ``size``.
        last_transforms: those used from epoch ``close_epoch`` on (no mosaic at the end, as YOLOX trains).
        close_epoch: see ``last_transforms``; epochs are counted from 0.
        load_px: (H, W): pictures are reduced to fit when they are read, before any transform; boxes of results are in
            the file's px all the same.
        cache: ``memory`` keeps what was read (as reduced) in the process, for small data sets.
        on_error: for a picture or annotation that cannot be used: ``raise`` the error, or ``skip`` to the next usable
            picture; skips are logged and counted, see :meth:`faults`.
        class_balance: ``equal`` draws every class equally often (CBGS); a number repeats the pictures of classes that
            fewer pictures hold than that share of them (LVIS). None leaves the list as it is.
        place: of the picture in the letterbox.
        pad_value: grey of the letterbox.
        max_samples: use only so many pictures, spread evenly.
        keep_pictures: samples carry the file's own pixels beside the network's, for tests that look at several views
            (``test_cfg.views``, which asks for it); ``load_px`` reduces nothing then.

    Raises:
        FileError: an annotation that cannot be used (``on_error="raise"``).
    """

    collate = staticmethod(collate_images)

    def __init__(
        self,
        pictures: PictureList,
        size: Size | Sequence[Size],
        transforms: Sequence[PictureTransform] = (),
        last_transforms: Sequence[PictureTransform] | None = None,
        close_epoch: int | None = None,
        load_px: Size | None = None,
        cache: Literal["none", "memory"] = "none",
        on_error: Literal["raise", "skip"] = "raise",
        class_balance: Literal["equal"] | float | None = None,
        place: Place = "corner",
        pad_value: int = PAD_VALUE,
        max_samples: int | None = None,
        keep_pictures: bool = False,
    ) -> None:
        if cache not in ("none", "memory") or on_error not in ("raise", "skip"):
            raise ValueError(f"PictureDataset: cache {cache!r} of none, memory; on_error {on_error!r} of raise, skip")
        if (last_transforms is None) != (close_epoch is None):
            raise ValueError("PictureDataset: last_transforms and close_epoch go together")
        self.pictures, self.sizes = pictures, _sizes(size)
        self.transforms, self.close_epoch = tuple(transforms), close_epoch
        self.last_transforms = tuple(last_transforms or ())
        if keep_pictures and transforms:
            raise ValueError("PictureDataset: keep_pictures is for tests: give no transforms")
        self.load_px, self.on_error = None if keep_pictures else load_px, on_error
        self.keep_pictures = keep_pictures
        self.place, self.pad_value = place, pad_value
        self._cache: dict[int, Picture] | None = {} if cache == "memory" else None
        self.records = _chosen(pictures, max_samples, class_balance)
        self.fault_log = FaultLog(len(self.records))
        if on_error == "raise":
            for record in self.records:
                if record.problem:
                    raise FileError(record.problem)

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """What the metrics and pictures need: ``classes``, and the ``annotations`` in COCO's form."""
        listed = {record.token: record for record in self.records}
        shown = replace(self.pictures, records=tuple(listed.values()))
        return {"classes": self.pictures.classes, "annotations": to_coco(shown)}

    @property
    def tokens(self) -> list[str]:
        """Names of the pictures, in order."""
        return [record.token for record in self.records]

    def faults(self) -> dict[str, list[str]]:
        """Tokens of the pictures that were ``skipped`` so far, in every process."""
        return {"skipped": [self.records[i].token for i in self.fault_log.positions(SKIPPED)]}

    def __getitem__(self, item: int | Draw) -> ImageSample:
        """The sample of a position or of a draw.

        Raises:
            IndexError: no such position.
            FileError: the picture cannot be used (``on_error="raise"``), or a hundred in a row.
        """
        draw = item if isinstance(item, Draw) else Draw(int(item), (int(item) % len(self),))
        if not -len(self) <= draw.index < len(self):
            raise IndexError(f"sample {draw.index} of {len(self)}")
        size = self.sizes[int(np.random.default_rng(draw.batch_seed).integers(len(self.sizes)))]
        rng = draw.generator()
        chance = Chance(rng, size, lambda: self._usable(int(rng.integers(len(self)))))
        picture = self._usable(draw.index % len(self))
        closing = self.close_epoch is not None and draw.epoch >= self.close_epoch
        for transform in self.last_transforms if closing else self.transforms:
            picture = transform(picture, chance)
        return self._sample(picture, size)

    def _usable(self, position: int) -> Picture:
        """The picture of a position, or the next one that can be read."""
        for step in range(min(_MAX_SKIPS, len(self))):
            index = (position + step) % len(self)
            try:
                return self.read(index)
            except FileError as error:
                if self.on_error == "raise":
                    raise
                self.fault_log.mark(index, SKIPPED, f"skipped a picture: {error}")
        raise FileError(f"{self.pictures.source}: {min(_MAX_SKIPS, len(self))} pictures in a row cannot be used")

    def read(self, position: int) -> Picture:
        """A picture as read and reduced, before any transform; raises FileError where it cannot be used."""
        if self._cache is not None and position in self._cache:
            return self._cache[position]
        picture = read_picture(self.records[position])
        if self.load_px is not None:
            height, width = picture.size_px
            scale = min(1.0, self.load_px[0] / height, self.load_px[1] / width)
            inner = max(1, round(height * scale)), max(1, round(width * scale))
            picture = moved(picture, *letterbox(picture.image, inner)) if scale < 1 else picture
        if self._cache is not None:
            self._cache[position] = picture
        return picture

    def _sample(self, picture: Picture, size: Size) -> ImageSample:
        pixels_of_file = picture.image
        image, matrix = letterbox(picture.image, size, self.pad_value, self.place)
        picture = inside(moved(picture, image, matrix), least_px=1.0, least_share=0.0)
        boxes = Boxes2D(
            torch.from_numpy(picture.boxes_px), torch.from_numpy(picture.label), torch.ones(len(picture.label))
        )
        pixels = torch.from_numpy(np.ascontiguousarray(picture.image.transpose(2, 0, 1)))
        whole = torch.from_numpy(np.ascontiguousarray(pixels_of_file)) if self.keep_pictures else None
        return ImageSample(pixels, torch.from_numpy(picture.from_file), picture.file_px, picture.token, boxes, whole)


def read_picture(record: PictureRecord) -> Picture:
    """A record's pixels and the boxes that are taught.

    Raises:
        FileError: the annotation has a problem, or the file cannot be decoded or has another size than annotated.
    """
    if record.problem:
        raise FileError(record.problem)
    image = read_image(record.path, record.token, record.size_px, upright=True)
    taught = ~record.crowd
    size = (image.shape[0], image.shape[1])
    return Picture(image, record.boxes_px[taught], record.label[taught], np.eye(3), size, record.token)


def _sizes(size: Size | Sequence[Size]) -> tuple[Size, ...]:
    given: Any = [size] if size and isinstance(size[0], int) else size
    sizes = tuple((int(height), int(width)) for height, width in given)
    if not sizes or any(min(s) < 1 for s in sizes):
        raise ValueError(f"PictureDataset size {size} must be (H, W) or a list of such")
    return sizes


def _chosen(
    pictures: PictureList, max_samples: int | None, balance: Literal["equal"] | float | None
) -> list[PictureRecord]:
    records = list(pictures.records)
    if max_samples is not None and max_samples < len(records):
        records = [records[i * len(records) // max_samples] for i in range(max_samples)]
    if balance is None:
        return records
    held = held_classes([r.label[~r.crowd] for r in records], len(pictures.classes))
    rows = equal_shares(held) if balance == "equal" else repeated(held, float(balance))
    return [records[int(row)] for row in rows]
