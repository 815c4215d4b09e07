"""An engine and what is known of it: ``x.engine`` as TensorRT serialised it, and ``x.engine.json`` beside it.

The engine file is the plan alone, so that other programs of TensorRT read it, too. The notes name it by its hash; a
runner refuses an engine without its notes, with those of another one, or made for another library or GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bev.deploy.facts import ExportError, write_bytes
from bev.deploy.tensorrt_api import Library, numbers

FORMAT = "bev.engine.1"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Binding:
    """An input or output of an engine.

    Attributes:
        name: of the tensor.
        is_input: or output.
        type: numpy's name of the element type.
        shape: -1 where it varies.
        lowest: smallest shape of an input.
        usual: that the engine was tuned for.
        highest: largest one; of outputs all three are ``shape``.
    """

    name: str
    is_input: bool
    type: str
    shape: Shape
    lowest: Shape
    usual: Shape
    highest: Shape


@dataclass(frozen=True)
class EngineNotes:
    """What is known of an engine.

    Attributes:
        kind: ``tensorrt`` or ``tensorrt-rtx``.
        version: of that library.
        engine_sha256: of the plan.
        onnx_sha256: of the graph that it was built from.
        capability: of the GPU that it was built on; None for RTX.
        device: that GPU's name; None for RTX.
        bindings: inputs and outputs.
        options: of the builder.
        description: of the graph (``bev.deploy.facts.describe``): rig, classes, pre-processing, git revision.
        build_s: seconds that the builder took.
    """

    kind: str
    version: str
    engine_sha256: str
    onnx_sha256: str
    capability: tuple[int, int] | None
    device: str | None
    bindings: tuple[Binding, ...]
    options: dict[str, Any]
    description: dict[str, Any] = field(repr=False)
    build_s: float = 0.0

    def refusals(self, library: Library, capability: tuple[int, int]) -> list[str]:
        """Why the engine cannot run with this library on a GPU of this compute capability; empty where it can."""
        found = []
        if library.kind != self.kind:
            found.append(f"it is of {self.kind}, here is {library.name}")
        elif not self._version_fits(library):
            found.append(f"it was built by version {self.version}, here is {library.name}")
        if not self._device_fits(capability):
            here = f"a GPU of compute capability {_dotted(capability)}"
            found.append(f"it was built for {self._made_for()}, here is {here}")
        return found

    def _version_fits(self, library: Library) -> bool:
        """Engines run with the version that built them; version-compatible ones also with later ones of the same major
        number, and those of 10 with 11 (NVIDIA's support matrix)."""
        built, here = numbers(self.version), library.number
        if not self.options.get("version_compatible"):
            return built == here
        return built <= here and (built[0] == here[0] or (built[0], here[0]) == (10, 11))

    def _device_fits(self, capability: tuple[int, int]) -> bool:
        if self.kind == "tensorrt-rtx":
            return f"SM{capability[0]}{capability[1]}" in self.options["targets"]
        if self.options["hardware"] == "ampere-plus":
            return capability >= (8, 0)
        return capability == self.capability

    def _made_for(self) -> str:
        if self.kind == "tensorrt-rtx":
            return ", ".join(self.options["targets"])
        level = "" if self.options["hardware"] == "none" else f", hardware compatibility {self.options['hardware']}"
        return f"{self.device} (compute capability {_dotted(self.capability or (0, 0))}{level})"


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def notes_path(engine_path: str | Path) -> Path:
    """Where an engine's notes are."""
    return Path(f"{engine_path}.json")


def sha256(content: Any) -> str:
    """Of bytes or a buffer."""
    return hashlib.sha256(content).hexdigest()


def write_engine(path: str | Path, plan: Any, notes: EngineNotes) -> Path:
    """Write the plan and its notes; the notes first, so that an engine never lies beside those of an older one
    unnoticed: their hash differs until the plan is there."""
    text = json.dumps({"format": FORMAT, **asdict(notes)}, indent=1)
    write_bytes(notes_path(path), text.encode())
    return write_bytes(path, plan)


def read_engine(path: str | Path) -> tuple[bytes, EngineNotes]:
    """The plan and its notes.

    Raises:
        ExportError: a file is missing or damaged, or the notes are of another engine.
    """
    notes, path = read_notes(path), Path(path)
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
    if sha256(plan) != notes.engine_sha256:
        raise ExportError(f"{path} is not the engine that {notes_path(path).name} tells of (another SHA-256)")
    return plan, notes


def read_notes(path: str | Path) -> EngineNotes:
    """The notes of an engine; raises ExportError as :func:`read_engine`."""
    file = notes_path(path)
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise ExportError(f"{path} has no notes beside it ({file.name}: {error.strerror}); build it again") from error
    except ValueError as error:
        raise ExportError(f"{file} is damaged: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ExportError(f"{file} is not of the format {FORMAT}")
    try:
        capability = values["capability"]
        return EngineNotes(
            **{
                **values,
                "bindings": tuple(_binding(row) for row in values["bindings"]),
                "capability": None if capability is None else (int(capability[0]), int(capability[1])),
            }
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ExportError(f"{file} is damaged ({type(error).__name__}: {error})") from error


def _binding(row: Mapping[str, Any]) -> Binding:
    shapes = {name: tuple(int(side) for side in row[name]) for name in ("shape", "lowest", "usual", "highest")}
    return Binding(str(row["name"]), bool(row["is_input"]), str(row["type"]), **shapes)
