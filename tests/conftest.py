"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bev.data.synthetic import generate


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic nuScenes, not to be changed: 2 training scenes and 1 held-out one of 6 key frames, 200x112 px.

    The held-out scene has scored boxes of all ten detection classes.
    """
    return generate(
        tmp_path_factory.mktemp("synthetic") / "nuscenes",
        scenes=3,
        seed=1,
        val_scenes=1,
        frames_per_scene=6,
        width=200,
        height=112,
        sweeps=1,
    )
