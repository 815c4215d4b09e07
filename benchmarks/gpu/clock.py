"""Medians by CUDA events with a warm-up and a cold second-level cache; copy and matmul speed of the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Call = Callable[[], Any]


class Clock:
    """Times calls on one device.

    Args:
        device: CUDA, or CPU where only the code is tried.
        quick: one run on a CPU (interpreted kernels take seconds), ten on CUDA, instead of as many as fit in
            ``budget_s``.
        budget_s: what the runs of one call may take together.
    """

    def __init__(self, device: torch.device, quick: bool, budget_s: float = 0.25) -> None:
        self.device, self.quick, self.budget_s = device, quick, budget_s
        self._cache = torch.empty(0)
        if device.type == "cuda":
            cached = torch.cuda.get_device_properties(device).L2_cache_size
            self._cache = torch.empty(max(4 * cached, 64 << 20), dtype=torch.int8, device=device)

    def median_ms(self, call: Call) -> float:
        """Median of 10 to 100 runs after a warm-up of three; caches are overwritten before each."""
        if self.device.type != "cuda":
            return self._run_ms(call)
        for _ in range(2):
            call()
        once_s = self._run_ms(call) / 1e3
        runs = 10 if self.quick else min(100, max(10, int(self.budget_s / max(once_s, 1e-6))))
        return self._cuda_median_ms(call, runs)

    def _run_ms(self, call: Call) -> float:
        """One run by the host's clock."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return 1e3 * (time.perf_counter() - start)

    def _cuda_median_ms(self, call: Call, runs: int) -> float:
        """Overwriting the cache also keeps the device busy while the host launches what is timed."""
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
        for start, stop in events:
            self._cache.zero_()
            start.record()
            call()
            stop.record()
        self.wait()
        return statistics.median(start.elapsed_time(stop) for start, stop in events)

    def wait(self) -> None:
        """Until the device has done what was launched."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def copy_bytes_per_s(clock: Clock) -> float:
    """Bytes read and written in a second by a large copy."""
    source = torch.rand(1 << (14 if clock.quick else 28), device=clock.device)
    target = torch.empty_like(source)
    ms = clock.median_ms(lambda: target.copy_(source))
    return 2 * source.numel() * source.element_size() / (1e-3 * ms)


def matmul_flops_per_s(clock: Clock, dtype: torch.dtype) -> float:
    """Floating-point operations in a second of a large square product (float32 without TF32)."""
    side = 64 if clock.quick else 4096 if dtype == torch.float32 else 8192
    a, b = (torch.randn(side, side, device=clock.device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / (1e-3 * clock.median_ms(lambda: a @ b))
