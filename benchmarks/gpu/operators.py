"""One row an operator, size and dtype: times of the plain form, of the same compiled, and of ours; errors; rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Case, Form, Inputs, convert, tensors
from benchmarks.gpu.clock import Clock

Row = dict[str, Any]


class Deadline:
    """After it nothing more is compiled, which is what takes the time."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() > self._end


def compiled(form: Form, device: torch.device) -> Form:
    """A form through ``torch.compile``; on a CPU, where only this code is tried, nothing is generated."""
    return torch.compile(form, dynamic=False, backend="inductor" if device.type == "cuda" else "aot_eager")


def attempt(row: Row, what: str, call: Callable[[], Any]) -> Any:
    """Result of a call; a failure goes into the row's ``problems``, so that the other measurements go on."""
    try:
        return call()
    except Exception as error:  # whatever a compiler or a launch raises
        text = str(error).strip().splitlines() or [""]
        row["problems"].append(f"{what}: {type(error).__name__}: {text[0][:200]}")
        return None


def measure(case: Case, dtype: torch.dtype, clock: Clock, deadline: Deadline) -> Row:
    """One row."""
    name = str(dtype).removeprefix("torch.")
    row: Row = {"operator": case.name, "size": case.size, "dtype": name, "problems": []}
    inputs = attempt(row, "inputs", lambda: case.inputs(clock.device, dtype, clock.quick))
    if inputs is None:
        return row
    for form, call in (("reference", case.reference), ("ours", case.ours)):
        row |= attempt(row, f"error of {form}", lambda: _errors(case, form, call, inputs)) or {}
    torch.compiler.reset()
    forms = {"eager": case.reference, "compiled": compiled(case.reference, clock.device), "ours": case.ours}
    for form, call in forms.items():
        if form == "compiled" and deadline.passed:
            row["problems"].append("compiled: no time left")
            continue
        row |= attempt(row, form, lambda: _times(form, call, inputs, clock)) or {}
    return row | _rates(case, inputs, row.get("ours_ms"))


def _times(form: str, call: Form, inputs: Inputs, clock: Clock) -> Row:
    """Forward, and forward with backward where something has a gradient; and the memory that the latter needs."""
    plain = convert(inputs, torch.Tensor.detach)
    with torch.no_grad():
        row = {f"{form}_ms": clock.median_ms(lambda: call(*plain))}
    if any(tensor.requires_grad for tensor in tensors(inputs)):
        row[f"{form}_step_ms"] = clock.median_ms(lambda: _step(call, inputs))
        if clock.device.type == "cuda":
            row[f"{form}_step_peak_mb"] = _peak_mb(lambda: _step(call, inputs))
    return row


def _peak_mb(call: Callable[[], Any]) -> int:
    """MB allocated at the peak beyond what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def _step(call: Form, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of a fixed weighted sum of them."""
    leaves = list(dict.fromkeys(tensor for tensor in tensors(inputs) if tensor.requires_grad))
    outputs = list(tensors(call(*inputs)))
    smooth = [out for out in outputs if out.requires_grad]
    if not leaves or not smooth:
        return outputs, []
    weights = [torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype).expand_as(x) for x in smooth]
    return outputs, list(torch.autograd.grad(smooth, leaves, weights))


def _errors(case: Case, form: str, call: Form, inputs: Inputs) -> Row:
    """Largest error of values and of gradients, as a share of the largest value of each tensor."""
    wide = convert(inputs, _widen) if case.exact else inputs
    row: Row = {}
    for kind, mine, exact in zip(("error", "gradient_error"), _step(call, inputs), _step(case.reference, wide)):
        if len(mine) != len(exact):
            raise ValueError(f"{len(mine)} tensors, expected {len(exact)}")
        if exact:
            row[f"{form}_{kind}"] = max(_difference(a, b) for a, b in zip(mine, exact))
    return row


def _widen(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().double().requires_grad_(tensor.requires_grad)


def _difference(ours: Tensor, exact: Tensor) -> float:
    """Share of the largest value; of the entries for integers."""
    if ours.shape != exact.shape:
        raise ValueError(f"shape {tuple(ours.shape)}, expected {tuple(exact.shape)}")
    if not exact.numel():
        return 0.0
    if not exact.is_floating_point():
        return float((ours != exact).double().mean())
    ours, exact = ours.detach().double(), exact.detach().double()
    worst = float((ours - exact).abs().max() / exact.abs().max().clamp(min=1e-30))
    if worst != worst:
        raise ValueError("not a number")
    return worst


def _rates(case: Case, inputs: Inputs, ours_ms: float | None) -> Row:
    """Achieved bytes and operations a second of our forward pass, where the case tells how many there are."""
    counts = {"bytes_per_s": case.bytes_moved(*inputs), "flops_per_s": case.flops(*inputs)}
    return {name: count / (1e-3 * ours_ms) for name, count in counts.items() if count and ours_ms}
