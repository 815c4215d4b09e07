"""Runs engines of TensorRT and TensorRT-RTX: numpy in, numpy out, nothing of torch.

Inputs go through page-locked memory to the GPU, the network is launched as one CUDA graph a set of shapes, and state
stays on the device: what a call gives as ``next_*`` is a :class:`DeviceArray`, which the next call takes as ``state_*``
without a way over the host.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev.deploy.cuda import Cuda, CudaError, host_array
from bev.deploy.facts import NEXT, ExportError, described
from bev.deploy.runtime import Arrays, check_names
from bev.deploy.tensorrt import type_name
from bev.deploy.tensorrt_api import Library, Log, load
from bev.deploy.tensorrt_file import Binding, Shape, read_engine

_LOG = logging.getLogger("bev.deploy.tensorrt")
_MOST_PLANS = 4  # sets of shapes that are kept ready
STAGES = ("upload", "network", "download")


def fitting(binding: Binding, value: Any) -> np.ndarray:
    """A host array that an input can take, dense.

    Raises:
        ValueError: another type, or a shape that the engine was not built for.
    """
    array = np.asarray(value)
    check_fit(binding, array.shape, array.dtype)
    return np.ascontiguousarray(array)


def check_fit(binding: Binding, shape: Shape, kind: np.dtype) -> None:
    """Raises ValueError as :func:`fitting`."""
    if kind != np.dtype(binding.type):
        raise ValueError(f"{binding.name} must be {binding.type}, got {kind}")
    inside = len(shape) == len(binding.shape) and all(
        low <= size <= high for low, size, high in zip(binding.lowest, shape, binding.highest)
    )
    if not inside:
        built = f"{binding.lowest} to {binding.highest}" if binding.lowest != binding.highest else f"{binding.shape}"
        raise ValueError(f"{binding.name} has shape {tuple(shape)}, the engine is built for {built}")


def compare_tensors(engine: Any, input_mode: Any, bindings: Sequence[Binding]) -> list[str]:
    """What of an engine's inputs and outputs is not as its notes say; empty where all is.

    Args:
        engine: deserialised.
        input_mode: the library's ``TensorIOMode.INPUT``.
        bindings: of the notes.
    """
    there = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    problems = [f"{b.name} is missing" for b in bindings if b.name not in there]
    problems += [f"{name} is not in the notes" for name in sorted(there - {b.name for b in bindings})]
    for binding in bindings:
        if binding.name not in there:
            continue
        kind = type_name(engine.get_tensor_dtype(binding.name), binding.name)
        shape = tuple(int(size) for size in engine.get_tensor_shape(binding.name))
        is_input = engine.get_tensor_mode(binding.name) == input_mode
        if (is_input, kind, shape) != (binding.is_input, binding.type, binding.shape):
            side = "input" if is_input else "output"
            problems.append(f"{binding.name} is an {side} {kind} {shape}, the notes say {binding.type} {binding.shape}")
    return problems


class DeviceArray:
    """An output that stayed on the GPU; ``numpy.asarray`` copies it to the host.

    It is valid until the next call with inputs of the same shapes writes over it.

    Attributes:
        shape: of the array.
        dtype: of numpy.
    """

    def __init__(self, plan: _Plan, name: str) -> None:
        self._plan, self._name, self._run = plan, name, plan.runs
        self.shape, self.dtype = plan.shapes[name], plan.types[name]

    @property
    def address(self) -> int:
        """On the device.

        Raises:
            ValueError: it was written over.
        """
        if self._plan.runs != self._run:
            raise ValueError(
                f"{self._name} was overwritten by a later call: use one runner a recording, or copy it by numpy.asarray"
            )
        return self._plan.device[self._name]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self._name} is on a GPU: it cannot become an array without a copy")
        found = self._plan.fetched(self._name, self.address)
        return found if dtype is None else found.astype(dtype)


class _Plan:
    """Buffers, context and CUDA graph for one set of input shapes."""

    def __init__(self, runner: EngineRunner, shapes: Mapping[str, Shape]) -> None:
        self._cuda, self._stream, self._log = runner.cuda, runner.stream, runner.log
        self.context, self._capture = runner.library.context(runner.engine, runner.cuda_graphs)
        if self.context is None:
            raise ExportError(f"no execution context of {runner.path}: {self._log.last()}")
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                raise ValueError(f"the engine refuses {name} of shape {shape}: {self._log.last()}")
        self.shapes = {
            b.name: tuple(int(size) for size in self.context.get_tensor_shape(b.name)) for b in runner.bindings
        }
        self.types = {b.name: np.dtype(b.type) for b in runner.bindings}
        unknown = [name for name, shape in self.shapes.items() if min(shape, default=0) < 0]
        if unknown:
            raise ExportError(f"the shapes of {unknown} depend on values, which this runner does not serve")
        self.device: dict[str, int] = {}
        self._host: dict[str, int] = {}
        self.runs, self._graph = 0, 0
        try:
            self._allocate()
        except CudaError:
            self.close()
            raise

    def _allocate(self) -> None:
        for name, shape in self.shapes.items():
            size = self.size(name)
            self.device[name] = self._cuda.malloc(size)
            self._host[name] = self._cuda.pinned(size)
            if not self.context.set_tensor_address(name, self.device[name]):
                raise ExportError(f"the engine refuses a buffer of {size} bytes for {name}: {self._log.last()}")

    def size(self, name: str) -> int:
        """Bytes of a tensor."""
        return int(np.prod(self.shapes[name], dtype=np.int64)) * self.types[name].itemsize

    def put(self, name: str, value: np.ndarray | DeviceArray) -> None:
        """Enqueue an input's way to its buffer."""
        if isinstance(value, DeviceArray):
            source = value.address
        else:
            source = self._host[name]
            host_array(source, self.shapes[name], self.types[name])[...] = value
        self._cuda.copy(self.device[name], source, self.size(name), self._stream)

    def run(self) -> None:
        """Enqueue the network. After the first time it is one CUDA graph."""
        self.runs += 1
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
            return
        self._enqueue()
        if not self._capture:
            return
        self._cuda.wait(self._stream)  # TensorRT sets itself up in the first run, which cannot be captured
        self._capture = False
        try:
            self._graph = self._cuda.captured(self._stream, self._enqueue)
        except ExportError as error:
            _LOG.warning("the engine runs without a CUDA graph: %s", error)

    def _enqueue(self) -> None:
        if not self.context.execute_async_v3(self._stream):
            raise ExportError(f"the engine failed: {self._log.last()}")

    def get(self, name: str) -> None:
        """Enqueue an output's way to the host."""
        self._cuda.copy(self._host[name], self.device[name], self.size(name), self._stream)

    def value(self, name: str) -> np.ndarray:
        """An output on the host, when the stream is done; a copy, since the buffer is used again."""
        return host_array(self._host[name], self.shapes[name], self.types[name]).copy()

    def fetched(self, name: str, address: int) -> np.ndarray:
        """An output at once."""
        self._cuda.use()
        self._cuda.copy(self._host[name], address, self.size(name), self._stream)
        self._cuda.wait(self._stream)
        return self.value(name)

    def close(self) -> None:
        """Free everything."""
        self.runs += 1  # arrays that are still held outside are invalid from now on
        self.context = None
        if self._graph:
            self._cuda.destroy_graph(self._graph)
            self._graph = 0
        for address in self.device.values():
            self._cuda.free(address)
        for address in self._host.values():
            self._cuda.free_pinned(address)
        self.device, self._host = {}, {}


class EngineRunner:
    """An engine on a GPU; the interface of ``OnnxRunner``.

    A runner serves one thread and one recording at a time.

    Args:
        path: ``*.engine`` with its notes beside it, of :func:`bev.deploy.tensorrt.build_engine`.
        device: index of the GPU.
        cuda_graphs: launch the network as one CUDA graph.
        library: TensorRT or RTX, loaded; default: the one of the notes.
        cuda: the GPU; default: the one at ``device``.

    Attributes:
        facts: what the graph is (``GraphFacts``).
        more: what else was kept with it.
        notes: what is known of the engine.
        times_ms: of the last call on the GPU's clock: ``upload``, ``network``, ``download``.

    Raises:
        ExportError: no engine, another one than its notes tell of, or one for another library version or GPU; no GPU.
        ImportError: the library is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        device: int = 0,
        cuda_graphs: bool = True,
        library: Library | None = None,
        cuda: Cuda | None = None,
    ) -> None:
        self._plans: OrderedDict[tuple[Shape, ...], _Plan] = OrderedDict()
        self._events: list[int] = []
        self.stream, self.path, self.cuda_graphs = 0, Path(path), cuda_graphs
        plan, self.notes = read_engine(path)
        self.facts, self.more = described(self.notes.description, path)
        self.library = load(self.notes.kind) if library is None else library
        self.cuda = Cuda(device) if cuda is None else cuda
        refusals = self.notes.refusals(self.library, self.cuda.capability)
        if refusals:
            raise ExportError(f"{path} cannot run here: {'; '.join(refusals)}. Build it again from its ONNX file")
        self.bindings, self.log = self.notes.bindings, Log(self.library)
        self.engine = self._deserialised(plan)
        self.stream = self.cuda.stream()
        self._events = [self.cuda.event() for _ in range(len(STAGES) + 1)]
        self.times_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    def _deserialised(self, plan: bytes) -> Any:
        module = self.library.module
        self._runtime = module.Runtime(self.log.logger)
        if self.notes.options.get("version_compatible"):
            # Such plans hold host code; this one is the one of its notes, made by whoever made these.
            self._runtime.engine_host_code_allowed = True
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise ExportError(f"{self.library.name} cannot load {self.path}: {self.log.last()}")
        problems = compare_tensors(engine, module.TensorIOMode.INPUT, self.bindings)
        if problems:
            raise ExportError(f"{self.path} is not the engine of its notes: {'; '.join(problems)}")
        return engine

    def __call__(self, inputs: Mapping[str, Any]) -> Arrays:
        """Arrays by input name -> arrays by output name; state that the graph gives stays on the GPU.

        Raises:
            ValueError: an input is missing, of another type, or of a shape that the engine was not built for; a state
                was overwritten.
            ExportError: the engine failed.
        """
        check_names(self.facts, inputs)
        given = {b.name: self._checked(b, inputs[b.name]) for b in self.bindings if b.is_input}
        self.cuda.use()
        plan = self._plan({name: tuple(value.shape) for name, value in given.items()})
        outputs = [b.name for b in self.bindings if not b.is_input]
        start, uploaded, done, end = self._events
        self.cuda.record(start, self.stream)
        for name, value in given.items():
            plan.put(name, value)
        self.cuda.record(uploaded, self.stream)
        plan.run()
        self.cuda.record(done, self.stream)
        fetched = [name for name in outputs if not name.startswith(NEXT)]
        for name in fetched:
            plan.get(name)
        self.cuda.record(end, self.stream)
        self.cuda.wait(self.stream)
        marks = zip(STAGES, (start, uploaded, done), (uploaded, done, end))
        self.times_ms = {stage: self.cuda.elapsed_ms(a, b) for stage, a, b in marks}
        return {name: plan.value(name) if name in fetched else DeviceArray(plan, name) for name in outputs}

    @staticmethod
    def _checked(binding: Binding, value: Any) -> np.ndarray | DeviceArray:
        if not isinstance(value, DeviceArray):
            return fitting(binding, value)
        check_fit(binding, value.shape, value.dtype)
        return value

    def _plan(self, shapes: Mapping[str, Shape]) -> _Plan:
        """Of these shapes; the least recently used of too many is freed."""
        key = tuple(shapes.values())
        if key not in self._plans:
            while len(self._plans) >= _MOST_PLANS:
                self._plans.popitem(last=False)[1].close()
            self._plans[key] = _Plan(self, shapes)
        self._plans.move_to_end(key)
        return self._plans[key]

    def close(self) -> None:
        """Free the GPU's memory; the runner cannot be used any more."""
        while self._plans:
            self._plans.popitem()[1].close()
        while self._events:
            self.cuda.destroy_event(self._events.pop())
        if self.stream:
            self.cuda.destroy_stream(self.stream)
            self.stream = 0
        self.engine = self._runtime = None

    def __enter__(self) -> EngineRunner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
