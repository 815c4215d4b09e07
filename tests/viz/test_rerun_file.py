"""Rerun recordings, read back with rerun's own reader."""

from dataclasses import replace

import pytest

from bev.viz import DrawOptions
from bev.viz.rerun_file import write_rerun
from tests.models.rigs import random_boxes
from tests.viz.test_draw import make_sample
from tests.viz.test_overlay import overlay


def test_a_recording_holds_the_scene(tmp_path):
    rr = pytest.importorskip("rerun")
    frames = [replace(make_sample(), token=f"t{i}", timestamp_us=500_000 * i) for i in range(3)]
    options = DrawOptions(range_m=30)
    found = {"t1": random_boxes(4)}
    path = write_rerun(tmp_path / "a" / "x.rrd", frames, found, [0, 1, 2], options, lambda s: overlay())
    assert [p.name for p in path.parent.iterdir()] == ["x.rrd"] and path.stat().st_size > 10_000
    if not hasattr(rr, "dataframe"):
        pytest.skip("this rerun has no reader in rerun.dataframe")
    schema = rr.dataframe.load_recording(path).schema()
    assert "time" in {column.name for column in schema.index_columns()}
    places = {column.entity_path for column in schema.component_columns()}
    drawn = ("CAM_0", "CAM_5", "points", "prediction", "ground_truth", "ground_truth/velocity", "tracks", "marks")
    for part in (*drawn, "rings", "body"):
        assert f"/world/vehicle/{part}" in places


def test_no_frames(tmp_path):
    pytest.importorskip("rerun")
    with pytest.raises(ValueError, match="at least one frame"):
        write_rerun(tmp_path / "x.rrd", [], None, [])


def test_without_rerun_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    with pytest.raises(ImportError, match=r"bevstack\[rerun\]"):
        write_rerun(tmp_path / "x.rrd", [make_sample()], None, [0])
    assert list(tmp_path.iterdir()) == []
