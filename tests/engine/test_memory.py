"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

from bev.engine import memory

# The file alone, since neither torch nor the engine has a part in it.
PROGRAM = """
import resource, runpy, sys
if sys.argv[1] == "keep":
    assert runpy.run_path(sys.argv[2])["keep_freed_memory"]()
def step():
    # Each of many blocks and all of them together lie above what glibc keeps by itself.
    return [b"x" * (8 << 20) for _ in range(8)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_repeated_step_takes_no_new_pages():
    def faults(mode: str) -> int:
        command = [sys.executable, "-c", PROGRAM, mode, memory.__file__]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") * 10 < faults("default")
