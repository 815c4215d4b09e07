"""Fixtures of tests that need a small nuScenes folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.tiny_nuscenes import TinyNuScenes


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny nuScenes folder, not to be changed."""
    return TinyNuScenes().write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    """A tiny nuScenes folder of the test's own, to be damaged."""
    return TinyNuScenes(seed=1).write(tmp_path / "nuscenes")
