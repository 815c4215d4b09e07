"""What values a graph's tensors take on frames of a data set: the scales of eight-bit numbers, overflows of sixteen.

Two passes of bounded memory: the first finds every tensor's extremes inside the graph, the second counts magnitudes
between 0 and the largest in equal bins. A histogram whose width is known cannot grow with what the frames bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from bev._optional import require
from bev.deploy.quantize.network import Network
from bev.ops.fake_quantize import LEVELS, threshold_of_least_error

Arrays = Mapping[str, np.ndarray]
Frames = Iterable[Arrays]  # gives the same frames every time it is gone through
Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[str, ...] = get_args(Method)
BINS = 2048


def session(model: Any, optimise: bool = True, threads: int = 1) -> Any:
    """onnxruntime's session of a ``ModelProto`` on the CPU."""
    runtime = require("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(ready: Any, frame: Arrays, outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Outputs of a session by name; inputs that the graph does not read are left out."""
    names = [value.name for value in ready.get_outputs()] if outputs is None else list(outputs)
    kept = {value.name for value in ready.get_inputs()}
    return dict(zip(names, ready.run(names, {name: value for name, value in frame.items() if name in kept})))


def magnitudes(network: Network, frames: Frames, tensors: Sequence[str] | None = None) -> dict[str, float]:
    """Largest ``|value|`` of float tensors over all frames (infinite where one is not finite).

    Args:
        network: graph.
        frames: inputs by name.
        tensors: which; None for all that nodes give.

    Raises:
        ValueError: there is no frame.
    """
    wanted = [t for t in network.producer if network.is_float(t)] if tensors is None else list(tensors)
    onnx = require("onnx", extra="export")
    probe = onnx.ModelProto()
    probe.CopyFrom(network.model)
    names = {}
    for index, tensor in enumerate(wanted):
        size, whole = f"size_of_{index}", f"flat_{index}"
        magnitude = onnx.helper.make_node("Abs", [tensor], [size], name=f"measure_{size}")
        maximum = onnx.helper.make_node("ReduceMax", [size], [whole], name=f"measure_{whole}", keepdims=0)
        probe.graph.node.extend([magnitude, maximum])
        names[whole] = tensor
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, []) for name in names)
    ready, largest, count = session(probe), dict.fromkeys(wanted, 0.0), 0
    for frame in frames:
        for name, value in run(ready, frame).items():
            # An empty tensor's maximum is -inf; a NaN counts as no number.
            most = float(value)
            most = 0.0 if most == -np.inf else np.inf if np.isnan(most) else most
            largest[names[name]] = max(largest[names[name]], most)
        count += 1
    if not count:
        raise ValueError("there are no frames to calibrate with")
    return largest


def thresholds(
    network: Network, frames: Frames, tensors: Sequence[str], method: Method = "minmax", percentile: float = 99.99
) -> dict[str, float]:
    """Magnitude that the largest int8 stands for, by tensor.

    Args:
        network: graph in float32.
        frames: inputs by name, the same in every pass.
        tensors: float tensors.
        method: ``minmax``: the largest magnitude seen. ``percentile``: what that share of the values stays below.
            ``entropy``: least divergence of the clipped and rounded distribution from the true one (TensorRT's
            calibration, S. Migacz, "8-bit inference with TensorRT", GTC 2017). ``mse``: least mean squared error.
        percentile: of ``percentile``, 0..100.

    Raises:
        ValueError: no frames, an unknown method, a percentile outside its range, or a tensor that is not finite.
    """
    if method not in METHODS:
        raise ValueError(f"calibration method {method!r}; known: {', '.join(METHODS)}")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile} is not within 0..100")
    largest = magnitudes(network, frames, tensors)
    broken = [tensor for tensor, size in largest.items() if not np.isfinite(size)]
    if broken:
        raise ValueError(f"tensors {', '.join(broken[:3])} are not finite on the calibration frames")
    live = {tensor: size for tensor, size in largest.items() if size > 0}
    if method == "minmax" or not live:
        return largest
    choose: dict[str, Callable[[np.ndarray], float]] = {
        "percentile": lambda counts: _percentile(counts, percentile),
        "entropy": _entropy,
        "mse": threshold_of_least_error,
    }
    counts = _histograms(network, frames, live)
    return {t: size * choose[method](counts[t]) / BINS if t in counts else 0.0 for t, size in largest.items()}


def _histograms(network: Network, frames: Frames, largest: Mapping[str, float]) -> dict[str, np.ndarray]:
    onnx = require("onnx", extra="export")
    probe = onnx.ModelProto()
    probe.CopyFrom(network.model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in largest)
    ready = session(probe)
    counts = {tensor: np.zeros(BINS, np.int64) for tensor in largest}
    for frame in frames:
        for tensor, value in run(ready, frame).items():
            bins = np.minimum(np.abs(value).ravel() * (BINS / largest[tensor]), BINS - 1).astype(np.int64)
            counts[tensor] += np.bincount(bins, minlength=BINS)
    return counts


def _percentile(counts: np.ndarray, percentile: float) -> float:
    share = np.cumsum(counts) / counts.sum()
    return float(np.searchsorted(share, percentile / 100) + 1)


def _entropy(counts: np.ndarray) -> float:
    """Number of bins below the threshold of least divergence. The bin of zeros is left out: rectified maps are full of
    exact zeros, which every scale represents."""
    full = counts.astype(np.float64)
    full[0] = 0
    if not full.any():
        return float(BINS)
    best, found = np.inf, float(BINS)
    for stop in range(LEVELS + 1, BINS + 1, 16):
        reference = full[:stop].copy()
        reference[-1] += full[stop:].sum()
        rounded = _rounded(full[:stop])
        divergence = _divergence(reference, rounded)
        if divergence < best:
            best, found = divergence, float(stop)
    return found


def _rounded(counts: np.ndarray) -> np.ndarray:
    """Counts after rounding to ``LEVELS`` steps: a step's share spread over its bins that are not empty."""
    step = (np.arange(len(counts)) * LEVELS // len(counts)).astype(np.int64)
    used = counts > 0
    total, bins = np.bincount(step, counts, LEVELS), np.bincount(step, used, LEVELS)
    return np.where(used, (total / np.maximum(bins, 1))[step], 0.0)


def _divergence(reference: np.ndarray, given: np.ndarray) -> float:
    p, q = reference / reference.sum(), given / max(given.sum(), 1e-30)
    # What is clipped into an empty last bin has no counterpart: smoothed, not infinite.
    q = np.where((p > 0) & (q == 0), 1e-9, q)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())
