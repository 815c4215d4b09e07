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
    return {name: max(-low, high) for name, (low, high) in extremes(network, frames, tensors).items()}


def extremes(
    network: Network, frames: Frames, tensors: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of float tensors over all frames, 0 among them; infinite where one is not finite.

    Arguments and errors as of :func:`magnitudes`.
    """
    wanted = [t for t in network.producer if network.is_float(t)] if tensors is None else list(tensors)
    if not wanted:
        return {}
    onnx = require("onnx", extra="export")
    probe = onnx.ModelProto()
    probe.CopyFrom(network.model)
    names: dict[str, tuple[str, str]] = {}
    for index, tensor in enumerate(wanted):
        for kind in ("ReduceMin", "ReduceMax"):
            out = f"{kind}_of_{index}"
            probe.graph.node.append(onnx.helper.make_node(kind, [tensor], [out], name=f"measure_{out}", keepdims=0))
            names[out] = tensor, kind
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, []) for name in names)
    ready, found, count = session(probe), dict.fromkeys(wanted, (0.0, 0.0)), 0
    for frame in frames:
        for name, value in run(ready, frame).items():
            tensor, kind = names[name]
            low, high = found[tensor]
            # An extreme of nothing is infinite the other way round; a NaN counts as no number.
            if kind == "ReduceMin":
                low = -np.inf if np.isnan(value) else min(low, float(value))
            else:
                high = np.inf if np.isnan(value) else max(high, float(value))
            found[tensor] = low, high
        count += 1
    if not count:
        raise ValueError("there are no frames to calibrate with")
    return found


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
    largest = magnitudes(network, frames, tensors)
    return _clipped(network, frames, largest, dict.fromkeys(largest, LEVELS), method, percentile)


def ranges(
    network: Network, frames: Frames, tensors: Sequence[str], method: Method = "minmax", percentile: float = 99.99
) -> dict[str, tuple[float, float]]:
    """Values that the smallest and the largest of eight unsigned bits stand for, by tensor; 0 lies between.

    Magnitudes are clipped as in :func:`thresholds`, whose arguments and errors these are; the side of zero that a
    tensor does not reach gets no bits.
    """
    seen = extremes(network, frames, tensors)
    largest = {tensor: max(-low, high) for tensor, (low, high) in seen.items()}
    # Steps between zero and the largest magnitude: all of them where the tensor has one sign.
    spans = {tensor: high - low for tensor, (low, high) in seen.items()}
    steps = {t: round(255 * largest[t] / span) if 0 < span < np.inf else LEVELS for t, span in spans.items()}
    limits = _clipped(network, frames, largest, steps, method, percentile)
    return {tensor: (max(low, -limits[tensor]), min(high, limits[tensor])) for tensor, (low, high) in seen.items()}


def _clipped(
    network: Network,
    frames: Frames,
    largest: Mapping[str, float],
    steps: Mapping[str, int],
    method: Method,
    percentile: float,
) -> dict[str, float]:
    """Clipped magnitudes; see :func:`thresholds`. ``steps``: integers between 0 and the magnitude, by tensor."""
    if method not in METHODS:
        raise ValueError(f"calibration method {method!r}; known: {', '.join(METHODS)}")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile} is not within 0..100")
    broken = [tensor for tensor, size in largest.items() if not np.isfinite(size)]
    if broken:
        raise ValueError(f"tensors {', '.join(broken[:3])} are not finite on the calibration frames")
    live = {tensor: size for tensor, size in largest.items() if size > 0}
    if method == "minmax" or not live:
        return dict(largest)
    choose: dict[str, Callable[[np.ndarray, int], float]] = {
        "percentile": lambda counts, _: _percentile(counts, percentile),
        "entropy": _entropy,
        "mse": threshold_of_least_error,
    }
    counts = _histograms(network, frames, live)
    return {
        t: size * choose[method](counts[t], steps[t]) / BINS if t in counts else 0.0 for t, size in largest.items()
    }


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


def _entropy(counts: np.ndarray, levels: int = LEVELS) -> float:
    """Number of bins below the threshold of least divergence. The bin of zeros is left out: rectified maps are full of
    exact zeros, which every scale represents."""
    full = counts.astype(np.float64)
    full[0] = 0
    if not full.any():
        return float(BINS)
    best, found = np.inf, float(BINS)
    for stop in range(levels + 1, BINS + 1, 16):
        reference = full[:stop].copy()
        reference[-1] += full[stop:].sum()
        rounded = _rounded(full[:stop], levels)
        divergence = _divergence(reference, rounded)
        if divergence < best:
            best, found = divergence, float(stop)
    return found


def _rounded(counts: np.ndarray, levels: int) -> np.ndarray:
    """Counts after rounding to ``levels`` steps: a step's share spread over its bins that are not empty."""
    step = (np.arange(len(counts)) * levels // len(counts)).astype(np.int64)
    used = counts > 0
    total, bins = np.bincount(step, counts, levels), np.bincount(step, used, levels)
    return np.where(used, (total / np.maximum(bins, 1))[step], 0.0)


def _divergence(reference: np.ndarray, given: np.ndarray) -> float:
    p, q = reference / reference.sum(), given / max(given.sum(), 1e-30)
    # What is clipped into an empty last bin has no counterpart: smoothed, not infinite.
    q = np.where((p > 0) & (q == 0), 1e-9, q)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())
