"""What is in a picture data set, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from bev.data.detection2d.dataset import read_picture
from bev.data.detection2d.records import PictureList
from bev.io import FileError

_TINY_PX = 4.0
_SAME_BOX_PX = 1.0


@dataclass
class PictureReport:
    """Findings over a data set.

    Attributes:
        pictures, objects, crowds: counts.
        of_class: objects of each class.
        holding: pictures that hold each class.
        empty: pictures without objects.
        sizes: number of pictures of each (H, W).
        problems: what cannot be used, a line a picture.
        doubtful: what probably is a mistake, by kind: tokens.
    """

    pictures: int = 0
    objects: int = 0
    crowds: int = 0
    of_class: Counter[str] = field(default_factory=Counter)
    holding: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    doubtful: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> list[str]:
        """For people."""
        sizes = ", ".join(f"{h}x{w} ({n})" for (h, w), n in self.sizes.most_common(5))
        rows = [
            f"{self.pictures} pictures, {self.empty} without objects; {self.objects} objects, {self.crowds} crowds",
            f"sizes (H x W): {sizes}{' ...' if len(self.sizes) > 5 else ''}",
        ]
        rows += [f"  {name}: {n} objects in {self.holding[name]} pictures" for name, n in self.of_class.most_common()]
        rows += [f"{kind}: {len(t)} (first: {', '.join(t[:3])})" for kind, t in sorted(self.doubtful.items())]
        return rows + [f"cannot be used: {problem}" for problem in self.problems]


def check_pictures(pictures: PictureList, read: bool = True) -> PictureReport:
    """Count and look for mistakes: unusable files and annotations, classes without objects, tiny and doubled boxes,
    pictures with the same pixels.

    Args:
        read: decode every picture too.
    """
    report = PictureReport(of_class=Counter({name: 0 for name in pictures.classes}))
    seen: dict[str, str] = {}
    for record in pictures.records:
        report.pictures += 1
        report.crowds += int(record.crowd.sum())
        labels = record.label[~record.crowd]
        report.objects += len(labels)
        report.empty += not len(labels) and record.problem is None
        report.of_class.update(pictures.classes[label] for label in labels)
        report.holding.update(pictures.classes[label] for label in set(labels.tolist()))
        _look_at_boxes(record.boxes_px, record.label, record.token, report)
        try:
            if read:
                picture = read_picture(record)
                report.sizes[picture.size_px] += 1
                digest = hashlib.sha1(picture.image.tobytes()).hexdigest()
                if digest in seen:
                    report.doubtful["same pixels as another picture"].append(f"{record.token} = {seen[digest]}")
                seen.setdefault(digest, record.token)
            elif record.problem:
                raise FileError(record.problem)
        except FileError as error:
            report.problems.append(str(error))
    report.doubtful.update({f"class {n} has no objects": [n] for n, count in report.of_class.items() if not count})
    return report


def _look_at_boxes(boxes: np.ndarray, label: np.ndarray, token: str, report: PictureReport) -> None:
    sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < _TINY_PX).any():
        report.doubtful[f"boxes below {_TINY_PX:g} px"].append(token)
    apart = np.abs(boxes[:, None] - boxes[None]).max(-1) + 1e9 * (label[:, None] != label[None])
    np.fill_diagonal(apart, 1e9)
    if len(boxes) > 1 and apart.min() <= _SAME_BOX_PX:
        report.doubtful["one object annotated twice"].append(token)
