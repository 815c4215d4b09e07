"""Is the exported graph still the detector? Per output, per layer, and box by box.

A difference is relative to the largest magnitude of the reference: ``max |given - reference| / max |reference|``.
Element-wise ratios say nothing near zero, and absolute ones nothing without a scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bev._optional import require
from bev.structures import Boxes2D, Boxes3D

LIMIT = 1e-4
# Largest finite float16.
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from its reference.

    Attributes:
        name: of the output or layer.
        shape: of the reference.
        relative: ``max |given - reference| / max |reference|``; infinite where shapes differ or only one is finite.
        largest: of the reference's magnitudes.
        worst: index of the largest difference.
        where: module and operator of a layer, else empty.
    """

    name: str
    shape: tuple[int, ...]
    relative: float
    largest: float
    worst: tuple[int, ...] = ()
    where: str = ""

    def line(self) -> str:
        """One row of a report."""
        at = f" at {self.worst}" if self.worst else ""
        return f"{self.name:28s} {str(self.shape):24s} {self.relative:9.2e}  |max| {self.largest:9.3g}{at} {self.where}"


def difference(name: str, reference: Any, given: Any, where: str = "") -> Difference:
    """Compare two arrays or tensors; bool and integers count as numbers."""
    a, b = (np.asarray(value, dtype=np.float64) for value in (reference, given))
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    if a.shape != b.shape:
        return Difference(name, a.shape, float("inf"), largest, (), f"given shape {b.shape} {where}".strip())
    if not a.size:
        return Difference(name, a.shape, 0.0, largest, (), where)
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    # Equal infinities and two NaNs are no difference, one of them alone is an infinite one.
    gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.where(np.isnan(gap), np.inf, gap))
    worst = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    return Difference(name, a.shape, float(gap.max() / max(largest, 1e-12)), largest, worst, where)


def compare(reference: Mapping[str, Any], given: Mapping[str, Any]) -> list[Difference]:
    """Every tensor of the reference against the one of its name.

    Raises:
        ValueError: a name is missing.
    """
    missing = [name for name in reference if name not in given]
    if missing:
        raise ValueError(f"outputs {missing} are missing")
    return [difference(name, value, given[name]) for name, value in reference.items()]


def first_divergent(layers: Sequence[Difference], limit: float = LIMIT) -> Difference | None:
    """The first layer, in order of execution, that is further off than the limit; None where none is."""
    return next((layer for layer in layers if not layer.relative <= limit), None)


def compare_layers(exported: Any, inputs: Mapping[str, Any], model: Any = None) -> list[Difference]:
    """Every intermediate tensor of an ONNX graph against torch, in order of execution.

    Args:
        exported: of ``to_onnx``: the ONNX model with the program it was made from.
        inputs: arrays by name.
        model: another ONNX model with the same names (quantised, half precision, changed); default the exported one.

    Only tensors that kept their name through the ONNX optimiser are compared: it folds constants and fuses. The choice
    of candidates is left out: near scores may change places, and then every row is another one; see
    :func:`compare_boxes`.
    """
    onnx, runtime = require("onnx", extra="export"), require("onnxruntime", extra="export")
    probe = onnx.ModelProto()
    probe.CopyFrom(exported.model_proto if model is None else model)
    wanted = _Recorder(exported.exported_program).record([torch.as_tensor(np.asarray(v)) for v in inputs.values()])
    known = {value.name for value in probe.graph.output}
    produced = [name for node in probe.graph.node for name in node.output if name in wanted]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in produced if name not in known)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept = {value.name for value in session.get_inputs()}
    found = session.run(produced, {name: np.asarray(v) for name, v in inputs.items() if name in kept})
    given = dict(zip(produced, found))
    return [
        difference(name, value, given[name], where)
        for name, (value, where) in wanted.items()
        if name in given and not where.startswith("decode ")
    ]


class _Recorder(torch.fx.Interpreter):
    """Runs a program and keeps every tensor under the name of its node, with the module that made it."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__(program.graph_module)
        self.program = program
        self.kept: dict[str, tuple[np.ndarray, str]] = {}

    def record(self, inputs: Sequence[Tensor]) -> dict[str, tuple[np.ndarray, str]]:
        """Values in order of execution."""
        state = {**self.program.state_dict, **self.program.constants}
        signature = self.program.graph_signature
        arguments, rest = [], iter(inputs)
        for spec in signature.input_specs:
            arguments.append(next(rest) if spec.target is None else state[spec.target])
        with torch.no_grad():
            self.run(*arguments, enable_io_processing=False)
        return self.kept

    def run_node(self, n: torch.fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function" and isinstance(value, Tensor):
            self.kept[n.name] = value.detach().numpy(), _where(n)
        return value


def _where(node: torch.fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = stack[-1][0] if stack else ""
    return f"{path.removeprefix('model.')} {getattr(node.target, '__name__', node.target)}".strip()


def overflows(layers: Sequence[Difference]) -> list[Difference]:
    """Layers of :func:`compare_layers` whose float32 values do not fit into float16, in order."""
    return [layer for layer in layers if layer.largest > FLOAT16_MAX]


@dataclass(frozen=True)
class BoxAgreement:
    """Two lists of boxes of one frame, paired by class and place.

    Attributes:
        count: boxes of the reference.
        unmatched: boxes of either list without a partner.
        score: largest difference of scores of pairs.
        place: largest distance of pairs; m between centres in space, px between corners in images.
    """

    count: int
    unmatched: int
    score: float
    place: float


def compare_boxes(reference: Any, given: Any, place: float = 1e-2, score: float = 1e-3) -> BoxAgreement:
    """Pair every box with the nearest unpaired one of its class.

    Args:
        reference, given: :class:`Boxes3D` or :class:`Boxes2D` of one frame.
        place: pairs lie within it, and within a thousandth of the larger coordinate; m, or px.
        score: pairs differ by at most this.

    Boxes are paired rather than compared in order: equal scores have no order.
    """
    points = [_points(boxes).detach() for boxes in (reference, given)]
    distance = (points[0][:, None] - points[1][None]).abs().amax(-1)
    allowed = place + 1e-3 * points[0].abs().amax(-1, keepdim=True)
    gap = (reference.score[:, None] - given.score[None]).detach().abs()
    apart = (reference.label[:, None] != given.label[None]) | (distance > allowed) | (gap > score)
    cost = torch.where(apart, torch.inf, distance + gap)
    pairs, free = [], torch.ones(len(given), dtype=torch.bool)
    for row in range(len(reference)):
        choices = torch.where(free, cost[row], torch.inf)
        if len(choices) and bool(torch.isfinite(choices.min())):
            column = int(choices.argmin())
            free[column] = False
            pairs.append((row, column))
    worst_score = max((float(gap[pair]) for pair in pairs), default=0.0)
    worst_place = max((float(distance[pair]) for pair in pairs), default=0.0)
    unmatched = len(reference) + len(given) - 2 * len(pairs)
    return BoxAgreement(len(reference), unmatched, worst_score, worst_place)


def _points(boxes: Boxes3D | Boxes2D) -> Tensor:
    return boxes.xyxy_px if isinstance(boxes, Boxes2D) else torch.cat([boxes.center_m, boxes.size_m], -1)
