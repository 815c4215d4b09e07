"""Every shipped configuration is made of parts whose export is proven, or is refused with one clear line.

The proof itself is in ``test_export.py``: small detectors written as ONNX (all of them with ``BEV_EXPORT_ALL=1``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import projects.petr  # noqa: F401  (registers the parts)
import projects.streampetr  # noqa: F401
from bev.deploy.graph import DetectorGraph
from bev.engine import load_config
from bev.registry import MODELS
from tests.deploy import small
from tests.deploy.test_export import DENSE, FAMILIES, FURTHER
from tests.models.test_dense import small as narrow
from tests.paths import REPO_ROOT

CONFIGS = sorted(
    path
    for pattern in ("configs/*/*.py", "projects/*petr/configs/*.py")
    for path in REPO_ROOT.glob(pattern)
    if "_base_" not in path.parts
)
# Parts that only teach: a graph leaves them out.
TEACHING = {"criterion", "assigner", "auxiliary", "denoising", "depth_supervision", "image_supervision", "second"}
TEACHING |= {"loss_cls", "loss_bbox", "loss_iou", "sampler", "teacher", "grid_mask", "img_roi_head"}
# Settings, not computations: what they say is in the tensors of those that are built from them.
SETTINGS = {"BEVGrid", "LinearDepthBins", "LogDepthBins", "DepthBins", "BN", "GN"}
TWO_STAGES = {"TwoStageHead"}
# Proven elsewhere: RepVGG in test_surgery.py, the neck of BEVDet-R50 at full size (docs/deployment.md); rotated
# suppression lies outside the graph.
ELSEWHERE = {"RepVGG", "SingleLevelFPN", "RotatedSuppression"}


def parts(node: Any) -> Iterator[str]:
    """Type names of a configuration's model, without those that only teach."""
    if isinstance(node, Mapping):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for name, value in node.items():
            if name not in TEACHING:
                yield from parts(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from parts(value)


@pytest.fixture(scope="module")
def proven() -> set[str]:
    """Types that the exported examples are made of, objects without parameters (coders, priors, rules) too."""
    found: set[str] = set()
    for name in {*FAMILIES, *FURTHER, *DENSE}:
        if name.startswith("dense:"):
            found |= set(parts(narrow(load_config(small.dense_config(name.removeprefix("dense:"))).model)))
            continue
        for module in small.example(name).model.modules():
            found.add(type(module).__name__)
            plain = [value for value in vars(module).values() if type(value).__module__.startswith(("bev", "projects"))]
            listed = [value for group in vars(module).values() if isinstance(group, list) for value in group]
            found |= {type(value).__name__ for value in [*plain, *listed]}
    return found


def test_every_configuration_is_made_of_proven_parts(proven: set[str]) -> None:
    missing = {}
    for path in CONFIGS:
        types = set(parts(load_config(path).model)) - SETTINGS
        if types & TWO_STAGES:
            continue
        if types - proven - ELSEWHERE:
            missing[path.stem] = sorted(types - proven - ELSEWHERE)
    assert len(CONFIGS) > 50 and not missing


@pytest.mark.parametrize("path", [p for p in CONFIGS if "faster_rcnn" in p.stem], ids=lambda p: p.stem)
def test_two_stages_are_refused_in_one_line(path: Path) -> None:
    with torch.device("meta"):
        detector = MODELS.build(load_config(path).model).eval()
    with pytest.raises(ValueError, match="two-stage detectors have no export form") as refusal:
        DetectorGraph(detector, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert "\n" not in str(refusal.value)
