"""Reading configuration files: mmengine's text configs, with every unknown key an error.

Top-level names are those of mmengine's Runner. A name that starts with an underscore is a helper of the file itself
(``_image_size = (256, 704)``) and is dropped after reading. A base that starts with ``configs/`` is looked up from the
folder that holds ``configs``, so that projects need not count their way up.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from bev.registry import ConfigError, check_keys, suggest

TOP_KEYS = (
    *("model", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg"),
    *("optim_wrapper", "param_scheduler", "val_evaluator", "test_evaluator", "default_hooks", "custom_hooks"),
    *("work_dir", "load_from", "resume", "seed", "randomness", "launcher", "env_cfg", "log_level"),
    *("experiment_name", "default_scope", "custom_imports", "find_unused_parameters"),
    *("sync_bn", "frozen_norms", "device"),
)
DEFAULT_HOOKS: dict[str, dict[str, Any]] = {
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "logger": {"type": "ProgressHook"},
    "scalars": {"type": "ScalarLogHook"},
    "checkpoint": {"type": "CheckpointHook"},
    "criterion_epoch": {"type": "CriterionEpochHook"},
}
# Two ways to say one thing, of which a configuration has one.
ALTERNATIVES = (
    ("train_cfg.max_steps", "train_cfg.max_epochs"),
    ("train_cfg.val_interval", "train_cfg.val_interval_epochs"),
)
CHECKED = (
    *("train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg", "optim_wrapper"),
    *("test_cfg.views", "optim_wrapper.clip_grad", "optim_wrapper.paramwise_cfg"),
    *("default_hooks", "randomness", "env_cfg"),
)


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply ``key=value`` options.

    An option takes the place of what the file says in another way: ``train_cfg.max_steps=10`` that of its
    ``max_epochs`` (:data:`ALTERNATIVES`). Options that say both stay a mistake.

    Raises:
        ConfigError: no such file, a broken file, an unknown top-level key or an option whose path does not exist;
            names the key and the nearest valid one.
    """
    config = read_config(path)
    for key in [name for name in config if name.startswith("_")]:
        del config._cfg_dict[key]
    fill_default_hooks(config)
    for option in options:
        _apply(config, option)
    _drop_alternatives(config, [parse_option(option) for option in options])
    check_top_keys(config)
    return config


def read_config(path: str | Path) -> Config:
    """A configuration file with its bases, as it is written.

    Raises:
        ConfigError: no such file, or a broken one.
    """
    if not Path(path).is_file():
        raise ConfigError(f"config file {path} does not exist")
    try:
        with _bases_from_root():
            return Config.fromfile(str(path))
    except Exception as error:  # a configuration is a program and can fail in any way
        raise ConfigError(f"config file {path} cannot be read: {type(error).__name__}: {error}") from error


def fill_default_hooks(config: Config) -> None:
    """Put the default hooks into a configuration, where it does not say otherwise (in place).

    A node under the name of a default hook changes its arguments; with another ``type`` it takes its place; None
    switches it off.
    """
    given = dict(config.get("default_hooks") or {})
    for name, node in given.items():
        if name not in DEFAULT_HOOKS and (not isinstance(node, Mapping) or "type" not in node):
            check_keys([name], DEFAULT_HOOKS, "default_hooks")
    filled: dict[str, Any] = {}
    for name in {**DEFAULT_HOOKS, **given}:
        default, node = DEFAULT_HOOKS.get(name, {}), given.get(name, {})
        replaced = node is None or "type" in node and node["type"] != default.get("type")
        filled[name] = node if replaced else {**default, **node}
    config.default_hooks = filled


def check_top_keys(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a top-level key that the engine does not know."""
    for key in config:
        if key not in TOP_KEYS:
            hint = suggest(key, TOP_KEYS)
            raise ConfigError(f"config key '{key}' is unknown{hint} (helpers of a config start with an underscore)")


def _apply(config: Config, option: str) -> None:
    """Set one ``a.b.0.c=value``. The path must exist, but for a last part that is checked when the run is built: an
    argument of something with a ``type`` or a key of one of :data:`CHECKED`."""
    path, value = parse_option(option)
    *parents, last = path.split(".")
    node: Any = config._cfg_dict
    for depth, part in enumerate(parents):
        if ".".join(parents[: depth + 1]) in CHECKED and isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = _child(node, part, path, ".".join(parents[:depth]))
    if isinstance(node, list):
        _child(node, last, path, ".".join(parents))
        node[int(last)] = value
        return
    checked = not parents or ".".join(parents) in CHECKED
    if not isinstance(node, Mapping) or not (last in node or "type" in node or checked):
        _unknown(node, path, ".".join(parents))
    node[last] = value


def _drop_alternatives(config: Config, options: Sequence[tuple[str, Any]]) -> None:
    """Take out of the file's sections what an option says in the other way; an option of None says nothing."""
    said = {path for path, value in options if value is not None}
    for pair in ALTERNATIVES:
        for chosen, other in (pair, pair[::-1]):
            if chosen in said and other not in said:
                section, key = other.split(".")
                config._cfg_dict[section].pop(key, None)


def _child(node: Any, part: str, path: str, where: str) -> Any:
    if isinstance(node, Mapping) and part in node:
        return node[part]
    if isinstance(node, list) and part.lstrip("-").isdigit() and -len(node) <= int(part) < len(node):
        return node[int(part)]
    return _unknown(node, path, where)


def _unknown(node: Any, path: str, where: str) -> Any:
    prefix = f"{where}." if where else ""
    part = path.removeprefix(prefix).split(".")[0]
    if isinstance(node, Mapping):
        raise ConfigError(f"option path '{path}': config key '{prefix}{part}' does not exist{suggest(part, node)}")
    if isinstance(node, list):
        raise ConfigError(f"option path '{path}': '{where}' is a list of {len(node)}, {part!r} is not an index of it")
    raise ConfigError(f"option path '{path}': '{where}' is {node!r:.60}, it has no keys")


def parse_option(option: str) -> tuple[str, Any]:
    """Path and value of ``a.b.0.c=value``. Raises ConfigError where it is not of that form."""
    path, equals, text = option.partition("=")
    if not equals or not path:
        raise ConfigError(f"option {option!r} is not of the form key=value")
    return path, _value(text)


def _value(text: str) -> Any:
    """A Python literal where the text is one (``1e-3``, ``[1,2]``, ``None``), ``true``/``false``, else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@contextmanager
def _bases_from_root() -> Iterator[None]:
    """Let ``_base_ = ["configs/_base_/..."]`` name a base from the folder that holds ``configs``: one above the file,
    the working folder, or that of this library's own checkout, so that a user's file may lie anywhere.

    mmengine resolves bases relative to the file alone and offers no hook for it, hence the exchange of one function
    for the duration of the reading.
    """
    original = Config.__dict__["_get_cfg_path"]

    def resolve(base: str, filename: str) -> Any:
        if base.startswith("configs/"):
            for folder in (*Path(filename).resolve().parents, Path.cwd(), Path(__file__).resolve().parents[2]):
                if (folder / base).is_file():
                    return str(folder / base), None
        return original.__func__(base, filename)

    Config._get_cfg_path = staticmethod(resolve)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Config._get_cfg_path = original  # type: ignore[method-assign]
