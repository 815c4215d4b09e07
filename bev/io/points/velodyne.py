"""Velodyne packet captures (``.pcap``) through velodyne-decoder (extra ``points``).

The library is kept: it has the calibration and firing times of every sensor. Ours is the check of what the packets say
about their sensor.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bev._optional import require
from bev.io.errors import FileError
from bev.io.points.columns import make_cloud, read_bytes, xyz_of_records
from bev.structures import PointCloud

Packet = tuple[float, bytes]

# Last byte of a packet by sensor (Velodyne's user manuals, "factory bytes"); an HDL-64E has none.
_PRODUCT = {
    **dict(HDL32E=0x21, VLP16=0x22, PuckLite=0x22, VLP32A=0x23, VLP32B=0x23, PuckHiRes=0x24, VLP32C=0x28),
    **dict(VLS128=0xA1, AlphaPrime=0xA1),
}
_US_PER_HOUR = 3_600_000_000
# A VLP-16 fires 12 blocks of 2 x 55.296 us in a packet, or half as many moments where it sends two returns of each.
_VLP16_PACKET_US = (1327.104, 663.552)
_UNITS = {"intensity": "0..255", "time": "s from the scan's time stamp", "column": "index", "return_type": "class"}


def read_velodyne_scans(path: Path, model: str | None = None) -> list[PointCloud]:
    """Turns of a sensor, one cloud each, frame ``"lidar"``.

    Fields: ``intensity``, ``time``, ``column`` (firing), ``ring`` (from the lowest laser up) and ``return_type``. The
    time stamps, of the capturing host and of the sensor's clock, are ``meta["velodyne"]`` (``host_s``, ``device_s``).

    Args:
        model: name of the sensor, e.g. ``"VLP16"``. Default: what the packets say, but for captures of a VLP-16 that
            call themselves HDL-32E, as early firmware does: their packets are 2.4 times as far apart as an HDL-32E's.

    Raises:
        FileError: no packet capture, no Velodyne data in it, or packets that cannot be decoded.
        ImportError: velodyne-decoder is not installed.
        ValueError: a model that there is not.
    """
    path = Path(path)
    vd = require("velodyne_decoder", extra="points")
    if model is not None and model not in vd.Model.__members__:
        raise ValueError(f"Velodyne model {model!r} is none of {', '.join(vd.Model.__members__)}")
    data = read_bytes(path)
    packets = _packets(vd, data, path)
    model = model or _misnamed(packets, path)
    if model in _PRODUCT:
        packets = [(stamp, packet[:-1] + bytes([_PRODUCT[model]])) for stamp, packet in packets]
    try:
        scans = _decode(vd, data, packets, model)
    except Exception as error:  # The decoder is C++ behind bindings: any of its checks is a fault of the file.
        raise FileError(f"{path}: the packets cannot be decoded: {error}") from error
    if not scans:
        raise FileError(f"{path}: no points in {len(packets)} packets")
    return [_cloud(stamp, records) for stamp, records in scans]


def _packets(vd: ModuleType, data: bytes, path: Path) -> list[Packet]:
    packets, cut = [], 0
    try:
        for stamp, payload in vd.util.iter_pcap(io.BytesIO(data)):
            if isinstance(payload, bytes) and len(payload) == vd.PACKET_SIZE:
                packets.append((float(stamp), payload))
            elif isinstance(payload, bytes) and payload[:2] == b"\xff\xee":
                cut += 1
    except Exception as error:  # dpkt raises errors of many kinds on packets that are not what they say.
        if not packets:
            raise FileError(f"{path}: not a packet capture: {type(error).__name__}: {error}") from error
        cut += 1
    if not packets:
        raise FileError(f"{path}: no Velodyne data packet of {vd.PACKET_SIZE} bytes in the capture")
    if cut:
        warnings.warn(f"{path}: {cut} damaged packets are left out", stacklevel=3)
    return packets


def _misnamed(packets: Sequence[Packet], path: Path) -> str | None:
    """``VLP16`` where packets that name an HDL-32E come as slowly as only a VLP-16 sends them."""
    if len(packets) < 3 or any(packet[-1] != _PRODUCT["HDL32E"] for _, packet in packets):
        return None
    stamps = np.array([int.from_bytes(packet[-6:-2], "little") for _, packet in packets])
    step_us = float(np.median(np.diff(stamps) % _US_PER_HOUR))
    if not any(abs(step_us - expected) < 0.02 * expected for expected in _VLP16_PACKET_US):
        return None
    warnings.warn(
        f"{path}: the packets name an HDL-32E but come every {step_us:.0f} us, as a VLP-16's do: read as VLP16 "
        "(model='HDL32E' overrides this)",
        stacklevel=3,
    )
    return "VLP16"


def _decode(vd: ModuleType, data: bytes, packets: Sequence[Packet], model: str | None) -> list[tuple[Any, np.ndarray]]:
    config = vd.Config()
    if model:
        config.model = vd.Model.__members__[model]
    if config.model is None or "HDL64E" in (model or ""):
        found, calibration = vd.hdl64e.detect_hdl64e(io.BytesIO(data))
        config.model = config.model or found
        config.calibration = config.calibration or calibration
    decoder, scans = vd.StreamDecoder(config), []
    for stamp, packet in packets:
        scans.append(decoder.decode(stamp, packet, True))
    scans.append(decoder.finish(True))
    return [(scan[0], scan[1]) for scan in scans if scan is not None and len(scan[1])]


def _cloud(stamp: Any, records: np.ndarray) -> PointCloud:
    names = [name for name in records.dtype.names or () if name not in ("x", "y", "z")]
    times = {"host_s": float(stamp.host), "device_s": float(stamp.device)}
    fields = {name: records[name].copy() for name in names}
    return make_cloud(xyz_of_records(records, ("x", "y", "z")), fields, units=_UNITS, meta={"velodyne": times})


def read_velodyne(path: Path, model: str | None = None) -> PointCloud:
    """All turns of a capture after each other; ``scan`` (int32) says which one a point is of.

    ``meta["velodyne"]`` has the lists of the turns' time stamps. Arguments and errors: see `read_velodyne_scans`.
    """
    import torch

    scans = read_velodyne_scans(path, model)
    names = scans[0].fields
    fields = {name: torch.cat([scan.fields[name] for scan in scans]) for name in names}
    counts = torch.tensor([len(scan) for scan in scans])
    fields["scan"] = torch.repeat_interleave(torch.arange(len(scans), dtype=torch.int32), counts)
    times = {key: [scan.meta["velodyne"][key] for scan in scans] for key in ("host_s", "device_s")}
    xyz = torch.cat([scan.xyz_m for scan in scans])
    return PointCloud(xyz, fields, "lidar", {**scans[0].units, "scan": "index"}, None, {"velodyne": times})
