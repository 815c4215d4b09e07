"""Checkpoints: what is read, what is refused, and that nothing is half-written."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from bev.io.checkpoint import CheckpointError, compare, load_checkpoint, load_weights, save_checkpoint, weights_of


def _model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_round_trip(tmp_path: Path) -> None:
    value = {"state_dict": _model().state_dict(), "meta": {"step": 3, "text": "a", "list": [1, (2.0, None)]}}
    save_checkpoint(value, tmp_path / "deep" / "a.pth")
    back = load_checkpoint(tmp_path / "deep" / "a.pth")
    assert back["meta"] == value["meta"] and [p.name for p in (tmp_path / "deep").iterdir()] == ["a.pth"]
    assert all(torch.equal(back["state_dict"][k], v) for k, v in value["state_dict"].items())


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    save_checkpoint({"x": torch.ones(1)}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint({"x": lambda: None}, path)
    assert torch.equal(load_checkpoint(path)["x"], torch.ones(1))


def test_openmmlab_checkpoint(tmp_path: Path) -> None:
    """HistoryBuffer and numpy scalars are allowed: mmengine writes them, and torch alone refuses them."""
    hub = {"log_scalars": {"loss": HistoryBuffer([0.5, 0.25], [1, 1])}, "score": np.float64(0.5), "n": np.int64(3)}
    torch.save({"meta": {}, "message_hub": hub, "state_dict": _model().state_dict()}, tmp_path / "mm.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "mm.pth", weights_only=True)
    back = load_checkpoint(tmp_path / "mm.pth")
    assert back["message_hub"]["log_scalars"]["loss"].current() == 0.25 and back["message_hub"]["score"] == 0.5
    load_weights(_model(), weights_of(back, "mm.pth"), "mm.pth")


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, ("touch /tmp/bev_checkpoint_was_executed",)


class _Getattr:
    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return getattr, (HistoryBuffer, "__init__")


def test_only_the_four_statistics_of_history_buffer_are_given(tmp_path: Path) -> None:
    torch.save({"x": _Getattr()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="attribute '__init__' of .* is not allowed"):
        load_checkpoint(tmp_path / "bad.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="bad.pth cannot be read: .*posix"):
        load_checkpoint(tmp_path / "bad.pth")
    assert not Path("/tmp/bev_checkpoint_was_executed").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip"])
def test_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="a.pth"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, part: float) -> None:
    save_checkpoint({"state_dict": _model(64).state_dict()}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match="a.pth"):
        load_checkpoint(tmp_path / "a.pth")


def test_other_things_than_a_dict(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds a list, expected a dict"):
        load_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="none.pth does not exist"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="has no 'state_dict'; it holds: model, epoch"):
        weights_of({"model": {}, "epoch": 3}, "x.pth")


def test_average_is_preferred() -> None:
    checkpoint = {"state_dict": {"a": torch.zeros(1)}, "ema_state_dict": {"a": torch.ones(1)}}
    assert weights_of(checkpoint, "x")["a"] == 1 and weights_of(checkpoint, "x", prefer_ema=False)["a"] == 0
    assert weights_of({"a": torch.ones(1)}, "bare")["a"] == 1


def test_another_model_leaves_this_one_as_it_was() -> None:
    model, before = _model(), {k: v.clone() for k, v in _model().state_dict().items()}
    model.load_state_dict(before)
    foreign = {"0.weight": torch.zeros(5, 2), "0.bias": torch.zeros(3), "head.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        load_weights(model, foreign, "foreign.pth")
    message = str(error.value)
    assert "foreign.pth is of another model than Sequential: 1 of the model's 7 keys match" in message
    assert "5 missing (first: 1.weight)" in message and "1 unexpected (first: head.bias)" in message
    assert "1 of wrong shape (first: 0.weight is (5, 2), the model has (3, 2))" in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_partial_loading_reports_and_refuses_nothing() -> None:
    model = _model()
    report = load_weights(model, {"0.bias": torch.full((3,), 7.0), "x": torch.zeros(1)}, "part.pth", partial=True)
    assert report.matched == ["0.bias"] and report.unexpected == ["x"] and not report.complete
    assert torch.equal(model[0].bias, torch.full((3,), 7.0))
    with pytest.raises(CheckpointError, match="0 of the model's 7 keys match"):
        load_weights(model, {"x": torch.zeros(1)}, "none.pth", partial=True)
    with pytest.raises(CheckpointError, match="0 of the model's 7 keys match"):
        load_weights(model, {}, "empty.pth", partial=True)


def test_data_parallel_prefix_is_dropped() -> None:
    source, target = _model(), _model()
    load_weights(target, {f"module.{k}": v for k, v in source.state_dict().items()}, "ddp.pth")
    assert compare(target, source.state_dict()).complete and torch.equal(target[0].weight, source[0].weight)
