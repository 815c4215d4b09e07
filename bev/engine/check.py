"""Checks a whole configuration before anything of it is built, so that a typing error costs a second, not an index."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import Registry

from bev.data.detection2d import PictureDataset
from bev.engine.data import KEYS as LOADER_KEYS
from bev.engine.registries import LOOPS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS, find
from bev.registry import DATASETS, HOOKS, METRICS, MODELS, ConfigError, check_keys

SECTIONS: dict[str, Registry] = {
    **{"model": MODELS, "param_scheduler": PARAM_SCHEDULERS, "default_hooks": HOOKS, "custom_hooks": HOOKS},
    **{"val_evaluator": METRICS, "test_evaluator": METRICS},
}


def check_config(cfg: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first ``type`` that is not registered or argument that its class does not take.

    Sections that this run does not use (the test data of a training run) are checked too. Missing arguments and wrong
    values show when the parts are built.
    """
    check_keys(cfg.get("randomness") or {}, ("seed", "deterministic"), "randomness")
    for section, registry in SECTIONS.items():
        _check(cfg.get(section), registry, section)
    for stage in ("train", "val", "test"):
        if isinstance(loop := cfg.get(f"{stage}_cfg"), Mapping):
            _check({"type": f"{stage.capitalize()}Loop", **loop}, LOOPS, f"{stage}_cfg")
        path = f"{stage}_dataloader"
        if isinstance(loader := cfg.get(path), Mapping):
            check_keys(loader, LOADER_KEYS, path)
            _check(loader, DATASETS, path)
    if isinstance(wrapper := cfg.get("optim_wrapper"), Mapping):
        _check(wrapper.get("optimizer"), OPTIMIZERS, "optim_wrapper.optimizer")
        arguments = {key: value for key, value in wrapper.items() if key not in ("optimizer", "paramwise_cfg")}
        _check({"type": "OptimWrapper", **arguments}, OPTIM_WRAPPERS, "optim_wrapper")


def check_classes(model: Any, dataset: Any, path: str) -> None:
    """Raise ConfigError where a 2D detector's heads are made for another number of classes than its pictures have.

    Args:
        model: its configuration.
        dataset: of the loader ``path``; anything but a PictureDataset is left alone.
    """
    head = model.get("head") if isinstance(model, Mapping) else None
    if not isinstance(dataset, PictureDataset) or head is None:
        return
    classes = dataset.pictures.classes
    for key, count in _class_counts(head, "model.head"):
        if count != len(classes):
            names = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
            raise ConfigError(
                f"config key '{key}' is {count}, but the pictures of '{path}' have {len(classes)} classes ({names});"
                f" give {key}={len(classes)}, or the data set's classes"
            )


def _class_counts(node: Any, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, Mapping):
        if isinstance(node.get("num_classes"), int):
            yield f"{path}.num_classes", node["num_classes"]
        for key, value in node.items():
            yield from _class_counts(value, f"{path}.{key}")


def _check(node: Any, registry: Registry, path: str) -> None:
    if isinstance(node, Mapping):
        if isinstance(node.get("type"), str):
            _check_arguments(node, registry, path)
        for key, value in node.items():
            _check(value, registry, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            _check(value, registry, f"{path}[{index}]")


def _check_arguments(node: Mapping[str, Any], registry: Registry, path: str) -> None:
    target = find(node["type"], registry, path)
    if isinstance(target, str):  # of another package ("mmdet.X"): that package's own registry checks it
        return
    # mmengine's schedules hand their arguments on to their bases; elsewhere **kwargs may go anywhere.
    chain = inspect.getmro(target) if registry is PARAM_SCHEDULERS else (target,)
    accepted = ["priority"] if registry is HOOKS else []
    for owner in chain:
        parameters = inspect.signature(owner).parameters.values()
        accepted += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            check_keys([key for key in node if key != "type"], accepted, path)
            return
