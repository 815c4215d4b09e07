"""Triton kernels: values interpreted (or on CUDA where there is one), and compilation for sm_80 and sm_90.

In processes of their own: the interpreter is chosen when a kernel is decorated, and other tests must not inherit it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tests.paths import REPO_ROOT

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def _run(module: str, interpret: bool) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", f"tests.ops.triton.{module}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("module", ["kernels", "rows"])
def test_interpreted_values_and_gradients(module: str) -> None:
    assert _run(module, interpret=True).strip() == "equal"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("module", ["kernels", "rows"])
def test_values_and_gradients_on_cuda(module: str) -> None:
    assert _run(module, interpret=False).strip() == "equal"


@pytest.mark.slow
def test_compiles_without_a_device() -> None:
    lines = _run("compilation", interpret=False).strip().splitlines()
    names = {line.rsplit(maxsplit=3)[0] for line in lines}
    assert len(names) >= 16 and len(lines) == 2 * len(names)
    assert all(int(line.split()[-1]) > 1000 for line in lines)
