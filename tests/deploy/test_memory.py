"""Temporal graphs outside torch's modules: what they are told, when the past is forgotten, and the boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bev.deploy import Exportable, ExportError, FrameMemory, Pipeline
from bev.deploy.build import as_batch
from bev.deploy.facts import GraphFacts
from bev.deploy.memory import TOLD, memory_of, motion_arrays
from bev.deploy.parity import compare_boxes
from bev.deploy.pipeline import _TorchRunner
from bev.models.detectors import FrameStream, TemporalDetector
from bev.models.motion import Motion
from bev.structures import CameraRig
from tests.deploy import small


def _pose(x_m: float, y_m: float, turn_rad: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(turn_rad), -np.sin(turn_rad)], [np.sin(turn_rad), np.cos(turn_rad)]]
    pose[:2, 3] = x_m, y_m
    return pose


# Scene, time, pose; and whether the frame continues the one before.
WAY = [
    ("a", 1_000_000, _pose(1000.0, 500.0, 0.1), False),
    ("a", 1_500_000, _pose(1002.5, 500.4, 0.2), True),
    ("a", 2_000_000, _pose(1004.5, 501.4, 0.3), True),
    ("a", 9_000_000, _pose(1030.0, 510.0, 0.4), False),  # after a gap
    ("b", 9_500_000, _pose(10.0, -3.0, 2.0), False),  # another recording
    ("b", 10_000_000, _pose(10.9, -2.0, 2.1), True),
    ("b", 10_000_000, _pose(10.9, -2.0, 2.1), False),  # no later than the one before
]


@pytest.fixture(scope="module", params=["bevformer", "bevdet4d"])
def temporal(request: pytest.FixtureRequest) -> Exportable:
    """One vehicle's detector after its first frame."""
    both: Exportable = getattr(small, request.param)()
    assert isinstance(both.model, TemporalDetector) and both.rig is not None
    rig = type(both.rig).stack([_row(both.rig)])
    return Exportable.streaming(both.model, as_batch(both.images[:1], rig), {})


def _row(rig: CameraRig) -> CameraRig:
    parts = {n: getattr(rig, n)[0] for n in ("intrinsics", "cam_from_ref", "image_aug", "timestamp_us")}
    return replace(rig, **parts)


def _pipeline(example: Exportable) -> Pipeline:
    """Of the graph in torch itself, whose export to files other tests hold to it."""
    graph, pipeline = example.graph(), Pipeline.__new__(Pipeline)
    pipeline._run, pipeline._model, pipeline._kept, pipeline._longest_gap_s = _TorchRunner(graph), None, None, 2.0
    pipeline._transform, pipeline.times_ms = None, {}
    pipeline._take(graph.facts, "test")
    return pipeline


def test_boxes_are_those_of_the_detectors_own_stream(temporal: Exportable) -> None:
    """Over two recordings with a gap: the same frames continue, and the same boxes are found."""
    assert isinstance(temporal.model, TemporalDetector) and temporal.rig is not None
    pipeline, stream = _pipeline(temporal), FrameStream(temporal.model)
    seen, rig = temporal.images, _row(temporal.rig)
    with_past = 0
    for number, (scene, time_us, pose, continues) in enumerate(WAY):
        images = seen.roll(17 * number, -1)
        if not continues:
            stream.reset()
        batch = replace(
            as_batch(images, temporal.rig),
            scenes=[scene],
            timestamp_us=torch.tensor([time_us]),
            global_from_ref=torch.from_numpy(pose)[None],
        )
        with torch.no_grad():
            expected = stream.predict(batch)[0]
            alone = temporal.model.predict(as_batch(images, temporal.rig))[0]
        pictures = list(images[0].permute(0, 2, 3, 1).numpy())
        found = pipeline(pictures, rig, pose, time_us, scene)
        agreement = compare_boxes(expected, found)
        assert pipeline.continued is continues
        assert agreement.unmatched == 0 and agreement.count > 3, (number, agreement)
        with_past += compare_boxes(alone, found).unmatched > 0
    assert with_past >= 2, "the past makes a difference"


def test_what_a_graph_is_told_is_what_its_detector_is_told(temporal: Exportable) -> None:
    assert isinstance(temporal.model, TemporalDetector)
    memory = memory_of(temporal.model, temporal.state)
    assert memory is not None
    pose = torch.from_numpy(np.stack([_pose(3.0, 4.0, 0.5), _pose(900.0, -40.0, 3.0)]))
    before = torch.from_numpy(np.stack([_pose(2.0, 4.5, 0.4), _pose(901.0, -40.0, 3.1)]))
    still = torch.eye(4, dtype=torch.float64).expand(2, 4, 4), torch.zeros(2, dtype=torch.float64)
    first = Motion(torch.zeros(2, dtype=torch.bool), pose, *still)
    moved = first.since(torch.tensor([True, False]), before, torch.full((2,), 0.5, dtype=torch.float64))
    wanted = temporal.model.motion_inputs(moved)
    found = motion_arrays(moved, memory["motion"])
    assert {f"state_{name}" for name in wanted} == set(found)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[f"state_{name}"], value.float().numpy(), rtol=1e-6, atol=1e-6)


def test_a_detector_that_is_told_something_else_has_no_export_form(
    temporal: Exportable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TOLD, "continues")
    with pytest.raises(ValueError, match=r"is told \['continues'\] of the motion"):
        memory_of(temporal.model, temporal.state)


def test_frames_must_tell_where_and_when(temporal: Exportable) -> None:
    assert temporal.rig is not None
    pipeline = _pipeline(temporal)
    pictures = list(temporal.images[0].permute(0, 2, 3, 1).numpy())
    with pytest.raises(ValueError, match="tell it global_from_ref and timestamp_us"):
        pipeline(pictures, _row(temporal.rig))
    bad: list[Any] = [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)]
    for pose in bad:
        with pytest.raises(ValueError, match="finite, invertible"):
            pipeline(pictures, _row(temporal.rig), pose, 1)


def test_reset_and_older_files() -> None:
    state = {"state_memory": [[2], "float32"], "state_continues": [[], "bool"]}
    memory = FrameMemory({"state": state, "motion": {"names": ["continues"]}})
    inputs = memory.enter("a", 0, np.eye(4))
    assert inputs["state_memory"].shape == (1, 2) and not inputs["state_continues"][0] and not memory.continued
    memory.leave({"next_memory": np.ones((1, 2), np.float32), "score": np.ones(1)})
    assert memory.enter("a", 500_000, np.eye(4))["state_memory"].sum() == 2 and memory.continued
    memory.leave({"next_memory": np.ones((1, 2), np.float32)})
    memory.reset()
    assert memory.enter("a", 900_000, np.eye(4))["state_memory"].sum() == 0
    facts = GraphFacts(("images", "state_bev"), ("score",), {"kind": "query"}, _spec(), False)
    with pytest.raises(ExportError, match="export it again"):
        Pipeline.__new__(Pipeline)._take(facts, "old.onnx")


def _spec() -> Any:
    from bev.deploy.facts import CalibrationSpec

    return CalibrationSpec(("FRONT",), (4, 6))
