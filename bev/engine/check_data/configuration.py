"""Silent mistakes that a configuration itself shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bev.data.checks import Finding
from bev.structures.conventions import CAMERAS_DETR3D


def check_configuration(cfg: Mapping[str, Any]) -> list[Finding]:
    """Stages that read their data differently, and colours whose mean is of the other order."""
    return [*_stages(cfg), *_means(cfg.get("model"))]


def data_nodes(cfg: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Data sets by stage (train, val, test), those that are the same named together."""
    found: dict[str, Mapping[str, Any]] = {}
    for stage in ("train", "val", "test"):
        node = (cfg.get(f"{stage}_dataloader") or {}).get("dataset")
        if not isinstance(node, Mapping):
            continue
        same = next((name for name, other in found.items() if other == node), None)
        if same is None:
            found[stage] = node
        else:
            found[f"{same}, {stage}"] = found.pop(same)
    return found


def _stages(cfg: Mapping[str, Any]) -> list[Finding]:
    nodes = data_nodes(cfg)
    findings = []
    defaults = {"cameras": CAMERAS_DETR3D, "frame": "lidar"}
    for key, name in (("cameras", "camera_order"), ("frame", "box_frame")):
        seen = {stage: node.get(key) or defaults[key] for stage, node in nodes.items()}
        values = {tuple(v) if not isinstance(v, str) else v for v in seen.values()}
        if len(values) > 1:
            text = "; ".join(f"{stage}: {v if isinstance(v, str) else ', '.join(v)}" for stage, v in seen.items())
            findings.append(Finding(name, f"the configuration's stages differ in {key!r}: {text}"))
    return findings


def _means(model: Any) -> list[Finding]:
    """ImageNet's mean has more red than blue; in the other order it belongs to BGR."""
    findings = []
    for node in _nodes(model):
        mean, order = node.get("mean"), node.get("channel_order", "rgb")
        if node.get("type") == "ImageNormalizer" and mean is not None and len(mean) == 3:
            written = "rgb" if mean[0] > mean[2] else "bgr"
            if mean[0] != mean[2] and written != order:
                text = f"ImageNormalizer has channel_order={order!r} with the mean {tuple(mean)}, which is in {written}"
                findings.append(Finding("color_order", f"{text} order"))
    return findings


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _nodes(part)
