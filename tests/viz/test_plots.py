"""Plots: colours of classes, text that is large enough, curves of a run, damaged logs."""

import json

import cv2
import numpy as np
import pytest

from bev.io import FileError
from bev.viz.palette import CLASS_COLORS
from bev.viz.plots import DPI, PALETTE, TEXT_PT, code, figure_axes, line_color, training_curves


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


def _log(tmp_path, steps=30):
    rows = [{"mode": "train", "step": i + 1, "loss": 9.0 / (i + 1), "lr": 0.1, "grad_norm": 2.0} for i in range(steps)]
    rows.append({"mode": "val", "step": steps, "mAP": 0.4, "NDS": 0.5})
    path = tmp_path / "scalars.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_classes_have_one_colour_everywhere():
    assert line_color("AP/traffic_cone", 3) == line_color("traffic cone", 5) == code(CLASS_COLORS["traffic_cone"])
    assert line_color("NDS", 1) == PALETTE[1] and code(CLASS_COLORS["car"]) == "#ff9e00"


def test_every_text_is_readable_at_half_size():
    figure, axes = figure_axes(1, 2, 4, 3)
    axes[0].set_title("t")
    axes[0].set_xlabel("x")
    axes[0].plot([1, 2], [3, 4])
    figure.canvas.draw()
    texts = [t for ax in axes for t in (*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.title)]
    assert min(t.get_fontsize() for t in texts) * DPI / 72 / 2 >= 10  # px
    assert TEXT_PT * DPI / 72 / 2 >= 10


def test_curves_of_a_run(tmp_path):
    picture = cv2.imdecode(np.frombuffer(training_curves(_log(tmp_path)), np.uint8), cv2.IMREAD_COLOR)
    first = np.array([int(PALETTE[0][i : i + 2], 16) for i in (5, 3, 1)])
    assert picture.shape[1] == int(2 * 5.2 * DPI) and (np.abs(picture.astype(int) - first).max(-1) < 8).sum() > 200


def test_a_run_without_validation_or_with_a_line_cut_short(tmp_path):
    path = _log(tmp_path, 3)
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + '\n{"mode": "tr')
    assert training_curves(path)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "text, message",
    [("", "no line of training"), ('{"a"\n{"step": 1}\n', "line 1"), ("[3]\n[4]\n", "line 1: expected an object")],
)
def test_damaged_logs_are_named(tmp_path, text, message):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(FileError, match=message):
        training_curves(tmp_path / "x.jsonl")
    with pytest.raises(FileError, match="cannot read"):
        training_curves(tmp_path / "none.jsonl")
