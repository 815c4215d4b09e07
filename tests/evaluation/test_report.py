"""Breakdowns, confusion, intervals and the page that shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes import Evaluation, evaluate_columns, evaluate_submission
from bev.evaluation.nuscenes.bootstrap import Resampler, compare, intervals, verdict
from bev.evaluation.nuscenes.breakdown import Trait, break_down, traits_of
from bev.evaluation.nuscenes.confusion import confusion_matrix, worst_false_positives, worst_misses
from bev.evaluation.report import Picture, Section, Table, write_report
from bev.evaluation.report.page import cell, html, markdown
from bev.structures.conventions import CLASSES
from tests.data.tiny_nuscenes import VERSION
from tests.evaluation.random_columns import random_case

SAMPLES = 24


def _evaluate(seed: int = 0, predictions: int = 1500) -> Evaluation:
    case = random_case(seed, samples=SAMPLES, boxes=500, predictions=predictions, score_steps=1000)
    return evaluate_columns(*case, [f"t{i}" for i in range(SAMPLES)])


@pytest.fixture(scope="module")
def done() -> Evaluation:
    return _evaluate()


def _assert_close(scores: dict, expected: dict) -> None:
    for name in ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-12), name
    for name, row in expected["classes"].items():
        for kind, value in row.items():
            assert scores["classes"][name][kind] == pytest.approx(value, abs=1e-12, nan_ok=True), (name, kind)


def test_scenes_drawn_once_give_the_scores_and_those_not_drawn_are_gone(done: Evaluation) -> None:
    scene = np.arange(SAMPLES) // 4
    resampler = Resampler(done, scene)
    _assert_close(resampler.scores(np.ones(6, int)), done.scores)
    _assert_close(resampler.scores(np.full(6, 3)), done.scores)
    truth, predicted, surroundings = random_case(0, samples=SAMPLES, boxes=500, predictions=1500, score_steps=1000)
    kept = {i: k for k, i in enumerate(np.flatnonzero(scene != 2).tolist())}
    rest = replace(surroundings, ego_m=surroundings.ego_m[list(kept)])
    racks = np.isin(rest.rack_sample, list(kept))
    rest = replace(
        rest,
        rack_sample=np.array([kept[i] for i in rest.rack_sample[racks].tolist()], np.int32),
        rack_center_m=rest.rack_center_m[racks],
        rack_size_m=rest.rack_size_m[racks],
        rack_rotation=rest.rack_rotation[racks],
    )
    fewer = evaluate_columns(truth.of_samples(kept), predicted.of_samples(kept), rest, ["t"] * len(kept))
    _assert_close(resampler.scores(np.array([1, 1, 0, 1, 1, 1])), fewer.scores)


def test_intervals_hold_the_score_and_need_scenes(done: Evaluation) -> None:
    found = intervals(done, np.arange(SAMPLES) // 2, draws=60)
    for name in ("NDS", "mAP", "AP/car"):
        interval = found[name]
        assert interval.low is not None and interval.high is not None
        assert interval.low < interval.value < interval.high
    few = intervals(done, np.arange(SAMPLES) // 8)
    assert few["NDS"].value == done.scores["NDS"] and few["NDS"].low is None


def test_a_comparison_tells_a_difference_from_noise(done: Evaluation) -> None:
    scene = np.arange(SAMPLES) // 2
    same = compare(done, done, scene, draws=20)
    assert {(v.value, v.low, v.high) for v in same.values()} == {(0.0, 0.0, 0.0)}
    assert verdict(same["mAP"]) == "may be noise"
    truth, predicted, surroundings = random_case(0, samples=SAMPLES, boxes=500, predictions=1500, score_steps=1000)
    moved = replace(predicted, center_m=predicted.center_m + [1.5, 0, 0])
    worse = compare(done, evaluate_columns(truth, moved, surroundings, done.tokens), scene, draws=60)
    assert worse["mAP"].value > 0 and verdict(worse["mAP"]) == "real"
    assert verdict(compare(done, done, scene // 6)["NDS"]).startswith("cannot be told")
    with pytest.raises(ValueError, match="same samples"):
        compare(done, replace(done, tokens=["other"] * SAMPLES), scene)


def test_groups_share_out_what_was_scored(done: Evaluation) -> None:
    everything = Trait("all", ["a", "b"], np.zeros(len(done.truth), int), np.zeros(len(done.predicted), int))
    (row,) = break_down(done, everything)
    assert row.mean_ap == pytest.approx(done.scores["mAP"], abs=1e-12) and row.truths == len(done.truth)
    found = len(set(done.matched[2][done.matched[2] >= 0].tolist()))
    assert row.recall == pytest.approx(found / len(done.truth))
    by_class = Trait("class", CLASSES, done.truth.label, done.predicted.label)
    rows = break_down(done, by_class)
    assert sum(r.truths for r in rows) == len(done.truth)
    for r in rows:
        assert r.mean_ap == pytest.approx(done.scores["classes"][r.group]["AP"], abs=1e-12), r.group
    hidden = replace(everything, predicted=None)
    assert break_down(done, hidden)[0].mean_ap is None


def test_confusion_counts_every_box_once(done: Evaluation) -> None:
    matrix = confusion_matrix(done)
    assert matrix[:10].sum(1).tolist() == np.bincount(done.truth.label, minlength=10).tolist()
    assert matrix[10, 10] == 0 and matrix[:10, :10].trace() > 0
    people, cones = CLASSES.index("pedestrian"), CLASSES.index("traffic_cone")
    swapped = np.where(done.truth.label == people, cones, done.truth.label).astype(np.int8)
    perfect = replace(done, predicted=replace(done.truth, label=swapped, score=np.full(len(done.truth), 2.0)))
    taken = confusion_matrix(perfect)
    assert taken[people, cones] == (done.truth.label == people).sum() and taken[people, people] == 0
    assert taken[:10, :10].sum() == len(done.truth)


def test_the_worst_mistakes_match_nothing_and_are_sorted(done: Evaluation) -> None:
    wrong = worst_false_positives(done, 10)
    scores = [done.predicted.score[m.row] for m in wrong]
    assert len(wrong) == 10 and scores == sorted(scores, reverse=True)
    assert all((done.matched[:, m.row] < 0).all() for m in wrong)
    missed = worst_misses(done, 10)
    points = [done.truth.num_pts[m.row] for m in missed]
    assert points == sorted(points, reverse=True)
    assert not {m.row for m in missed} & set(done.matched.ravel().tolist())
    for m in missed:
        apart = done.predicted.center_m[m.nearest, :2] - done.truth.center_m[m.row, :2]
        assert m.distance_m == pytest.approx(np.hypot(*apart)) and done.predicted.sample[m.nearest] == m.sample


def test_traits_of_a_folder(root: Path, results: Path) -> None:
    done = evaluate_submission(results, root, VERSION, "tiny_train")
    index = load_index(root, VERSION)
    frames = np.array([index.frame_of[token] for token in done.tokens])
    traits = {trait.name: trait for trait in traits_of(done, index, frames)}
    assert len(traits) == 7
    for trait in traits.values():
        for group in (trait.truth, trait.predicted):
            assert group is None or (group.min() >= 0 and group.max() < len(trait.groups)), trait.name
        assert sum(row.truths for row in break_down(done, trait)) == len(done.truth)
    assert {row.group for row in break_down(done, traits["scene"])} == {"scene-a"}
    camera = traits["camera"]
    front = np.array(camera.groups)[camera.truth] == "CAM_FRONT"
    ego = index.global_from_ego[frames[done.truth.sample]]
    ahead = np.einsum("mij,mi->mj", ego[:, :3, :3], done.truth.center_m - ego[:, :3, 3])
    angle = np.degrees(np.arctan2(ahead[:, 1], ahead[:, 0]))
    assert front.any() and np.abs(angle[front]).max() < 45
    unknown = np.isnan(done.truth.velocity_mps).any(1)
    assert (np.array(traits["speed"].groups)[traits["speed"].truth] == "not known").tolist() == unknown.tolist()


def test_the_page_needs_no_other_file(root: Path, results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bev.evaluation.nuscenes.full_report import write_nuscenes_report

    done = evaluate_submission(results, root, VERSION, "tiny_train")
    page = write_nuscenes_report(tmp_path / "r", done, root, VERSION, title="a <b> & c", other=done)
    text = page.read_text()
    assert "a &lt;b&gt; &amp; c" in text and "<b>" not in text
    for heading in ("Scores", "Comparison", "How sure", "Precision", "Breakdown", "Confusion", "Worst misses"):
        assert f"<h2>{heading}" in text
    sources = re.findall(r'src="([^"]+)"', text)
    assert len(sources) >= 6 and all(source.startswith("data:image/") for source in sources)
    assert f">{done.scores['NDS']:.3f}<" in text
    linked = re.findall(r"\]\(([^)]+)\)", (tmp_path / "r" / "report.md").read_text())
    assert len(linked) == len(sources) and all((tmp_path / "r" / name).stat().st_size > 500 for name in linked)
    assert any("false_positive" in name for name in linked) and any("miss_" in name for name in linked)
    assert not list((tmp_path / "r").rglob("*.tmp"))


def test_tables_and_sections(tmp_path: Path) -> None:
    table = Table("t|1", ["a", "b", "c"], [["x|y", 0.12345, None], ["<z>", float("nan"), 3]])
    sections = [Section("S", "words", [table], [Picture("p.png", "cap", b"1234")], gallery=True)]
    assert [cell(v) for v in (None, float("nan"), 0.5, 3, "s")] == ["-", "-", "0.500", "3", "s"]
    page = html("T", sections)
    assert "<td>0.123</td><td>-</td>" in page and "&lt;z&gt;" in page and "base64,MTIzNA==" in page
    assert "| x\\|y | 0.123 | - |" in markdown("T", sections)
    assert write_report(tmp_path, "T", sections).name == "report.html"
    assert (tmp_path / "pictures" / "p.png").read_bytes() == b"1234"
