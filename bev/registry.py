"""Registries and the one function that turns configuration nodes into objects.

``MODELS.build(cfg)`` builds *parts first*: every nested ``dict(type=...)`` becomes an object before it is passed to
its parent's constructor, so constructors receive modules, never configuration. Every mistake is reported with the
path of the configuration key, e.g. ``model.head.loss_cls.gama``, and the nearest valid name.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import Registry

SCOPE = "bev"


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the key and the nearest valid one."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest valid name, else the list of valid names."""
    names = sorted(set(valid))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(names) or 'none'}"


def check_keys(keys: Iterable[str], valid: Iterable[str], path: str) -> None:
    """Raise ConfigError for the first key that is not valid, naming its path and the nearest valid one."""
    allowed = set(valid)
    for key in keys:
        if key not in allowed:
            raise ConfigError(f"config key '{path}.{key}' is unknown{suggest(key, allowed)}")


def build_node(cfg: Mapping[str, Any], registry: Registry, path: str | None = None, **defaults: Any) -> Any:
    """Build the object that a configuration node describes, its parts first.

    Args:
        cfg: mapping with ``type`` (registry name, ``scope.Name`` of an installed OpenMMLab package, or a class)
            and the constructor's arguments.
        registry: where ``type`` is looked up first; the other registries of this package follow.
        path: dotted path of the node, for error messages.
        defaults: arguments used where ``cfg`` does not give them.

    Raises:
        ConfigError: unknown type, unknown or missing argument; names the config key.
    """
    path = path or registry.name
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise ConfigError(f"config key '{path}' must be a dict with a 'type', got {cfg!r:.80}")
    arguments = {**defaults, **{k: v for k, v in cfg.items() if k != "type"}}
    kind = cfg["type"]
    if isinstance(kind, str) and "." in kind and not kind.startswith(f"{SCOPE}."):
        return _build_foreign(kind, arguments, registry, path)
    target = _find(kind, registry, path) if isinstance(kind, str) else kind
    check_arguments(target, arguments, path)
    parts = {key: _build_value(value, registry, f"{path}.{key}") for key, value in arguments.items()}
    return target(**parts)


def _build_value(value: Any, registry: Registry, path: str) -> Any:
    if isinstance(value, Mapping) and "type" in value:
        return build_node(value, registry, path=path)
    if isinstance(value, (list, tuple)):
        return type(value)(_build_value(item, registry, f"{path}[{i}]") for i, item in enumerate(value))
    if isinstance(value, Mapping):
        return {key: _build_value(item, registry, f"{path}.{key}") for key, item in value.items()}
    return value


def _find(name: str, registry: Registry, path: str) -> Any:
    short = name.removeprefix(f"{SCOPE}.")
    registries = [registry, *(r for r in REGISTRIES if r is not registry)]
    for candidate in registries:
        candidate.import_from_location()
        if short in candidate.module_dict:
            return candidate.module_dict[short]
    known = [key for candidate in registries for key in candidate.module_dict]
    if short.startswith(("Sparse", "SubM")):
        raise ConfigError(
            f"config key '{path}.type' names {name!r}, which is not registered; sparse 3D convolution is not offered "
            "(docs/operators.md): take pillars, or mmdet3d with the compiled mmcv"
        )
    near = difflib.get_close_matches(short, known, n=1, cutoff=0.6)
    hint = (
        f"; did you mean {near[0]!r}?"
        if near
        else f"; {registry.name} knows: {', '.join(sorted(registry.module_dict))}"
    )
    raise ConfigError(f"config key '{path}.type' names {name!r}, which is not registered{hint}")


def check_arguments(target: Any, arguments: Mapping[str, Any], path: str) -> None:
    """Raise ConfigError where ``arguments`` do not fit the signature of ``target``."""
    parameters = inspect.signature(target).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        check_keys(arguments, [p.name for p in parameters], path)
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise ConfigError(
            f"config key '{path}.{missing[0]}' is missing: {getattr(target, '__name__', target)} needs it"
        )


def _build_foreign(kind: str, arguments: Mapping[str, Any], registry: Registry, path: str) -> Any:
    """Build ``mmdet.X`` / ``mmdet3d.X`` with that package's own registry (which builds its own parts)."""
    scope = kind.split(".", 1)[0]
    try:
        __import__(f"{scope}.registry")
    except ImportError as error:
        raise ConfigError(
            f"config key '{path}.type' names {kind!r}, but {scope} cannot be imported: {error}"
        ) from error
    return registry.parent.build({"type": kind, **arguments})


def _child(parent: Registry, locations: list[str]) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=locations, build_func=build_node)


MODELS = _child(_MODELS, ["bev.models"])
DATASETS = _child(_DATASETS, ["bev.data.registered"])
TRANSFORMS = _child(_TRANSFORMS, ["bev.data.registered"])
METRICS = _child(_METRICS, ["bev.evaluation"])
HOOKS = _child(_HOOKS, ["bev.engine"])
REGISTRIES = (MODELS, DATASETS, TRANSFORMS, METRICS, HOOKS)
