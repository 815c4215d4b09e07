"""Batches that walk through recordings in order, for models that carry a state from frame to frame.

Row r of every batch follows one recording (or several that take turns) from its first frame to its last, then takes
the next one; the rows are at different places of different recordings. ``Draw.starts`` (``Batch.starts``) is True on
the first frame of a recording: there, and only there, the state of row r is not the past of its frame. This is
StreamPETR's and BEVDet4D-longterm's way of training at any batch size, with nothing kept in worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from bev.data.draw import Draw
from bev.registry import DATASETS


class _SceneSampler(Sampler[list[Draw]]):
    """What the two samplers share: the frames of each recording."""

    def __init__(self, length: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"cannot draw batches of {batch_size} from a data set of {length} frames")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self._clips: list[list[int]] | None = None

    def use_scenes(self, scene: Sequence[int] | np.ndarray) -> None:
        """Tell which recording each frame of the data set is of: (length,); frames of one are in order of time."""
        numbers = np.asarray(scene)
        if numbers.shape != (self.length,):
            raise ValueError(f"{type(self).__name__}: {self.length} frames, but scenes of {numbers.shape}")
        order = np.argsort(numbers, kind="stable")
        borders = np.flatnonzero(np.diff(numbers[order])) + 1
        self._clips = [clip.tolist() for clip in np.split(order, borders)]

    @property
    def clips(self) -> list[list[int]]:
        """Frames of each recording, in order of time."""
        if self._clips is None:
            raise ValueError(f"{type(self).__name__} needs a data set whose frames know their scene (scene_of_samples)")
        return self._clips


@DATASETS.register_module()
class SceneStreamSampler(_SceneSampler):
    """Training: an endless stream of recordings, shuffled anew every epoch.

    The stream is a pure function of the seed: P processes of B rows read what one process of P B rows reads, and a run
    that is resumed at micro-batch ``start`` goes on where it was. All frames of a recording share one augmentation
    seed, so that its world does not turn and its images do not jump under the state.

    Args:
        length: number of frames of the data set.
        batch_size: rows a process (B).
        seed: of the run.
        clip_frames: cut recordings into clips of at most so many frames, each with an empty past: more different rows,
            shorter memory. None: whole recordings.
        shuffle: False takes the recordings in order.
        turns: recordings that take turns in a row, a frame each. Frames of one recording are much alike: a small batch
            of few recordings, several steps in a row, teaches less than as many frames of more. Every turn costs the
            memory of one more state.
        rank, world_size: this process of how many.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        clip_frames: int | None = None,
        shuffle: bool = True,
        turns: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(length, batch_size, seed, rank, world_size)
        if clip_frames is not None and clip_frames < 1:
            raise ValueError(f"clip_frames = {clip_frames} must be positive")
        if turns < 1:
            raise ValueError(f"turns = {turns} must be positive")
        self.clip_frames, self.shuffle, self.turns = clip_frames, shuffle, turns
        self.start = 0  # first micro-batch to yield; a resumed run sets it

    def __iter__(self) -> Iterator[list[Draw]]:
        supply, size = self._supply(), self.batch_size * self.world_size
        rows = [next(supply) for _ in range(size * self.turns)]
        done = [0] * len(rows)  # frames of each row's clip that were handed out
        batch, wanted = 0, self.start
        while True:
            first = batch % self.turns * size
            mine = range(first + self.rank * self.batch_size, first + (self.rank + 1) * self.batch_size)
            if batch >= wanted:
                yield [
                    Draw(rows[r][1][done[r]], (self.seed, *rows[r][0]), (self.seed, batch), done[r] == 0) for r in mine
                ]
            batch += 1
            for r in range(first, first + size):
                done[r] += 1
                if done[r] == len(rows[r][1]):
                    rows[r], done[r] = next(supply), 0

    def _supply(self) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """(epoch, number of the clip) and frames of one clip after the other, without end."""
        size = self.clip_frames or self.length
        clips = [clip[i : i + size] for clip in self.clips for i in range(0, len(clip), size)]
        epoch = 0
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(clips)) if self.shuffle else None
            for number in range(len(clips)) if order is None else order.tolist():
                yield (epoch, number), clips[number]
            epoch += 1


@DATASETS.register_module()
class SceneEvalSampler(_SceneSampler):
    """Evaluation: every frame once, recordings whole and in order.

    Recordings are dealt to the ``batch_size * world_size`` rows, the longest first to the row with the least to do. A
    row keeps its place in the batch; where recordings run out, batches shrink from their end.
    """

    def __init__(self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(length, batch_size, seed, rank, world_size)

    def _rows(self) -> list[list[tuple[int, bool]]]:
        """Of this process: (frame, whether it starts a recording), the longest row first."""
        rows: list[list[tuple[int, bool]]] = [[] for _ in range(self.batch_size * self.world_size)]
        for clip in sorted(self.clips, key=len, reverse=True):
            shortest = min(range(len(rows)), key=lambda r: (len(rows[r]), r))
            rows[shortest] += [(frame, i == 0) for i, frame in enumerate(clip)]
        return sorted(rows[self.rank :: self.world_size], key=len, reverse=True)

    def __iter__(self) -> Iterator[list[Draw]]:
        rows = self._rows()
        for step in range(len(self)):
            here = [row[step] for row in rows if step < len(row)]
            yield [Draw(frame, (self.seed, 0, frame), (self.seed, step), starts) for frame, starts in here]

    def __len__(self) -> int:
        return max(map(len, self._rows()))
