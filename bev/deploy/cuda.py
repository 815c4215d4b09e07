"""The few calls of the CUDA runtime that running an engine needs, through ctypes: no torch, nothing to install.

``libcudart`` comes with TensorRT's wheels and with every CUDA toolkit. All calls are of the interface that CUDA 12 and
13 share.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bev.deploy.facts import ExportError

_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor
_NON_BLOCKING = 1
_BY_ADDRESS = 4  # cudaMemcpyDefault: which memory an address is of, the driver knows
_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal: other threads may allocate meanwhile
_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
_WINDOWS = ("cudart64_13.dll", "cudart64_12.dll")
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_out = ctypes.POINTER(ctypes.c_void_p)
# Arguments of every call; each gives an error code.
_CALLS: dict[str, list[Any]] = {
    "cudaGetDeviceCount": [ctypes.POINTER(_int)],
    "cudaSetDevice": [_int],
    "cudaDeviceGetAttribute": [ctypes.POINTER(_int), _int, _int],
    "cudaMalloc": [_out, _size],
    "cudaFree": [_pointer],
    "cudaHostAlloc": [_out, _size, ctypes.c_uint],
    "cudaFreeHost": [_pointer],
    "cudaMemcpyAsync": [_pointer, _pointer, _size, _int, _pointer],
    "cudaStreamCreateWithFlags": [_out, ctypes.c_uint],
    "cudaStreamDestroy": [_pointer],
    "cudaStreamSynchronize": [_pointer],
    "cudaStreamBeginCapture": [_pointer, _int],
    "cudaStreamEndCapture": [_pointer, _out],
    "cudaGraphInstantiateWithFlags": [_out, _pointer, ctypes.c_ulonglong],
    "cudaGraphDestroy": [_pointer],
    "cudaGraphExecDestroy": [_pointer],
    "cudaGraphLaunch": [_pointer, _pointer],
    "cudaEventCreate": [_out],
    "cudaEventDestroy": [_pointer],
    "cudaEventRecord": [_pointer, _pointer],
    "cudaEventElapsedTime": [ctypes.POINTER(ctypes.c_float), _pointer, _pointer],
}


class CudaError(ExportError):
    """The CUDA runtime is missing, or a call of it failed."""


def find_library() -> ctypes.CDLL:
    """The CUDA runtime: of the wheels beside TensorRT's, or the system's.

    Raises:
        CudaError: there is none.
    """
    names = _WINDOWS if sys.platform == "win32" else _NAMES
    tried: list[str] = []
    for candidate in (*_of_wheels(names), *names):
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            tried.append(str(error))
    raise CudaError(f"the CUDA runtime cannot be loaded ({tried[-1]}); TensorRT's wheels and CUDA toolkits bring it")


def _of_wheels(names: tuple[str, ...]) -> Iterator[str]:
    """Libraries in the wheels ``nvidia-cuda-runtime*``, newest first."""
    spec = importlib.util.find_spec("nvidia")
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        for name in names:
            yield from sorted(map(str, Path(folder).glob(f"*/*/{name}")), reverse=True)


class Cuda:
    """One device's memory, streams, events and graphs. Addresses and handles are plain integers.

    Args:
        device: index among the visible ones.
        library: the runtime, loaded; default: :func:`find_library`.

    Raises:
        CudaError: no runtime, no driver, no device, or no such device.
    """

    def __init__(self, device: int = 0, library: Any = None) -> None:
        self._library = find_library() if library is None else library
        for name, arguments in _CALLS.items():
            call = getattr(self._library, name)
            call.argtypes, call.restype = arguments, _int
        for name in ("cudaGetErrorName", "cudaGetErrorString"):
            getattr(self._library, name).restype = ctypes.c_char_p
        count = _int()
        self._do("cudaGetDeviceCount", ctypes.byref(count))
        if not 0 <= device < count.value:
            raise CudaError(f"there is no CUDA device {device}: {count.value} visible")
        self.device = device
        self.use()

    def _do(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            what, text = (
                getattr(self._library, f"cudaGetError{kind}")(code).decode(errors="replace")
                for kind in ("Name", "String")
            )
            raise CudaError(f"{name}: {what} ({code}): {text}")

    def _made(self, name: str, *arguments: Any) -> int:
        """A handle or address that a call gives first."""
        found = ctypes.c_void_p()
        self._do(name, ctypes.byref(found), *arguments)
        return int(found.value or 0)

    def use(self) -> None:
        """Make this the calling thread's device."""
        self._do("cudaSetDevice", self.device)

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, (9, 0) for Hopper."""
        return self._attribute(_MAJOR), self._attribute(_MINOR)

    def _attribute(self, which: int) -> int:
        value = _int()
        self._do("cudaDeviceGetAttribute", ctypes.byref(value), which, self.device)
        return value.value

    @property
    def name(self) -> str:
        """The device's name, as the driver gives it."""
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        text, handle = ctypes.create_string_buffer(256), _int()
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), self.device):
            raise CudaError("the CUDA driver does not name the device")
        if driver.cuDeviceGetName(text, len(text), handle):
            raise CudaError("the CUDA driver does not name the device")
        return text.value.decode(errors="replace")

    def malloc(self, size: int) -> int:
        """Address of ``size`` bytes on the device; at least one."""
        return self._made("cudaMalloc", max(size, 1))

    def free(self, address: int) -> None:
        self._do("cudaFree", address)

    def pinned(self, size: int) -> int:
        """Address of page-locked memory of the host, from which copies run at full speed."""
        return self._made("cudaHostAlloc", max(size, 1), 0)

    def free_pinned(self, address: int) -> None:
        self._do("cudaFreeHost", address)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy bytes between any two memories, in the stream's order."""
        self._do("cudaMemcpyAsync", target, source, size, _BY_ADDRESS, stream)

    def stream(self) -> int:
        return self._made("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        self._do("cudaStreamDestroy", stream)

    def wait(self, stream: int) -> None:
        """Until everything of the stream is done; raises CudaError where something of it failed."""
        self._do("cudaStreamSynchronize", stream)

    def event(self) -> int:
        return self._made("cudaEventCreate")

    def destroy_event(self, event: int) -> None:
        self._do("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._do("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, stop: int) -> float:
        """Between two recorded events that are over."""
        value = ctypes.c_float()
        self._do("cudaEventElapsedTime", ctypes.byref(value), start, stop)
        return value.value

    def captured(self, stream: int, work: Callable[[], None]) -> int:
        """What ``work`` launches into the stream, as a graph to be launched again and again; nothing runs yet."""
        self._do("cudaStreamBeginCapture", stream, _THREAD_LOCAL)
        found = ctypes.c_void_p()
        try:
            work()
        except BaseException:  # whatever it was: the stream must not stay in capture
            self._library.cudaStreamEndCapture(stream, ctypes.byref(found))
            if found.value:
                self._library.cudaGraphDestroy(found.value)
            raise
        self._do("cudaStreamEndCapture", stream, ctypes.byref(found))
        graph = int(found.value or 0)
        try:
            return self._made("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._do("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._do("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._do("cudaGraphExecDestroy", graph)


def host_array(address: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Memory of the host at an address as an array, valid as long as that memory is."""
    count = int(np.prod(shape, dtype=np.int64))
    memory: Any = (ctypes.c_byte * max(count * kind.itemsize, 1)).from_address(address)
    return np.frombuffer(memory, dtype=kind, count=count).reshape(shape)
