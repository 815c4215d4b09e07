"""Stands in for TensorRT and for a GPU, so that what does not need them can be tested.

``tensorrt_api.json`` has the names and numbers of the real Python bindings of three versions, read from their wheels.
The classes here have no public name that the real ones lack (a test compares them), so code that runs with them
calls nothing that the real library has not. An "engine" is the ONNX file, run by onnxruntime; "device memory" is the
host's.

What this proves: names, order of calls, shapes, types, addresses, state, errors. What it does not: that the real
builder takes a network, that a kernel is right, or anything about time.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

API: dict[str, Any] = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
_KINDS = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
_NUMPY = {"FLOAT": "float32", "UINT8": "uint8", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
REFUSED = "GridSample"  # an operator that the stand-in's parser does not take
_HEAD = b"PLAN"


class HostCuda:
    """The methods of ``bev.deploy.cuda.Cuda``, with memory of the host; every copy is checked against what is held."""

    def __init__(self, capability: tuple[int, int] = (8, 6)) -> None:
        self.capability, self.name, self.device = capability, "a stand-in", 0
        self.held: dict[int, tuple[Any, int]] = {}
        self.handles: set[int] = set()
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launches, self._next = 0, 1

    def use(self) -> None:
        pass

    def malloc(self, size: int) -> int:
        memory = (ctypes.c_byte * max(size, 1))()
        self.held[ctypes.addressof(memory)] = (memory, size)
        return ctypes.addressof(memory)

    def free(self, address: int) -> None:
        del self.held[address]

    pinned, free_pinned = malloc, free

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        for address in (target, source):
            assert self.held[address][1] >= size, "a copy beyond its buffer"
        assert stream in self.handles and self.recording is None
        ctypes.memmove(target, source, size)

    def _handle(self) -> int:
        self._next += 1
        self.handles.add(self._next)
        return self._next

    def stream(self) -> int:
        return self._handle()

    event = stream

    def destroy_stream(self, handle: int) -> None:
        self.handles.remove(handle)

    destroy_event = destroy_stream

    def wait(self, stream: int) -> None:
        assert stream in self.handles and self.recording is None, "waiting inside a capture"

    def record(self, event: int, stream: int) -> None:
        assert {event, stream} <= self.handles

    def elapsed_ms(self, start: int, stop: int) -> float:
        return 1.0

    def captured(self, stream: int, work: Callable[[], None]) -> int:
        self.recording = []
        try:
            work()
            graph = self._handle()
            self.graphs[graph] = self.recording
            return graph
        finally:
            self.recording = None

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        for work in self.graphs[graph]:
            work()

    def destroy_graph(self, graph: int) -> None:
        self.handles.remove(graph)
        del self.graphs[graph]


class _Bound:
    """A class of a stand-in's module; attributes that a class does not have cannot be set where it names its slots."""

    __slots__ = ()
    _module: Any


class ITensor(_Bound):
    def __init__(self, value: Any) -> None:
        sides = value.type.tensor_type.shape.dim
        self.name = value.name
        self.shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)
        self.dtype = self._module.DataType[_KINDS[value.type.tensor_type.elem_type]]


class INetworkDefinition(_Bound):
    def __init__(self, flags: int) -> None:
        self._flags, self._model = flags, onnx.ModelProto()

    num_inputs = property(lambda self: len(self._model.graph.input))
    num_outputs = property(lambda self: len(self._model.graph.output))

    def get_input(self, index: int) -> Any:
        return self._module.ITensor(self._model.graph.input[index])

    def get_output(self, index: int) -> Any:
        return self._module.ITensor(self._model.graph.output[index])


class ParserError(_Bound):
    def __init__(self, index: int, node: Any) -> None:
        self._index, self._node = index, node

    def desc(self) -> str:
        return "no importer"

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class OnnxParser(_Bound):
    def __init__(self, network: Any, log: Any) -> None:
        self._network, self._errors = network, list[Any]()

    num_errors = property(lambda self: len(self._errors))

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        self._errors = [self._module.ParserError(i, n) for i, n in enumerate(model.graph.node) if n.op_type == REFUSED]
        self._network._model.CopyFrom(model)
        return not self._errors

    def get_error(self, index: int) -> Any:
        return self._errors[index]


class IOptimizationProfile(_Bound):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self._shapes[name] = (tuple(low), tuple(usual), tuple(high))


class ITimingCache(_Bound):
    def __init__(self, content: bytes) -> None:
        self._content = content or b"timings"

    def serialize(self) -> bytes:
        return self._content + b"!"


class IBuilderConfig(_Bound):
    __slots__ = (
        "hardware_compatibility_level", "builder_optimization_level", "_set", "_profiles", "_cache", "_pool"
    )  # fmt: skip

    def __init__(self) -> None:
        self._set, self._profiles, self._pool = {self._module.BuilderFlag.TF32}, list[Any](), dict[Any, int]()

    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pool[pool] = size

    def create_timing_cache(self, content: bytes) -> Any:
        return self._module.ITimingCache(content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return not cache._content.startswith(b"other")

    def get_timing_cache(self) -> Any:
        return self._cache

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1


class Builder(_Bound):
    def __init__(self, log: Any) -> None:
        self._log = log

    def create_network(self, flags: int = 0) -> Any:
        return self._module.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return self._module.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._module.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        self._module.calls.append((network, config))
        varies = any(-1 in self._module.ITensor(value).shape for value in network._model.graph.input)
        if varies and not config._profiles:
            self._log.log(self._module.ILogger.Severity.ERROR, "network has dynamic inputs and no profile")
            return None
        return _HEAD + network._model.SerializeToString()


class IExecutionContext(_Bound):
    def __init__(self, engine: Any) -> None:
        self._engine, self._shapes, self._addresses = engine, dict[str, Any](), dict[str, int]()

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> Any:
        if name in self._shapes:
            return self._shapes[name]
        types = {v.name: np.dtype(_NUMPY[self._module.ITensor(v).dtype.name]) for v in self._engine._inputs}
        blank = {n: np.zeros(shape, types[n]) for n, shape in self._shapes.items()}
        self._shapes |= {n: value.shape for n, value in self._engine._run(blank).items()}
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address in self._module.cuda.held

    def execute_async_v3(self, stream: int) -> bool:
        assert stream in self._module.cuda.handles
        if self._module.cuda.recording is not None:
            self._module.cuda.recording.append(self._now)
        else:
            self._now()
        return not self._engine._fails

    def _now(self) -> None:
        inputs = {v.name: self._view(self._module.ITensor(v)) for v in self._engine._inputs}
        for name, value in self._engine._run(inputs).items():
            tensor = next(self._module.ITensor(v) for v in self._engine._outputs if v.name == name)
            self._view(tensor)[...] = value

    def _view(self, tensor: Any) -> np.ndarray:
        memory, _ = self._module.cuda.held[self._addresses[tensor.name]]
        shape, kind = self._shapes[tensor.name], np.dtype(_NUMPY[tensor.dtype.name])
        return np.frombuffer(memory, kind, int(np.prod(shape))).reshape(shape)


class ICudaEngine(_Bound):
    def __init__(self, model: Any) -> None:
        self._session = onnxruntime.InferenceSession(model.SerializeToString())
        self._inputs, self._outputs = list(model.graph.input), list(model.graph.output)
        self._tensors = {value.name: self._module.ITensor(value) for value in (*self._inputs, *self._outputs)}
        self._fails = False

    num_io_tensors = property(lambda self: len(self._tensors))

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Any:
        return self._tensors[name].shape

    def get_tensor_mode(self, name: str) -> Any:
        modes, inputs = self._module.TensorIOMode, {value.name for value in self._inputs}
        return modes.INPUT if name in inputs else modes.OUTPUT

    def create_execution_context(self) -> Any:
        return self._module.IExecutionContext(self)

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [value.name for value in self._outputs]
        return dict(zip(names, self._session.run(names, {n: v.copy() for n, v in inputs.items()})))


class Runtime(_Bound):
    def __init__(self, log: Any) -> None:
        self._log, self.engine_host_code_allowed = log, False

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(_HEAD):
            self._log.log(self._module.ILogger.Severity.ERROR, "magic tag does not match")
            return None
        return self._module.ICudaEngine(onnx.ModelProto.FromString(plan[len(_HEAD) :]))


_CLASSES = (
    ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile, ITimingCache, IBuilderConfig, Builder,
    IExecutionContext, ICudaEngine, Runtime,
)  # fmt: skip


def standin(version: str, cuda: HostCuda) -> Any:
    """A module like ``tensorrt`` of a recorded version."""
    recorded = API[version]
    enums = {name: enum.Enum(name, members) for name, members in recorded["enums"].items()}
    for kind in enums.values():
        kind.__int__ = lambda self: self.value  # type: ignore[attr-defined]
    logger = type("ILogger", (), {"Severity": enum.Enum("Severity", recorded["severity"])})
    module = SimpleNamespace(__version__=version, ILogger=logger, calls=[], cuda=cuda, **enums)
    for plain in _CLASSES:
        setattr(module, plain.__name__, type(plain.__name__, (plain,), {"_module": module, "__slots__": ()}))
    return module


def public_names(module: Any) -> dict[str, set[str]]:
    """Names that each class of a stand-in has for its users."""
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, type) and not issubclass(value, enum.Enum) and name != "ILogger":
            found[name] = {attribute for attribute in dir(value) if not attribute.startswith("_")}
    return found
