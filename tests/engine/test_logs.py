"""What a run shows and writes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import rich

from bev.engine.hooks.progress import duration
from tests.engine.runs import output, run_elsewhere, run_here

LINE = re.compile(
    r"step (\d+)/20  loss \d+\.\d{4}  \(loss_center \d+\.\d{4}, loss_size \d+\.\d{4}\)  lr \d\.\d\de-\d\d"
    r"  \d\.\d{3} s/step  data \d+%  memory \d+ MiB  left \d+:\d\d"
)


def test_plain_lines_where_the_output_is_not_a_terminal(tmp_path: Path) -> None:
    assert run_elsewhere(tmp_path, "default_hooks.logger.interval=5") == 0
    text = output(tmp_path)
    assert [int(step) for step in LINE.findall(text)] == [1, 5, 10, 15, 20]
    assert "validation at step 10: toy/distance" in text and "\x1b[" not in text
    assert "training 20 steps of 2 frames (4 epochs of 10) from step 0" in text


BAR = re.compile(r"loss \d+\.\d{4}  lr \S+  \d\.\d{3} s/step  data \d+%  memory \d+ MiB  left \d+:\d\d")


@pytest.mark.parametrize("columns", [160, 72])
def test_live_bar_on_a_terminal(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is cut off: a second line has what the first has no room for."""
    rich.get_console()  # has the width that it was made with
    monkeypatch.setattr("bev.engine.hooks.progress.REFRESH_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    before = sys.stdout
    run_here(tmp_path, "default_hooks.logger.live=true")
    assert sys.stdout is before, "the terminal is given back"
    text = capsys.readouterr().out
    assert "20/20" in text and "…" not in text
    assert all(re.search(part, text) for part in (r"loss \d+\.\d{4}", r"lr \S+", r"MiB", r"left +\d+:\d\d"))
    assert BAR.search(text) or columns < 100
    assert "validation at step 10" in text
    assert not LINE.search(text)


def test_scalars_and_events(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run_here(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [(r["mode"], r["step"]) for r in records] == [("train", 10), ("val", 10), ("train", 20), ("val", 20)]
    keys = {"mode", "step", "loss", "loss_center", "loss_size", "lr", "grad_norm", "step_s", "data_share", "memory_mib"}
    assert set(records[0]) == keys
    assert records[0]["loss"] == pytest.approx(records[0]["loss_center"] + records[0]["loss_size"])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [10, 20]
    distances = [record["toy/distance"] for record in records if record["mode"] == "val"]
    assert [e.value for e in events.Scalars("val/toy/distance")] == pytest.approx(distances)


def test_without_tensorboard_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run_here(tmp_path, "train_cfg.max_steps=2")
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert log.count("no TensorBoard files: pip install 'bevstack[train]' adds them") == 1
    assert not (tmp_path / "tensorboard").exists()


def test_a_run_that_starts_anew_puts_the_older_log_aside(tmp_path: Path) -> None:
    run_here(tmp_path, "train_cfg.max_steps=2")
    first = (tmp_path / "scalars.jsonl").read_text()
    run_here(tmp_path, "train_cfg.max_steps=3")
    assert [path.read_text() for path in tmp_path.glob("scalars_until_*.jsonl")] == [first]
    assert '"step": 2' not in (tmp_path / "scalars.jsonl").read_text()


def test_work_folder_has_configuration_and_versions(tmp_path: Path) -> None:
    run_here(tmp_path, "train_cfg.max_steps=2", "model.channels=4")
    assert "channels=4" in (tmp_path / "toy_config.py").read_text()
    assert {"bev", "torch", "mmengine", "python", "numpy"} <= set(json.loads((tmp_path / "versions.json").read_text()))


def test_dumped_configuration_trains_again(tmp_path: Path) -> None:
    from bev.engine import load_config, prepare, train

    want = run_here(tmp_path / "a", "train_cfg.max_steps=2")
    assert train(prepare(load_config(tmp_path / "a" / "toy_config.py"), str(tmp_path / "b"))) == 0
    got = run_here(tmp_path / "b", "train_cfg.max_steps=2", resume=True)
    assert got["meta"]["step"] == want["meta"]["step"]


def test_duration() -> None:
    assert [duration(s) for s in (0, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]
