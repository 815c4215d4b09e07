"""The state interface of temporal detectors: streams, scene changes, growing and shrinking batches."""

from __future__ import annotations

from dataclasses import replace

import torch

from bev.models.detectors import FrameStream
from tests.models.test_bevformer import detector, frames, rows


def test_a_stream_is_the_frames_with_their_past() -> None:
    first, second, third = frames(3)
    model, stream = detector().eval(), FrameStream(detector().eval())
    with torch.no_grad():
        streamed = [stream.predict(frame) for frame in (first, second, third)]
        recalled = model.predict(replace(third, previous=(first, second)))
        alone = model.predict(third)
    for ours, expected, single in zip(streamed[2], recalled, alone):
        assert torch.equal(ours.center_m, expected.center_m) and torch.equal(ours.score, expected.score)
        assert not torch.equal(ours.score, single.score)


def test_a_new_scene_begins_anew_and_the_others_go_on() -> None:
    first, second = frames()
    stream = FrameStream(detector().eval())
    with torch.no_grad():
        stream.forward(first)
        state = stream.enter(replace(second, scenes=["new", second.scenes[1]]))
    assert state["continues"].tolist() == [False, True]
    assert not state["can_bus"][0, :3].any() and state["can_bus"][1, :3].any()


def test_recordings_may_change_places_and_end() -> None:
    first, second = frames(batch=3)
    stream, swapped = FrameStream(detector().eval()), [2, 0]
    with torch.no_grad():
        memory = stream.forward(first)["state"]["bev"]
        in_order, state = stream.enter(second), stream.enter(rows(second, swapped))
    assert torch.equal(state["bev"], memory[swapped])
    torch.testing.assert_close(state["can_bus"], in_order["can_bus"][swapped])


def test_a_frame_does_not_continue_itself_nor_a_later_one() -> None:
    first, second = frames()
    stream = FrameStream(detector().eval())
    with torch.no_grad():
        stream.forward(second)
        assert not stream.enter(second)["continues"].any()
        assert not stream.enter(first)["continues"].any()
        stream.reset()
        assert "bev" not in stream.enter(second)


def test_repeated_oldest_frames_are_a_first_frame() -> None:
    """Before a recording's start the data set repeats its oldest frame: that must not be a past."""
    first, second = frames()
    model = detector().eval()
    with torch.no_grad():
        one = model(second.images, second.rig, model.recall(replace(second, previous=(first,))))
        padded = model(second.images, second.rig, model.recall(replace(second, previous=(first, first, first))))
    assert torch.equal(one["box_code"], padded["box_code"])


def test_memory_keeps_no_graph() -> None:
    first, second = frames()
    model = detector().train()
    stream = FrameStream(model)
    stream.forward(first)
    assert not stream.enter(second)["bev"].requires_grad
