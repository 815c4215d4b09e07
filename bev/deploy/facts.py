"""What a written graph is, as plain values that are kept with it. Needs no torch: runners on other machines read it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bev.version import __version__

if TYPE_CHECKING:
    from bev.structures import CameraRig

METADATA = "bevstack"
STATE, NEXT = "state_", "next_"


class ExportError(RuntimeError):
    """A graph that cannot be written, breaks a rule of exported graphs, or cannot be run here."""


class WrongKind(ExportError):
    """A graph of single pictures where one of a rig is wanted, or the other way round."""


@dataclass(frozen=True)
class CalibrationSpec:
    """How a graph's calibration inputs follow from a rig; plain values, kept with the graph.

    Attributes:
        camera_names: order of the cameras.
        image_size_px: (H, W) of the network images.
        pool: the view transform's frustum and grid; None without one.
        mirror: reference frame whose mirror image the graph sees, too; None for none.
    """

    camera_names: tuple[str, ...]
    image_size_px: tuple[int, int]
    pool: dict[str, Any] | None = None
    mirror: str | None = None

    def check(self, rig: CameraRig) -> None:
        """Raises ValueError where a rig's cameras or image size are not those of the graph."""
        ours = (self.camera_names, tuple(self.image_size_px))
        theirs = (rig.names, tuple(rig.image_size_px))
        if ours != theirs:
            raise ValueError(f"the graph is made for cameras {ours[0]} at {ours[1]} px, the rig has {theirs}")

    @property
    def rows(self) -> int | None:
        """Feature pixels of a frame that the pooling tables tell of."""
        if self.pool is None:
            return None
        height, width = (side // int(self.pool["stride_px"]) for side in self.image_size_px)
        return len(self.camera_names) * height * width


@dataclass(frozen=True)
class GraphFacts:
    """What a graph is, for whoever runs it; plain values.

    Attributes:
        inputs: names in order; ``images`` first.
        outputs: names in order.
        finish: settings of ``bev.deploy.finish``.
        calibration: how calibration inputs follow from a rig; None for pictures.
        baked: whether the calibration is a constant of the graph.
        memory: of temporal detectors, see ``bev.deploy.memory``: ``state``, shape and type of every ``state_*`` input
            by name, and ``motion``, how those that tell of the motion follow from it; None for others.
        shapes: of the example's inputs by name; empty in older files.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    finish: dict[str, Any]
    calibration: CalibrationSpec | None
    baked: bool
    memory: dict[str, Any] | None = None
    shapes: dict[str, list[int]] = field(default_factory=dict)


def describe(facts: GraphFacts, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything that a runner needs to know of a graph, as plain values."""
    return {"bevstack": __version__, **asdict(facts), "more": dict(metadata or {})}


def described(note: str | Mapping[str, Any], source: str | Path) -> tuple[GraphFacts, dict[str, Any]]:
    """Inverse of :func:`describe`: the facts and what else was kept.

    Args:
        note: what ``describe`` gave, or its JSON.
        source: of the note, for the error.

    Raises:
        ExportError: not the description of a graph of this library.
    """
    try:
        values = json.loads(note) if isinstance(note, str) else note
        spec = values["calibration"]
        if spec is not None:
            names, (height, width) = tuple(spec["camera_names"]), spec["image_size_px"]
            spec = CalibrationSpec(names, (height, width), spec["pool"], spec["mirror"])
        inputs, outputs = tuple(values["inputs"]), tuple(values["outputs"])
        later = values.get("memory"), values.get("shapes", {})  # older files lack them
        return GraphFacts(inputs, outputs, values["finish"], spec, values["baked"], *later), values["more"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{source}: its description is damaged ({type(error).__name__}: {error})") from error


def folder_of(path: Path) -> Path:
    """The folder of a file to be written, made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def write_bytes(path: str | Path, content: Any) -> Path:
    """Write a file atomically; ``content`` is bytes or a buffer."""
    path = Path(path)
    temporary = folder_of(path) / f".{path.name}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
