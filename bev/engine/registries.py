"""Registries of what only the engine builds: loops, optimisers, schedules. Children of mmengine's, scope 'bev'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmengine.hooks  # noqa: F401  (registers mmengine's hooks)
import mmengine.optim  # noqa: F401  (registers torch's optimisers and mmengine's schedules)
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as _OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as _PARAM_SCHEDULERS
from mmengine.registry import Registry

from bev.registry import REGISTRIES, SCOPE, ConfigError, build_node, suggest


def _child(parent: Registry) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=["bev.engine"], build_func=build_node)


LOOPS = _child(_LOOPS)
OPTIM_WRAPPERS = _child(_OPTIM_WRAPPERS)
OPTIMIZERS = _child(_OPTIMIZERS)
PARAM_SCHEDULERS = _child(_PARAM_SCHEDULERS)


def find(kind: Any, registry: Registry, path: str) -> Any:
    """The class that ``kind`` names: in ``registry``, in our other registries, or (a name we do not shadow) in
    mmengine's registry of the same sort. The name of another package's class (``mmdet.X``) is returned as it is.

    Raises:
        ConfigError: registered nowhere; names the key and the nearest name.
    """
    if not isinstance(kind, str) or "." in kind.removeprefix(f"{SCOPE}."):
        return kind
    name = kind.removeprefix(f"{SCOPE}.")
    known = dict(registry.parent.module_dict)
    for candidate in (*REGISTRIES, registry):
        candidate.import_from_location()
        known.update(candidate.module_dict)
    if name not in known:
        raise ConfigError(f"config key '{path}.type' names {kind!r}, which is not registered{suggest(name, known)}")
    return known[name]


def build(cfg: Any, registry: Registry, path: str, **defaults: Any) -> Any:
    """:func:`bev.registry.build_node`, where mmengine's own classes may be named too."""
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise ConfigError(f"config key '{path}' must be a dict with a 'type', got {cfg!r:.80}")
    return build_node({**cfg, "type": find(cfg["type"], registry, path)}, registry, path=path, **defaults)
