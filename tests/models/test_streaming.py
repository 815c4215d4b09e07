"""The state interface of temporal detectors: streams, scene changes, growing and shrinking batches."""

from __future__ import annotations

from dataclasses import replace

import torch

from bev.models.detectors import FrameStream
from bev.models.motion import Motion
from bev.models.view.ego_motion import can_bus_vector, planar_motion
from bev.structures import Batch
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


def test_starts_decide_row_by_row() -> None:
    """Rows of a sampler: what starts begins anew though its scene goes on; what does not continues its own row."""
    first, second = frames()
    one_scene = dict(scenes=["scene", "scene"])
    first, second = replace(first, **one_scene), replace(second, **one_scene)
    stream = FrameStream(detector().eval())
    with torch.no_grad():
        memory = stream.forward(first)["state"]["bev"]
        state = stream.enter(replace(second, starts=torch.tensor([True, False])))
        assert state["continues"].tolist() == [False, True]
        both = stream.enter(replace(second, starts=torch.tensor([False, False])))
        assert both["continues"].all() and torch.equal(both["bev"], memory)
        other = replace(second, scenes=["scene", "other"], starts=torch.tensor([False, False]))
        assert stream.enter(other)["continues"].tolist() == [True, False]


def test_frames_of_one_scene_in_a_batch_keep_to_their_own_past() -> None:
    """Shuffled training: row 0's past is later than row 1's, and still before row 1's present."""
    drive = [rows(frame, [0]) for frame in frames(4)]
    model = detector().eval()
    past, present = _joined(drive[2], drive[0]), _joined(drive[3], drive[1])
    with torch.no_grad():
        together = model(present.images, present.rig, model.recall(replace(present, previous=(past,))))
        for row, (before, now) in enumerate(((drive[2], drive[3]), (drive[0], drive[1]))):
            alone = model(now.images, now.rig, model.recall(replace(now, previous=(before,))))
            torch.testing.assert_close(alone["box_code"][:, 0], together["box_code"][:, row], atol=1e-4, rtol=1e-4)


def _joined(a: Batch, b: Batch) -> Batch:
    return replace(
        a,
        images=torch.cat([a.images, b.images]),
        rig=frames(1)[0].rig,  # all frames have the same one
        global_from_ref=torch.cat([a.global_from_ref, b.global_from_ref]),
        timestamp_us=torch.cat([a.timestamp_us, b.timestamp_us]),
        tokens=a.tokens + b.tokens,
        scenes=a.scenes + b.scenes,
        boxes=None,
    )


def test_training_on_a_stream_is_training_with_its_past() -> None:
    """In evaluation mode (no dropout, no GridMask) a streamed loss and its gradient are those with ``previous``."""
    first, second, third = frames(3)
    model, grads = detector().eval(), []
    stream = FrameStream(model)
    for streamed in (True, False):
        model.zero_grad()
        if streamed:
            losses = [stream.loss(frame) for frame in (first, second, third)][-1]
        else:
            losses = model.loss(replace(third, previous=(first, second)))
        sum(losses.values()).backward()
        grads.append((losses, [p.grad for p in model.parameters() if p.grad is not None]))
    assert stream.continued == 4
    for name, value in grads[0][0].items():
        torch.testing.assert_close(value, grads[1][0][name], atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(grads[0][1], grads[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_a_batch_with_its_own_past_is_neither_continued_nor_remembered() -> None:
    first, second, third = frames(3)
    model = detector().eval()
    stream = FrameStream(model)
    with torch.no_grad():
        stream.predict(first)
        ours = stream.predict(replace(second, previous=(first,)))
        theirs = model.predict(replace(second, previous=(first,)))
        assert all(torch.equal(a.score, b.score) for a, b in zip(ours, theirs))
        assert not stream.enter(third)["continues"].any()


def test_a_memory_goes_through_a_checkpoint() -> None:
    first, second = frames()
    model = detector().eval()
    stream, other = FrameStream(model), FrameStream(model)
    with torch.no_grad():
        stream.remember(first)
        other.load_state_dict(stream.state_dict())
        for name, value in stream.enter(second).items():
            assert torch.equal(value, other.enter(second)[name])
        other.load_state_dict(stream.state_dict()[0])  # as checkpoints were when one batch was remembered
        assert other.enter(second)["continues"].all()
    other.load_state_dict(None)
    assert other.state_dict() == []


def test_recordings_that_take_turns_are_each_continued() -> None:
    """Two recordings, frame about: the second frame of each continues its own first, as if it had been alone."""
    (first, second), (other_first, other_second) = frames(batch=1), frames(batch=1)
    other_first, other_second = (
        replace(f, scenes=["other"], images=f.images.flip(-1)) for f in (other_first, other_second)
    )
    model = detector().eval()
    stream, alone, other_alone = FrameStream(model, reach=2), FrameStream(model), FrameStream(model)
    starting, going_on = torch.tensor([True]), torch.tensor([False])
    with torch.no_grad():
        for frame, single, starts in (
            (first, alone, starting),
            (other_first, other_alone, starting),
            (second, alone, going_on),
            (other_second, other_alone, going_on),
        ):
            ours = stream.forward(replace(frame, starts=starts))
            theirs = single.forward(replace(frame, starts=starts))
            torch.testing.assert_close(ours["box_code"], theirs["box_code"], atol=0, rtol=0)
    assert stream.continued == 2 and alone.continued == other_alone.continued == 1
    forgetful = FrameStream(model)
    with torch.no_grad():
        forgetful.forward(replace(first, starts=starting))
        forgetful.forward(replace(other_first, starts=starting))
        assert not forgetful.enter(replace(second, starts=going_on))["continues"].any()


def test_rows_of_one_batch_may_continue_different_batches() -> None:
    first, second = frames(batch=2)
    model = detector().eval()
    stream, whole = FrameStream(model, reach=2), FrameStream(model)
    with torch.no_grad():
        for row in range(2):
            stream.remember(replace(rows(first, [row]), starts=torch.tensor([True])))
        whole.remember(first)
        ours, theirs = stream.enter(replace(second, starts=None)), whole.enter(replace(second, starts=None))
    assert ours["continues"].all()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-5)


def test_scaled_and_mirrored_worlds_stream_like_the_true_one() -> None:
    """``AugmentReference`` scales and mirrors reference frames: still points stay still."""
    first, second = frames(batch=1)
    for scale, flip in ((1.05, 1.0), (1.0, -1.0), (0.95, -1.0)):
        new_from_old = torch.diag(torch.tensor([scale * flip, scale, scale, 1.0], dtype=torch.float64))
        old_from_new = new_from_old.inverse()
        changed = [replace(f, global_from_ref=f.global_from_ref @ old_from_new) for f in (first, second)]
        motions = []
        for a, b in ((first, second), changed):
            motion = Motion.first(b)
            motions.append(motion.since(torch.tensor([True]), a.global_from_ref, motion.elapsed_s))
        expected = new_from_old @ motions[0].ref_from_previous @ old_from_new
        torch.testing.assert_close(motions[1].ref_from_previous, expected)
        plain, other = (planar_motion(can_bus_vector(m, "lidar"), "lidar") for m in motions)
        torch.testing.assert_close(other.moved_m, plain.moved_m * torch.tensor([scale * flip, scale]))
        torch.testing.assert_close(other.turned_deg, plain.turned_deg * flip)


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
