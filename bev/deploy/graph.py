"""A detector as one graph: uint8 images in, candidates out; calibration and temporal state as inputs or constants."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bev.deploy.calibration import MIRRORED, GraphRig, facts_of, spec_of, tell
from bev.deploy.decode import CellDecode, CenterDecode, DenseDecode, EvidenceDecode, QueryDecode
from bev.deploy.facts import NEXT, STATE, GraphFacts
from bev.deploy.finish import finish_of
from bev.deploy.memory import memory_of
from bev.deploy.surgery import Surgery
from bev.geometry.mirror import mirror_order
from bev.models.detectors.bev_segmenter import BEVSegmenter
from bev.models.detectors.dense import DenseDetector
from bev.models.detectors.lift_splat import BEVDet
from bev.models.heads.center_head import CenterHead
from bev.models.heads.dense import DenseHead, TaughtHead
from bev.models.heads.query_head import QueryHead
from bev.models.heads.two_stage import TwoStageHead
from bev.ops.exporting import exporting_plugins
from bev.structures import CameraRig

Outputs = Literal["boxes", "raw", "both"]


class DetectorGraph(nn.Module):
    """Images and the numbers of a calibration -> candidates and, where asked for, the raw outputs.

    Args:
        model: detector; copied.
        images: example (B, N, 3, H, W) or, for pictures, (B, 3, H, W) uint8.
        rig: example calibration with batch axis; None for pictures.
        state: example state of temporal models, see their ``forward``.
        bake: make the calibration of the rig's first frame a constant of the graph.
        outputs: candidates, raw outputs, or both.
        surgery: what is changed before it is written.
        plugins: operators that have a TensorRT plugin are recorded as one node each (see ``bev.deploy.plugins``).

    Attributes:
        facts: what the graph is.
        example: inputs by name.
        expected: what the graph, in torch, makes of them; outputs by name.

    Raises:
        ValueError: a detector without an export form.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        rig: CameraRig | None = None,
        state: Mapping[str, Tensor] | None = None,
        bake: bool = False,
        outputs: Outputs = "boxes",
        surgery: Surgery = Surgery(),
        plugins: bool = False,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decode = _decode_of(self.model)
        self.wanted, self.state_names, self.plugins = outputs, tuple(state or {}), plugins
        self.surgery = surgery
        self.spec = None if rig is None else spec_of(model, rig)
        tell(self.model)
        surgery.change(self.model)
        count = getattr(self.decode, "candidates", None)
        finish = finish_of(model, count() if count else None)
        self.given = {} if rig is None or self.spec is None else facts_of(rig, self.spec, per_frame=bake)
        self.fact_names: tuple[str, ...] = tuple(self.given)
        self.baked = bake and rig is not None
        if self.baked:  # the first frame's calibration stands for all
            self.given = {n: v if "pool_" in n else v[:1].expand_as(v) for n, v in self.given.items()}
        examples = {STATE + name: value for name, value in (state or {}).items()}
        with torch.no_grad():
            found, used = self._run(images, self.given, dict(state or {}))
        self.fact_names = tuple(name for name in self.given if name in used)
        self.output_names = tuple(found)
        if self.baked:
            for name in self.fact_names:
                value = self.given[name]
                self.register_buffer(name, value if "pool_" in name else value[:1], persistent=False)
        inputs = {} if self.baked else {name: self.given[name] for name in self.fact_names}
        self.example: dict[str, Tensor] = {"images": images, **inputs, **examples}
        self.expected = found
        del self.given
        memory = memory_of(model, state)
        shapes = {name: list(value.shape) for name, value in self.example.items()}
        names = tuple(self.example), self.output_names
        self.facts = GraphFacts(*names, finish, self.spec, self.baked, memory, shapes)

    def forward(self, images: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of ``facts.inputs`` -> those of ``facts.outputs``."""
        given = dict(zip([name for name in self.facts.inputs if name != "images"], rest))
        state = {name: given[STATE + name] for name in self.state_names}
        facts = {name: self._constant(name, images) if self.baked else given[name] for name in self.fact_names}
        found, _ = self._run(images, facts, state)
        return tuple(found[name] for name in self.output_names)

    def _constant(self, name: str, images: Tensor) -> Tensor:
        value = getattr(self, name)
        return value if "pool_" in name else value.expand(images.shape[0], *value.shape[1:])

    def _run(
        self, images: Tensor, facts: Mapping[str, Tensor], state: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], set[str]]:
        """Outputs by name, and the names of the facts that were asked for."""
        with exporting_plugins() if self.plugins else nullcontext():
            return self._run_plainly(images, facts, state)

    def _run_plainly(
        self, images: Tensor, facts: Mapping[str, Tensor], state: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], set[str]]:
        images = images.float()  # before anything else: TensorRT takes uint8 for a cast alone
        extra: dict[str, Any] = {}
        used: set[str] = set()
        if self.spec is None:
            raw = self.model(images)
        else:
            raw, used, rig = self._see(images, facts, state)
            extra = {"rig": rig}
        found = {} if self.wanted == "raw" else dict(self.decode({**raw, **extra}))
        if extra:
            used |= extra["rig"].used
        if self.wanted != "boxes":
            found |= flatten({name: value for name, value in raw.items() if name != "state"})
        return {**found, **{NEXT + name: value for name, value in raw.get("state", {}).items()}}, used

    def _see(
        self, images: Tensor, facts: Mapping[str, Tensor], state: dict[str, Tensor]
    ) -> tuple[dict[str, Any], set[str], GraphRig]:
        """Raw outputs of the world, or the mean with its mirror image's; facts used; the rig."""
        assert self.spec is not None
        rows = self.spec.rows if self.baked else None
        settings = self.spec.camera_names, self.spec.image_size_px, rows
        plain = {name: value for name, value in facts.items() if not name.startswith(MIRRORED)}
        rig = GraphRig(plain, *settings)
        raw = self.model(images, rig.as_rig(), state or None)
        used = rig.used
        if self.spec.mirror is not None:
            mirrored = {name.removeprefix(MIRRORED): v for name, v in facts.items() if name.startswith(MIRRORED)}
            other = GraphRig(mirrored, *settings)
            flipped = images[:, mirror_order(self.spec.camera_names)].flip(-1)
            seen_again = self.model(flipped, other.as_rig(), state or None)
            assert isinstance(self.model, BEVDet)
            raw = self.model.mean_with_mirrored(raw, seen_again, self.spec.camera_names)
            used = used | {MIRRORED + name for name in other.used}
        return raw, used, rig


def _decode_of(model: nn.Module) -> nn.Module:
    if isinstance(model, DenseDetector):
        lead = model.head.head if isinstance(model.head, TaughtHead) else model.head
        if isinstance(lead, DenseHead):
            return DenseDecode(lead)
        if isinstance(lead, TwoStageHead):
            raise ValueError(
                "two-stage detectors have no export form: the suppression of proposals and the number of regions lie "
                "between their stages; export a one-stage detector (RetinaNet has the same backbone and neck)"
            )
        raise ValueError(f"{type(model).__name__} with a {type(lead).__name__} has no export form")
    if isinstance(model, BEVSegmenter):
        return CellDecode()
    head = getattr(model, "pts_bbox_head", None)
    if isinstance(model, BEVDet) and model.image_evidence:
        return EvidenceDecode(model)
    if isinstance(head, CenterHead):
        return CenterDecode(head)
    if isinstance(head, QueryHead):
        return QueryDecode(head)
    raise ValueError(f"{type(model).__name__} with a {type(head).__name__} has no export form")


def flatten(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of nested dicts and lists by their path, ``tasks.0.heatmap``."""
    if isinstance(value, Tensor):
        return {prefix: value}
    if isinstance(value, Mapping):
        items: Sequence[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    else:
        return {}
    found: dict[str, Tensor] = {}
    for name, part in items:
        found |= flatten(part, f"{prefix}.{name}" if prefix else str(name))
    return found
