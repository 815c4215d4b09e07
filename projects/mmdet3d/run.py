"""Configurations of mmdet and mmdet3d, trained and tested by this project's commands.

They are theirs from the first key to the last: mmengine's own Runner runs them, with its data sets, hooks and metrics.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from bev._optional import require
from bev.engine import prepare
from bev.engine.config import parse_option, read_config
from bev.registry import ConfigError
from projects.mmdet3d.official import PACKAGES, official_path


def openmmlab_config(path: str) -> Config | None:
    """The configuration, if it is one of mmdet's or mmdet3d's: named ``mmdet3d::FOLDER/NAME.py``, or a file whose
    ``default_scope`` is one of these packages; else None.

    Raises:
        ConfigError: no such file, a broken one, or the packages are not installed.
    """
    try:
        config = Config.fromfile(str(official_path(path))) if "::" in path else read_config(path)
        scope = config.get("default_scope")
        if scope not in PACKAGES:
            return config if "::" in path else None
        require(scope, extra="mmdet3d")
    except ImportError as error:
        raise ConfigError(f"config {path}: {error}") from error
    return config


def _runner(config: Config, options: Sequence[str], **choices: Any) -> Any:
    from mmengine.runner import Runner

    config.merge_from_dict(dict(parse_option(option) for option in options))
    seed = choices.pop("seed", None)
    prepare(config, **choices)
    if isinstance(config.get("resume"), str):  # mmengine names the file in another key
        config.load_from, config.resume = config.resume, True
    if seed is not None:
        config.randomness = {**(config.get("randomness") or {}), "seed": seed}
    return Runner.from_cfg(config)


def train(config: Config, options: Sequence[str] = (), **choices: Any) -> int:
    """Train; ``choices`` are those of :func:`bev.engine.prepare` (work_dir, resume, amp, seed, launcher).

    Returns:
        The process's exit status.
    """
    _runner(config, options, **choices).train()
    return 0


def test(config: Config, checkpoint: str, options: Sequence[str] = (), **choices: Any) -> dict[str, Any]:
    """Metrics by name of a checkpoint on the configuration's test data."""
    runner = _runner(config, (*options, f"load_from={checkpoint!r}"), **choices)
    metrics: dict[str, Any] = runner.test()
    return metrics


def script(name: str) -> Path:
    """A script: a path, or ``mmdet3d/tools/train.py`` of an installed package.

    Raises:
        ConfigError: there is none.
    """
    package, _, inner = name.partition("/")
    if Path(name).is_file() or package not in PACKAGES:
        if not Path(name).is_file():
            raise ConfigError(f"script {name} does not exist (nor is it one of {', '.join(PACKAGES)})")
        return Path(name)
    module = sys.modules.get(package) or __import__(package)
    path = Path(str(module.__file__)).parent / ".mim" / inner
    if not path.is_file():
        raise ConfigError(f"{package} has no script {inner!r}; it has: {', '.join(_scripts(path.parents[0]))}")
    return path


def _scripts(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []


def run_script(arguments: Sequence[str]) -> None:
    """Run a script with ``mmcv._ext`` provided; arguments ``mmdet3d::NAME`` become the files they name."""
    path = script(arguments[0])
    rest = [str(official_path(a)) if a.split("::")[0] in PACKAGES and "::" in a else a for a in arguments[1:]]
    sys.argv = [str(path), *rest]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")
