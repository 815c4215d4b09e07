"""All that differs between TensorRT 10, TensorRT 11 and TensorRT-RTX, in one place.

The three have one Python interface but for what is here. Names and their meaning were read from the bindings of 10.16
and 11.4 themselves; RTX 1.7 runs in the tests. TensorRT 8 is not supported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from bev._optional import require
from bev.deploy.facts import ExportError

Kind = Literal["tensorrt", "tensorrt-rtx"]
_LOG = logging.getLogger("bev.deploy.tensorrt")
_OLDEST = (10, 0)
# A warning about every int64 input and output; an engine's notes tell their types, and the runner keeps to them.
_KNOWN = "has Int64 binding"
# Values of --hardware and TensorRT's names of them.
HARDWARE = {"none": "NONE", "same": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}


@dataclass(frozen=True)
class Library:
    """TensorRT or TensorRT-RTX.

    Attributes:
        module: its Python module.
        kind: which of the two.
        version: e.g. ``"11.4.0.106"``.
    """

    module: Any
    kind: Kind
    version: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{'TensorRT' if self.kind == 'tensorrt' else 'TensorRT-RTX'} {self.version}"

    @property
    def number(self) -> tuple[int, ...]:
        """The version as numbers."""
        return numbers(self.version)

    @property
    def builds_on_the_gpu(self) -> bool:
        """Whether a build times kernels on the GPU that will run them; RTX compiles for named targets instead."""
        return self.kind == "tensorrt"

    def network_flags(self, plugins: bool) -> int:
        """Of ``create_network``: strongly typed, which 11 always is; of a plugin's two forms the one that is kept in
        the engine. The members' numbers differ between 10 and 11.

        Raises:
            ExportError: a version without such plugins.
        """
        members = self.module.NetworkDefinitionCreationFlag
        wanted = [] if self.kind == "tensorrt" and self.number >= (11,) else [members.STRONGLY_TYPED]
        if plugins:
            kept = getattr(members, "PREFER_AOT_PYTHON_PLUGINS", None)
            if kept is None:
                raise ExportError(f"{self.name} is too old for plugins that are kept in the engine (10.16 is not)")
            wanted.append(kept)
        return sum(1 << int(member) for member in wanted)

    def aim(self, config: Any, hardware: str, targets: Sequence[str]) -> None:
        """Say in a builder configuration which GPUs the engine is for.

        Raises:
            ExportError: this library does not know them.
        """
        if self.kind == "tensorrt":
            level = getattr(self.module.HardwareCompatibilityLevel, HARDWARE[hardware], None)
            if level is None:  # 10.0 to 10.11 know no "same"
                raise ExportError(f"{self.name} has no hardware compatibility level {hardware!r}")
            config.hardware_compatibility_level = level
            return
        if hardware != "none":
            raise ExportError(f"{self.name} has no hardware compatibility levels: name its targets instead")
        known = self.module.ComputeCapability.__members__
        unknown = [target for target in targets if target not in known or not target.startswith("SM")]
        if unknown or not targets:
            names = ", ".join(name for name in known if name.startswith("SM"))
            raise ExportError(f"{self.name} builds for {names}, not for {', '.join(unknown) or 'nothing'}")
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(known[target], index)

    def context(self, engine: Any, cuda_graphs: bool) -> tuple[Any, bool]:
        """An execution context, and whether the caller shall capture its work into CUDA graphs.

        RTX chooses kernels while it runs, so it captures by itself.
        """
        if self.kind == "tensorrt":
            return engine.create_execution_context(), cuda_graphs
        config = engine.create_runtime_config()
        strategies = self.module.CudaGraphStrategy
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graphs else strategies.DISABLED
        return engine.create_execution_context(config), False


def numbers(version: str) -> tuple[int, ...]:
    """``"10.13.3.9.post1"`` -> (10, 13, 3, 9)."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def load(kind: str) -> Library:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        ImportError: it is not installed, or its libraries are not; one line names the extra.
        ExportError: it is older than 10.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}, got {kind!r}")
    if kind == "tensorrt":
        module: Any = require("tensorrt", extra="tensorrt")
    else:
        require("tensorrt_rtx_libs", extra="tensorrt-rtx")  # its import makes the libraries known to the bindings
        module = require("tensorrt_rtx_bindings", extra="tensorrt-rtx")
    library = Library(module, cast(Kind, kind), str(module.__version__))
    if kind == "tensorrt" and library.number < _OLDEST:
        raise ExportError(f"{library.name} is too old: 10 or later is needed")
    return library


class Log:
    """What a library says: errors are kept for whoever reports a failure, warnings go to Python's logging.

    Attributes:
        logger: the library's own object.
        errors: messages in order.
    """

    def __init__(self, library: Library) -> None:
        self.errors: list[str] = []
        base, lock, errors = library.module.ILogger, threading.Lock(), self.errors
        severity = base.Severity

        class Keeper(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, level: Any, message: str) -> None:
                if level in (severity.ERROR, severity.INTERNAL_ERROR):
                    with lock:  # builders log from several threads
                        errors.append(message.strip())
                elif level == severity.WARNING and _KNOWN not in message:
                    _LOG.warning("%s: %s", library.name, message.strip())

        self.logger = Keeper()

    def last(self) -> str:
        """The last complaints."""
        return "; ".join(self.errors[-3:]) or "no reason given"
