"""Runs functions of the web page's script in node; skips where there is none."""

import json
import shutil
import subprocess

import pytest

from tests.paths import REPO_ROOT

VIEWER = REPO_ROOT / "bev" / "viz" / "web" / "viewer.js"


def in_node(body: str, data):
    """Result of a function body that knows ``viewer`` (what viewer.js exports) and ``data``."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    code = f"""const viewer = require({json.dumps(str(VIEWER))});
        const data = JSON.parse(require("fs").readFileSync(0, "utf8"));
        Promise.resolve((async () => {{ {body} }})()).then((r) => console.log(JSON.stringify(r)));"""
    done = subprocess.run(["node", "-e", code], input=json.dumps(data), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
