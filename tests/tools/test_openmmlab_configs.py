"""Configurations of packages that are not installed end in one line."""

from pathlib import Path

import pytest

from bev._optional import require
from bev.registry import ConfigError
from projects.mmdet3d import official, run


@pytest.mark.parametrize("form", ["mmdet3d::pointpillars/any.py", "file"])
def test_the_extra_to_install_is_named(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, extra: str) -> object:
        return require(f"{name}_that_is_not_there", extra=extra)

    monkeypatch.setattr(official, "require", absent)
    monkeypatch.setattr(run, "require", absent)
    path = tmp_path / "theirs.py"
    path.write_text('default_scope = "mmdet3d"\n')
    with pytest.raises(ConfigError, match=r"pip install 'bevstack\[mmdet3d\]'"):
        run.openmmlab_config(str(path) if form == "file" else form)
