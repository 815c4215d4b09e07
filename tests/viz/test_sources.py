"""Which frames are drawn and with which boxes: spread, by token, from submissions of this and other splits."""

import numpy as np
import pytest

from bev.data import NuScenesDataset
from bev.data.draw import Draw
from bev.evaluation.nuscenes.submission import detections, to_global, write_submission
from bev.registry import ConfigError
from bev.viz.sources import Chosen, choose, submitted, with_their_past


@pytest.fixture(scope="module")
def frames(synthetic_root):
    return NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_val")


def _submission(path, frames, positions):
    samples = [frames[i] for i in positions]
    write_submission(path, {s.token: detections(s.token, to_global(s.boxes, s.global_from_ref)) for s in samples})
    return str(path)


def test_frames_are_spread_evenly_or_found_by_token():
    tokens = [f"t{i}" for i in range(10)]
    assert choose(tokens, None, 3, "x") == [0, 3, 6]
    assert choose(tokens, [], 99, "x") == list(range(10))
    assert choose(tokens, ["t7", "t1"], 1, "x") == [7, 1]
    with pytest.raises(ConfigError, match="nosuch is not a frame of split val"):
        choose(tokens, ["t1", "nosuch"], 1, "split val")
    with pytest.raises(ConfigError, match="no frames"):
        choose([], None, 3, "split val")


def test_chosen_frames_take_positions_and_draws(frames):
    chosen = Chosen(frames, [4, 1])
    assert len(chosen) == 2 and chosen[0].token == frames.tokens[4]
    assert chosen[Draw(1, (0, 1))].token == frames.tokens[1]


class _Recordings:
    """Ten frames of three recordings, the second and the third entangled."""

    def scene_of_samples(self):
        return np.array([0, 0, 0, 1, 1, 2, 1, 2, 2, 0])


def test_what_is_before_the_chosen_frames():
    frames = _Recordings()
    assert with_their_past(frames, [6]) == [3, 4, 6]
    assert with_their_past(frames, [7, 1]) == [0, 1, 5, 7]
    assert with_their_past(frames, [0, 9]) == [0, 1, 2, 9]
    assert Chosen(frames, [3, 4, 9]).scene_of_samples().tolist() == [1, 1, 0]


def test_a_whole_submission(frames, tmp_path, capsys):
    results = _submission(tmp_path / "r.json", frames, range(6))
    positions, boxes = submitted(results, frames, None, 2)
    assert positions == [0, 3] and list(boxes) == [frames.tokens[0], frames.tokens[3]]
    assert len(boxes[frames.tokens[3]]) == len(frames[3].boxes) > 0
    assert submitted(results, frames, [frames.tokens[5]], 1)[0] == [5]
    assert capsys.readouterr().err == ""


def test_a_part_of_a_split_is_drawn_as_far_as_it_goes(frames, tmp_path, capsys):
    results = _submission(tmp_path / "part.json", frames, [1, 4])
    assert submitted(results, frames, None, 6)[0] == [1, 4]
    assert f"{results} has 2 of the 6 frames of split synthetic_val" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=f"{frames.tokens[0]} is not a frame of .*part.json"):
        submitted(results, frames, [frames.tokens[0]], 6)
    with pytest.raises(ConfigError, match="nosuch is not a frame of split synthetic_val"):
        submitted(results, frames, ["nosuch"], 6)


def test_a_submission_of_another_split_is_refused(frames, synthetic_root, tmp_path):
    other = NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_train")
    results = _submission(tmp_path / "train.json", other, [3])
    with pytest.raises(ConfigError, match=f"train.json was not made for split synthetic_val .*{other.tokens[3]}"):
        submitted(results, frames, None, 6)


def test_an_empty_submission_is_refused(frames, tmp_path):
    with pytest.raises(ConfigError, match="empty.json has no frames"):
        submitted(_submission(tmp_path / "empty.json", frames, []), frames, None, 6)
