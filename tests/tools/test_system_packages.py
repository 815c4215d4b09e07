"""The set-up's one step outside Python, with stand-ins for the system's package manager."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.paths import REPO_ROOT

SCRIPT = REPO_ROOT / "tools/install_system_packages.sh"


NOTED = 'echo "$@" >> "$LOG"'


def run(folder: Path, user: int, present: tuple[str, ...] = (), apt_get: str = NOTED) -> tuple[str, str]:
    """Output of the script, and what the stand-in of apt-get was asked for."""
    commands = {
        "id": f"echo {user}",
        "dpkg-query": "\n".join([*(f'[ "${{@: -1}}" = {p} ] && echo "install ok installed"' for p in present), "true"]),
        "apt-get": apt_get,
    }
    for name, body in commands.items():
        path = folder / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    log = folder / "log"
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "LOG": str(log)}
    done = subprocess.run(["bash", str(SCRIPT)], env=env, capture_output=True, text=True, check=True)
    return done.stdout, log.read_text() if log.exists() else ""


def packages() -> tuple[str, ...]:
    text = SCRIPT.read_text()
    return tuple(text.split("packages=(")[1].split(")")[0].split())


def test_nothing_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path, 0, packages()) == ("", "")


def test_root_installs_what_is_missing_alone(tmp_path: Path) -> None:
    _, asked = run(tmp_path, 0, packages()[1:])
    update, install = asked.splitlines()
    assert update.startswith("update") and install.startswith("install -y")
    assert install.split()[-1] == packages()[0] and packages()[1] not in install.split()


def test_a_user_is_told_the_line_to_type(tmp_path: Path) -> None:
    said, asked = run(tmp_path, 1000, packages()[2:])
    assert said.strip().endswith(f"sudo apt-get install -y {packages()[0]} {packages()[1]}") and not asked


@pytest.mark.parametrize("apt_get", ["exit 100", '[ "$1" = update ]'])
def test_a_failure_is_told_and_not_fatal(tmp_path: Path, apt_get: str) -> None:
    assert "could not install them" in run(tmp_path, 0, apt_get=apt_get)[0]
