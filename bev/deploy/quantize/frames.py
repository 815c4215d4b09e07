"""Frames of a configuration's data set as a graph's inputs: for calibration, sensitivity and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from bev.deploy.calibration import facts_of
from bev.deploy.export import ExportError
from bev.deploy.graph import STATE, GraphFacts
from bev.io import FileError
from bev.models.detectors import FrameStream, TemporalDetector
from bev.registry import DATASETS
from bev.structures import Batch, collate, collate_images

# What of a training data set says which files it reads; how they are prepared is the test set's.
_SOURCE = ("pictures", "split", "root", "version", "folder")


class GraphFrames:
    """Frames of a data set, one at a time, as the graph takes them; gone through again, they are the same.

    Args:
        config: with ``test_dataloader`` and, for ``train``, ``train_dataloader``.
        facts: of the graph.
        split: ``train``: files of the training set, prepared as test frames are (without augmentation); what scales are
            chosen on must not be what the result is scored on. ``test``: the test frames.
        count: how many, evenly spread over the data set; None for all.
        model: the detector, for graphs with a state: its memory of the frame before is what they are given.

    Attributes:
        source: configuration of the data set.

    Raises:
        ExportError: the configuration names no such frames, they are not there, or a state has no model.
    """

    def __init__(
        self,
        config: Any,
        facts: GraphFacts,
        split: Literal["train", "test"] = "train",
        count: int | None = None,
        model: nn.Module | None = None,
    ) -> None:
        self.facts = facts
        self.source, self.dataset = _dataset(config, split)
        self.remembers = any(name.startswith(STATE) for name in facts.inputs)
        if self.remembers and not isinstance(model, TemporalDetector):
            raise ExportError("a graph with a state needs the detector itself to give it one")
        self.model = model if isinstance(model, TemporalDetector) else None
        total = len(self.dataset)
        count = total if count is None else min(count, total)
        if count < 1:
            raise ExportError("the data set has no frames")
        # A memory needs the frames before: neighbours then, else spread over everything.
        spread = range(count) if self.remembers else np.linspace(0, total - 1, count).round().astype(int).tolist()
        self.indices = list(spread)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for _, inputs in self.batches():
            yield inputs

    def batches(self) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
        """Batches of one frame with the graph's inputs."""
        stream = None if self.model is None or not self.remembers else FrameStream(self.model.eval())
        for index in self.indices:
            sample = self.dataset[index]
            if self.facts.calibration is None:
                pictures = collate_images([sample])
                yield pictures, {"images": pictures.images.numpy()}
                continue
            batch = collate([replace(sample, points=None)])
            with torch.no_grad() if stream is not None else nullcontext():
                yield batch, self._inputs(batch, stream)

    def _inputs(self, batch: Batch, stream: FrameStream | None) -> dict[str, np.ndarray]:
        assert self.facts.calibration is not None
        facts = {} if self.facts.baked else facts_of(batch.rig, self.facts.calibration)
        found: dict[str, Any] = {"images": batch.images, **facts}
        if stream is not None:
            found |= {STATE + name: _plain(value) for name, value in self._state(batch, stream).items()}
        return {name: found[name].numpy() for name in self.facts.inputs}

    def _state(self, batch: Batch, stream: FrameStream) -> dict[str, Any]:
        """What the graph is told of the past; a first frame has zeros for a memory, as in every recording."""
        assert self.model is not None
        state = dict(stream.enter(batch))
        if any(name.startswith(STATE) and name.removeprefix(STATE) not in state for name in self.facts.inputs):
            memory = self.model(batch.images, batch.rig, state)["state"]
            state = {**{name: torch.zeros_like(value) for name, value in memory.items()}, **state}
        stream.remember(batch)
        return state


def _plain(value: Any) -> Any:
    return (value.float() if value.is_floating_point() else value).contiguous()


def _dataset(config: Any, split: str) -> tuple[dict[str, Any], Any]:
    test = config.get("test_dataloader") or config.get("val_dataloader")
    train = config.get("train_dataloader")
    if test is None or (split == "train" and train is None):
        raise ExportError(f"the configuration names no {split} frames: {split}_dataloader is missing")
    node: dict[str, Any] = test.dataset.to_dict()
    if split == "train":
        source: Mapping[str, Any] = train.dataset.to_dict()
        node |= {key: source[key] for key in _SOURCE if key in source}
    node.pop("cache", None)  # each is read once or twice; a whole training set in memory is not worth it
    try:
        return node, DATASETS.build(dict(node))
    except (OSError, FileError) as error:
        raise ExportError(f"no {split} frames ({error}); give their place with --cfg-options") from error
