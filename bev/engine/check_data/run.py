"""The check of a configuration's data, from its tables to pictures with boxes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from bev.data.checks import MISTAKES, Finding, Inspection, inspect_frames
from bev.data.checks.inspect import spread
from bev.data.checks.witnesses import TEXTS
from bev.data.frames import FrameDataset
from bev.data.whole import whole_frames
from bev.engine.check_data.configuration import check_configuration, data_nodes
from bev.engine.check_data.picture import histograms
from bev.engine.check_data.predictions import BEST_BOXES, MAX_FRAMES, check_predictions
from bev.engine.check_data.round_trip import round_trip
from bev.engine.check_data.scores import PresentScores
from bev.evaluation.nuscenes.submission import boxes_of, read_submission, to_ref
from bev.io import FileError
from bev.io.json_files import write_json
from bev.registry import DATASETS, ConfigError, build_node
from bev.viz import draw_results

# What of a data set's options changes its samples and not what the data are.
_PLAIN: dict[str, Any] = {
    "image": None,
    "transforms": [],
    "cache": "none",
    "class_balance": False,
    "history": 0,
    "history_pool": None,
    "load_points": False,
    "sweeps": 0,
}


def check_data(cfg: Config, out: Path, frames: int = 4, predictions: str | None = None) -> list[Finding]:
    """Check every data set of a configuration, and a submission where one is given; print and write the report.

    Args:
        cfg: with ``train_dataloader``, ``val_dataloader`` or ``test_dataloader``.
        out: folder of ``report.json``, ``histograms_<stage>.png`` and ``overlays/<stage>/*.png``.
        frames: how many frames of each data set are drawn; 0 for none.
        predictions: nuScenes submission for one of the data sets.

    Returns:
        The mistakes that were found.

    Raises:
        ConfigError, FileError: the configuration or the data cannot be read at all.
        ImportError, RenderError: pictures cannot be drawn here.
    """
    nodes = data_nodes(cfg)
    if not nodes:
        raise ConfigError(f"{cfg.filename} has no data set of key frames to check")
    datasets = {stage: _plain(node, stage) for stage, node in nodes.items()}
    findings = check_configuration(cfg)
    _print_findings("configuration", findings)
    report: dict[str, Any] = {"configuration": [asdict(f) for f in findings], "data": {}}
    for stage, dataset in datasets.items():
        part, found = _check_one(stage, dataset, out)
        report["data"][stage] = part
        findings = findings + found
    if predictions is not None:
        stage = _stage_of(predictions, datasets)
        scores, found = check_predictions(predictions, datasets[stage].index)
        print(f"\npredictions {predictions} for {stage}: {scores}")
        print(f"  (of the best {BEST_BOXES} boxes of at most {MAX_FRAMES} frames; tools/evaluate.py scores all)")
        _print_findings("predictions", found)
        report["predictions"] = {"scores": asdict(scores), "findings": [asdict(f) for f in found]}
        findings = findings + found
    write_json(out / "report.json", report, indent=1)
    for stage, dataset in datasets.items() if frames else ():
        _draw(stage, dataset, out / "overlays" / _file_name(stage), frames, predictions)
    print(f"\n{len(findings)} mistakes found; report: {out / 'report.json'}")
    return findings


def _plain(node: Mapping[str, Any], stage: str) -> FrameDataset:
    taken = {key: value for key, value in node.items() if key not in _PLAIN}
    dataset = build_node(taken, DATASETS, path=f"{stage.split(',')[0]}_dataloader.dataset")
    if not isinstance(dataset, FrameDataset):
        raise ConfigError(f"{stage} data are a {type(dataset).__name__}: only data sets of key frames can be checked")
    if not len(dataset):
        raise FileError(f"{stage} data ({dataset.root}) hold no frames")
    return dataset


def _check_one(stage: str, dataset: FrameDataset, out: Path) -> tuple[dict[str, Any], list[Finding]]:
    seen = inspect_frames(dataset)
    _print_inspection(stage, dataset, seen)
    scores, found = _round_trip(dataset)
    print(f"  round trip of the ground truth: {scores or 'there is none'}")
    findings = [*seen.findings, *found]
    _print_findings(stage, findings)
    _write(out / f"histograms_{_file_name(stage)}.png", histograms(seen.counts, f"{stage} ({dataset.root})"))
    part = {
        "counts": asdict(seen.counts),
        "votes": seen.votes,
        "round_trip": asdict(scores) if scores else None,
        "findings": [asdict(f) for f in findings],
    }
    return part, findings


def _round_trip(dataset: FrameDataset) -> tuple[PresentScores | None, list[Finding]]:
    return round_trip(dataset) if len(dataset.index.box_label) else (None, [])


def _print_inspection(stage: str, dataset: FrameDataset, seen: Inspection) -> None:
    counts = seen.counts
    print(f"\n{stage}: {dataset.root}")
    print(f"  {counts.frames} frames of {counts.scenes} scenes, {sum(counts.boxes.values())} boxes")
    print("  " + ", ".join(f"{name} {number}" for name, number in counts.boxes.items()))
    sizes = "; ".join(f"{name} {' or '.join(found)}" for name, found in counts.picture_sizes.items())
    print(f"  cameras: {sizes}")
    print(f"  looked into: points of {seen.clouds} frames, pictures of {seen.pictures}")
    for name, (fit, asked) in seen.votes.items():
        if asked:
            print(f"  {TEXTS[name]}: {fit} of {asked}")


def _print_findings(where: str, findings: list[Finding]) -> None:
    for finding in findings:
        print(f"  WARNING ({where}) {finding.name}: {MISTAKES[finding.name]}\n    {finding.message}")


def _stage_of(predictions: str, datasets: Mapping[str, FrameDataset]) -> str:
    """The data set that a submission was made for: most of its samples are there."""
    tokens = set(read_submission(predictions).results)
    hits = {stage: len(tokens.intersection(dataset.tokens)) for stage, dataset in datasets.items()}
    best = max(hits, key=lambda stage: hits[stage])
    if not hits[best]:
        raise FileError(f"{predictions}: none of its {len(tokens)} samples is in the data of this configuration")
    return best


def _draw(stage: str, dataset: FrameDataset, out: Path, frames: int, predictions: str | None) -> None:
    """Overlays of frames that can be read; where none can, that is said."""
    try:
        whole = whole_frames(dataset)
    except FileError as error:
        print(f"\nno overlays of {stage}: {error}")
        return
    tokens, poses, boxes = whole.tokens, whole.poses(), None
    positions = list(range(len(tokens)))
    if predictions is not None:
        records = read_submission(predictions).results
        boxes = {
            token: to_ref(boxes_of(records[token]), pose, whole.frame)
            for token, pose in zip(tokens, poses)
            if token in records
        }
        positions = [i for i in positions if tokens[i] in boxes]
    if not positions:
        return
    chosen = spread(np.array(positions), frames).tolist()
    for path in draw_results(whole, boxes, out, chosen):
        print(path)


def _file_name(stage: str) -> str:
    return stage.replace(", ", "_")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
