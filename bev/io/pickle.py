"""Pickles from outside, read without trusting them.

A pickle is a program. Here it may build Python's containers, numbers and texts and numpy arrays of them, and nothing
else: every other class or function that it names is an error before anything of it runs. The pure Python unpickler is
used on purpose: the C one allocates whatever size a hostile file asks for.
"""

from __future__ import annotations

import collections
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bev.io.errors import FileError

_PLAIN_DTYPE = re.compile(r"[<>|=]?([?bBhHiIlLqQefdgFDG]|[biufcSU]\d{1,9}|O\d?)")
# Stands for the class ``numpy.ndarray`` in a pickle; not callable, so that nothing can be allocated with it.
_NDARRAY = object()


def read_pickle(path: str | Path) -> Any:
    """Containers, numbers, texts and numpy arrays of a pickle file.

    Raises:
        FileError: missing, truncated, not a pickle, or it names a class or function that is not allowed; names it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the pickle: {error.strerror or error}") from error
    return loads(data, str(path))


def loads(data: bytes, where: str = "pickle") -> Any:
    """As :func:`read_pickle`, from bytes; errors begin with ``where``."""
    try:
        return _RestrictedUnpickler(io.BytesIO(data)).load()
    except FileError as error:
        raise FileError(f"{where}: {error}") from None
    # Damaged bytes can fail in any opcode; whatever they raise, the file is what is wrong.
    except Exception as error:
        raise FileError(f"{where}: not a pickle, or a damaged one ({type(error).__name__}: {error})") from error


class _RestrictedUnpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Finds allowed names only, and sets the state of arrays and data types only."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise FileError(
                f"refused: it names {module}.{name}; allowed are numpy arrays, numbers, texts and containers"
            ) from None

    def load_build(self) -> None:
        """The BUILD opcode: give the object on the stack its state."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state = stack.pop()
        target = stack[-1]
        if isinstance(target, np.dtype):
            _set_byte_order(target, state)
        elif isinstance(target, np.ndarray):
            target.__setstate__(_array_state(state))
        else:
            raise FileError(f"refused: it sets the state of a {type(target).__name__}")

    dispatch[pickle.BUILD[0]] = load_build


def _dtype(code: Any, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
        raise FileError(f"refused: data type {code!r} is not a plain one")
    # A copy, because its state is set in place: the pickle's memory may refer to it.
    return np.dtype(code, False, True)  # type: ignore[call-overload,no-any-return]


def _set_byte_order(dtype: np.dtype[Any], state: Any) -> None:
    """Take only the byte order from the state: fields and flags could make bytes pass for pointers."""
    if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
        raise FileError("refused: a data type with fields")
    order = state[1] if state[1] in ("<", ">", "|") else "="
    size, alignment = (dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1)
    dtype.__setstate__((3, order, None, None, None, size, alignment, dtype.flags))  # type: ignore[attr-defined]


def _array_state(state: Any) -> tuple[Any, ...]:
    """The state of an array, checked so that numpy reads only bytes (or a list, of objects) that are there."""
    version, shape, dtype, fortran, content = state
    if not isinstance(dtype, np.dtype) or not isinstance(content, list if dtype.hasobject else bytes):
        raise FileError("refused: an array whose content does not fit its data type")
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise FileError(f"refused: array of shape {shape}")
    if dtype.hasobject and int(np.prod(shape, dtype=object)) != len(content):
        raise FileError(f"refused: {len(content)} objects for an array of shape {shape}")
    return int(version), tuple(shape), dtype, bool(fortran), content


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not _NDARRAY or tuple(shape) != (0,):
        raise FileError("refused: an array that is not a plain one")
    return np.empty(0)


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(content, bytes):
        raise FileError("refused: a numpy scalar that is not a plain one")
    return np.frombuffer(content, dtype, 1)[0]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise FileError("refused: an array whose content does not fit its data type")
    return np.frombuffer(content, dtype).reshape(shape, order=order).copy()


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if codec != "latin1" or not isinstance(text, str):
        raise FileError(f"refused: codec {codec!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes empty bytes."""
    return b""


def _empty(kind: type) -> Callable[..., Any]:
    """Constructor from at most one list."""

    def make(items: Any = ()) -> Any:
        return kind(items if isinstance(items, (list, tuple)) else ())

    return make


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "set"): _empty(set),
    ("builtins", "frozenset"): _empty(frozenset),
    ("__builtin__", "set"): _empty(set),
    ("__builtin__", "frozenset"): _empty(frozenset),
    ("collections", "OrderedDict"): _empty(collections.OrderedDict),
}
