"""Engines of TensorRT 10 and 11 and of TensorRT-RTX from an exported ONNX file. Needs no torch.

Networks are strongly typed: every tensor has the type that the graph gives it, so precision is decided where the graph
is written, and the graph that was proven is the one that runs. TensorRT times kernels on the GPU while it builds; RTX
compiles for named targets and needs none.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bev._optional import require
from bev.deploy.cuda import Cuda, CudaError
from bev.deploy.facts import METADATA, ExportError, described, write_bytes
from bev.deploy.tensorrt_api import HARDWARE, Library, Log, load
from bev.deploy.tensorrt_file import Binding, EngineNotes, sha256, write_engine
from bev.deploy.tensorrt_profile import Range, profile_of

PLUGIN_DOMAIN = "bev"  # of nodes that need a plugin, see bev.ops.exporting
_LOG = logging.getLogger("bev.deploy.tensorrt")
_LEVELS = range(6)
# TensorRT's names of element types and numpy's.
TYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool",
    "UINT8": "uint8",
}  # fmt: skip


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built.

    Attributes:
        batch: smallest, usual and largest, for graphs whose batch varies.
        workspace_bytes: scratch memory that the builder may plan with; None: all of the GPU's.
        level: 0 (fastest build) to 5 (fastest engine).
        hardware: GPUs that the engine shall run on: ``none`` (the kind it is built on), ``same`` (that compute
            capability), ``ampere-plus`` (every later kind; slower). TensorRT alone.
        version_compatible: runs with later versions, too; slower. TensorRT alone.
        tf32: let float32 products be rounded to 10 bits before they are multiplied. Faster, but then the engine is not
            the graph that was proven.
        targets: compute capabilities of RTX engines.
    """

    batch: tuple[int, int, int] = (1, 1, 4)
    workspace_bytes: int | None = None
    level: int = 3
    hardware: str = "none"
    version_compatible: bool = False
    tf32: bool = False
    targets: tuple[str, ...] = ("SM80", "SM86")

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise ExportError(f"the builder's level is 0 to {_LEVELS[-1]}, got {self.level}")
        if self.hardware not in HARDWARE:
            raise ExportError(f"hardware compatibility must be one of {tuple(HARDWARE)}, got {self.hardware!r}")


@dataclass(frozen=True)
class _Source:
    """An ONNX file.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        description: what this library kept in it.
        plugins: whether nodes of it are plugins.
    """

    path: Path
    sha256: str
    description: dict[str, Any]
    plugins: bool


def build_engine(
    onnx_path: str | Path,
    engine_path: str | Path,
    options: EngineOptions = EngineOptions(),
    library: Library | str = "tensorrt",
    cuda: Cuda | None = None,
) -> Path:
    """Parse an ONNX file of this library and write an engine, and notes of it beside (``<engine_path>.json``).

    Timings of kernels are kept in the engine's folder, one file a GPU and version, so that later builds are faster.

    Args:
        onnx_path: written by ``write_onnx``.
        engine_path: to write.
        options: of the builder.
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``, or one that is loaded.
        cuda: the GPU of TensorRT; default: the first one. RTX needs none.

    Raises:
        ExportError: the file is none of this library's; the parser refuses nodes, which are named; the builder
            refuses; there is no GPU for TensorRT.
        ImportError: the library is not installed.
    """
    if isinstance(library, str):
        library = load(library)
    source = _read(Path(onnx_path))
    if library.builds_on_the_gpu and cuda is None:
        cuda = _gpu(library)
    if source.plugins:
        _register(source, library, cuda, options)
    log, start = Log(library), time.perf_counter()
    builder = library.module.Builder(log.logger)
    network = _parsed(builder, source, library, log)
    config = _config(builder, library, options)
    facts, _ = described(source.description, source.path)
    ranges = profile_of(_shapes(network), options.batch, facts.shapes)
    _add_profile(builder, config, ranges)
    cache = None if cuda is None else Path(engine_path).parent / _cache_name(library, cuda)
    if cache is not None:
        _attach_cache(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"{library.name} cannot build {onnx_path}: {log.last()}")
    if cache is not None:
        write_bytes(cache, memoryview(config.get_timing_cache().serialize()))
    content = bytes(plan)
    notes = EngineNotes(
        library.kind,
        library.version,
        sha256(content),
        source.sha256,
        None if cuda is None else cuda.capability,
        None if cuda is None else cuda.name,
        tuple(_bindings(network, ranges)),
        asdict(options),
        source.description,
        round(time.perf_counter() - start, 3),
    )
    return write_engine(engine_path, content, notes)


def _read(path: Path) -> _Source:
    onnx = require("onnx", extra="export")
    if not path.is_file():
        raise ExportError(f"{path} does not exist")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own, whose class depends on its implementation
        raise ExportError(f"{path} is not an ONNX file ({type(error).__name__}: {error})") from error
    notes = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA not in notes:
        raise ExportError(f"{path} is not a graph of this library: it has no {METADATA!r} description")
    described(notes[METADATA], path)
    plugins = any(node.domain == PLUGIN_DOMAIN for node in model.graph.node)
    return _Source(path, sha256(path.read_bytes()), json.loads(notes[METADATA]), plugins)


def _gpu(library: Library) -> Cuda:
    try:
        return Cuda()
    except CudaError as error:
        raise ExportError(
            f"{library.name} builds engines on a GPU of the kind that runs them, and there is none here ({error}); "
            "TensorRT-RTX builds without one"
        ) from error


def _register(source: _Source, library: Library, cuda: Cuda | None, options: EngineOptions) -> None:
    """Make the plugins known, compiled for the GPU or, where the engine shall run on others, for Ampere and later."""
    if library.kind != "tensorrt":
        raise ExportError(f"{source.path} has plugin nodes, which {library.name} does not know: export without plugins")
    from bev.deploy.plugins import register_plugins

    hopper = cuda is not None and cuda.capability == (9, 0) and options.hardware == "none"
    register_plugins(90 if hopper else 80)


def _parsed(builder: Any, source: _Source, library: Library, log: Log) -> Any:
    network = builder.create_network(library.network_flags(source.plugins))
    parser = library.module.OnnxParser(network, log.logger)
    if parser.parse_from_file(str(source.path)):
        return network
    errors = [_error_line(parser.get_error(i)) for i in range(parser.num_errors)] or [log.last()]
    raise ExportError(f"{library.name} cannot parse {source.path}: " + "; ".join(errors))


def _error_line(error: Any) -> str:
    """The node, its operator and what is wrong with it."""
    what = str(error.desc()).strip()
    name, operator = str(error.node_name()), str(error.node_operator())
    if not name and not operator:
        return what
    return f"node {name or error.node()!r} ({operator or 'unknown operator'}): {what}"


def _config(builder: Any, library: Library, options: EngineOptions) -> Any:
    config, module = builder.create_builder_config(), library.module
    library.aim(config, options.hardware, options.targets)
    config.builder_optimization_level = options.level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not options.tf32:
        config.clear_flag(module.BuilderFlag.TF32)
    if options.version_compatible:
        if library.kind != "tensorrt":
            raise ExportError(f"{library.name} has no version-compatible engines")
        config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
    return config


def _shapes(network: Any) -> dict[str, tuple[int, ...]]:
    inputs = (network.get_input(i) for i in range(network.num_inputs))
    return {value.name: tuple(value.shape) for value in inputs}


def _add_profile(builder: Any, config: Any, ranges: Mapping[str, Range]) -> None:
    if not ranges:
        return
    profile = builder.create_optimization_profile()
    for name, (low, usual, high) in ranges.items():
        profile.set_shape(name, low, usual, high)
    if config.add_optimization_profile(profile) < 0:
        raise ExportError(f"the builder refuses the shapes {dict(ranges)}")


def _cache_name(library: Library, cuda: Cuda) -> str:
    """Timings hold for a kind of GPU and a version."""
    major, minor = cuda.capability
    return f"{library.kind}-{library.version}-sm{major}{minor}.timing"


def _attach_cache(config: Any, path: Path) -> None:
    """The timings of earlier builds; none where the file is not there or is of another GPU or version."""
    content = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        _LOG.warning("%s is of another GPU or version of TensorRT: kernels are timed anew", path)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _bindings(network: Any, ranges: Mapping[str, Range]) -> list[Binding]:
    found = []
    for is_input, count in ((True, network.num_inputs), (False, network.num_outputs)):
        for index in range(count):
            value = network.get_input(index) if is_input else network.get_output(index)
            shape = tuple(int(size) for size in value.shape)
            low, usual, high = ranges.get(value.name, (shape,) * 3)
            found.append(Binding(value.name, is_input, type_name(value.dtype, value.name), shape, low, usual, high))
    return found


def type_name(value: Any, tensor: str) -> str:
    """numpy's name of a TensorRT type.

    Raises:
        ExportError: numpy has no such type.
    """
    if value.name not in TYPES:
        raise ExportError(f"{tensor} is {value.name}, which numpy does not have: cast it inside the graph")
    return TYPES[value.name]
