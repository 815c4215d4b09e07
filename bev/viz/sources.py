"""Which frames are drawn, and the boxes for them: from a submission, or predicted with a checkpoint.

Not imported with :mod:`bev.viz`: it needs the engine and the evaluation's formats, which drawing a sample does not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from mmengine.config import Config
from torch.utils.data import Dataset

from bev.data import NuScenesDataset
from bev.data.draw import Draw
from bev.engine import test
from bev.evaluation.nuscenes.submission import boxes_of, read_submission, to_ref
from bev.registry import DATASETS, ConfigError, suggest
from bev.structures import Batch, Boxes3D, Sample
from bev.viz.recorder import Insight, Recorder
from bev.viz.tracks import TrackHistory, read_tracks

# What a data set of a configuration is told so that its pictures are drawn whole and with LiDAR points.
_FULL_SIZE: dict[str, Any] = {"image": None, "load_points": True, "transforms": [], "cache": "none"}


def full_size(dataset: Mapping[str, Any]) -> Any:
    """A configuration's data set with original pictures and LiDAR points, as it is drawn."""
    return DATASETS.build({**dataset, **_FULL_SIZE})


class Chosen(Dataset[Sample]):
    """Some frames of a data set, as a data set.

    Args:
        frames: takes positions and ``Draw``.
        positions: those wanted, in order.
    """

    def __init__(self, frames: Any, positions: Sequence[int]) -> None:
        self.frames, self.positions = frames, list(positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item: int | Draw) -> Sample:
        if isinstance(item, Draw):
            return self.frames[replace(item, index=self.positions[item.index])]
        return self.frames[self.positions[item]]

    def scene_of_samples(self) -> np.ndarray:
        """(len(self),) the recording of every frame, for samplers that walk through recordings."""
        scenes: np.ndarray = self.frames.scene_of_samples()
        return scenes[self.positions]

    def faults(self) -> Any:
        """Unreadable files, as the data set counts them."""
        return self.frames.faults()


def tokens_of_scene(frames: Any, scene: str) -> list[str]:
    """Tokens of a scene's frames in a data set, in its order; raises ConfigError, naming near ones, for another."""
    names = frames.index.scenes
    if scene not in names:
        raise ConfigError(f"--scene: {frames.root} has no scene {scene}{suggest(scene, names)}")
    found = [t for t, row in zip(frames.tokens, frames.frames) if names[int(frames.index.scene[int(row)])] == scene]
    if not found:
        raise ConfigError(f"--scene: split {frames.split} has no frame of {scene}")
    return found


def first_scene(frames: Any) -> str:
    """Name of the scene of a data set's first frame; raises ConfigError where there is none."""
    if not len(frames):
        raise ConfigError(f"split {frames.split} of {frames.root} has no frames to draw")
    return str(frames.index.scenes[int(frames.index.scene[int(frames.frames[0])])])


def scenes_of(frames: Any) -> list[list[str]]:
    """Tokens of every scene in a data set, in the order of time."""
    by_scene: dict[int, list[str]] = {}
    for token, row in zip(frames.tokens, frames.frames):
        by_scene.setdefault(int(frames.index.scene[int(row)]), []).append(token)
    return list(by_scene.values())


def tracked(
    path: str, frames: NuScenesDataset, wanted: Sequence[str] | None, count: int
) -> tuple[list[int], Mapping[str, Boxes3D], TrackHistory]:
    """As :func:`submitted`, of a tracking submission; and the tracks.

    Raises:
        FileError, ConfigError: as there.
    """
    results = read_tracks(path).results
    chosen = _there(path, set(results), frames, wanted, count)
    history = TrackHistory(results, scenes_of(frames))
    tokens, poses = frames.tokens, frames.poses()
    return chosen, {tokens[i]: history.boxes(tokens[i], poses[i], frames.frame) for i in chosen}, history


def choose(tokens: Sequence[str], wanted: Sequence[str] | None, count: int, where: str) -> list[int]:
    """Positions of the frames to draw.

    Args:
        tokens: of all frames.
        wanted: the tokens asked for; None or empty: ``count`` frames, spread evenly.
        where: names the frames in an error, e.g. ``"split val"``.

    Raises:
        ConfigError: a token is not there, or there are no frames.
    """
    if not tokens:
        raise ConfigError(f"{where} has no frames to draw")
    if not wanted:
        number = min(count, len(tokens))
        return [i * len(tokens) // number for i in range(number)]
    position = {token: i for i, token in enumerate(tokens)}
    for token in wanted:
        if token not in position:
            raise ConfigError(f"--tokens: {token} is not a frame of {where}")
    return [position[token] for token in wanted]


def with_their_past(frames: Any, positions: Sequence[int]) -> list[int]:
    """Positions, and those of every earlier frame of the same recordings, in order: what a detector that carries its
    memory from frame to frame must see to find in a frame what it finds in the whole recording."""
    scene = frames.scene_of_samples()
    last = {int(scene[p]): max(q for q in positions if scene[q] == scene[p]) for p in positions}
    return [p for p in range(len(scene)) if p <= last.get(int(scene[p]), -1)]


def submitted(
    results: str, frames: NuScenesDataset, wanted: Sequence[str] | None, count: int
) -> tuple[list[int], Mapping[str, Boxes3D]]:
    """Positions of frames of a split, and a submission's boxes for them in their reference frames, by token.

    A submission that was made on a part of the split is drawn as far as it goes: frames without results are not chosen,
    which is said on standard error. That is not an empty list of boxes, which means "nothing found".

    Raises:
        FileError: the submission cannot be read.
        ConfigError: it has a frame that the split lacks (it was made for another split), a frame asked for is not in
            it, or it has none at all.
    """
    found = read_submission(results).results
    chosen = _there(results, set(found), frames, wanted, count)
    tokens, poses = frames.tokens, frames.poses()
    return chosen, {tokens[i]: to_ref(boxes_of(found[tokens[i]]), poses[i], frames.frame) for i in chosen}


def _there(path: str, found: set[str], frames: NuScenesDataset, wanted: Sequence[str] | None, count: int) -> list[int]:
    """Positions of the frames to draw among those that a submission has."""
    known, split = set(frames.tokens), f"split {frames.split} of {frames.root}"
    for token in sorted(found - known)[:1]:
        raise ConfigError(f"{path} was not made for {split}: its frame {token} is not there")
    there = [i for i, token in enumerate(frames.tokens) if token in found]
    if 0 < len(there) < len(frames):
        note = f"{path} has {len(there)} of the {len(frames)} frames of {split}; only those can be drawn"
        print(note, file=sys.stderr)
    where = path if known.issuperset(wanted or ()) else split
    return [there[i] for i in choose([frames.tokens[i] for i in there], wanted, count, where)]


def predicted(
    cfg: Config,
    checkpoint: str,
    wanted: Sequence[str] | None,
    count: int,
    scene: str | None = None,
    recorder: Recorder | None = None,
) -> tuple[Any, list[int], Mapping[str, Boxes3D], Mapping[str, Insight]]:
    """The test frames of a configuration at full size, positions of those to draw, and what a checkpoint finds there.

    Nothing but those is predicted (and, for a detector that carries a memory, the frames before them), and nothing is
    scored.

    Args:
        cfg: prepared by :func:`bev.engine.prepare`; not changed.
        scene: all frames of this scene, in place of ``wanted``; empty for the first one.
        recorder: notes what the model computes on its way, which is the last result, by token.

    Raises:
        ConfigError, CheckpointError: the configuration or the checkpoint cannot be used, a frame is not there.
    """
    if not cfg.get("test_dataloader"):
        raise ConfigError(f"{cfg.filename} has no 'test_dataloader', whose frames could be drawn")
    node = cfg.test_dataloader.dataset
    frames = DATASETS.build(node)
    part = node.get("split")
    where = f"split {part} of {node.get('root')}" if part else f"the test frames of {cfg.filename}"
    if scene is not None:
        wanted = tokens_of_scene(frames, scene or first_scene(frames))
    positions = choose(frames.tokens, wanted, count, where)
    cfg = cfg.copy()
    boxes: dict[str, Boxes3D] = {}
    # A configuration that chose a sampler walks through recordings: a frame in their middle needs those before it.
    read = with_their_past(frames, positions) if cfg.test_dataloader.get("sampler") else positions
    cfg.test_dataloader = {**cfg.test_dataloader, "dataset": Chosen(frames, read)}
    insights: dict[str, Insight] = {}

    def keep(batch: Batch, found: list[Boxes3D]) -> None:
        boxes.update(zip(batch.tokens, found))
        if recorder is not None:
            insights.update(zip(batch.tokens, recorder.take(batch)))

    cfg.test_evaluator = []
    with recorder or nullcontext():
        test(cfg, checkpoint, on_result=keep)
    return full_size(node), positions, boxes, insights
