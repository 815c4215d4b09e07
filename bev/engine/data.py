"""Data loaders from configuration: parts first, mmengine's key names, every draw a pure function of the step."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from bev.data import sampler as _samplers  # noqa: F401  (registers the samplers)
from bev.data import scene_stream as _scene_samplers  # noqa: F401
from bev.data.detection2d import PictureDataset
from bev.engine import distributed
from bev.registry import DATASETS, ConfigError, build_node, check_keys
from bev.structures import collate

KEYS = ("dataset", "batch_size", "num_workers", "prefetch_factor", "pin_memory", "persistent_workers", "sampler")


def build_dataloader(cfg: Mapping[str, Any], path: str, seed: int, train: bool) -> DataLoader[Any]:
    """One process's loader of batches.

    Args:
        cfg: ``dataset`` (a node or an object), ``batch_size`` a process, ``num_workers`` (default 0), ``sampler`` (a
            node; default EndlessSampler for training, EvalSampler else) and the options of torch's DataLoader.
        path: config key, e.g. ``"train_dataloader"``.
        seed: of the run.
        train: the default of ``sampler``.
    """
    if not isinstance(cfg, Mapping):
        raise ConfigError(f"config key '{path}' must be a dict, got {cfg!r:.80}")
    check_keys(cfg, KEYS, path)
    if "dataset" not in cfg:
        raise ConfigError(f"config key '{path}.dataset' is missing")
    dataset = cfg["dataset"]
    if isinstance(dataset, Mapping):
        dataset = build_node(dataset, DATASETS, path=f"{path}.dataset")
    workers = int(cfg.get("num_workers", 0))
    sampler = build_node(
        cfg.get("sampler") or {"type": "EndlessSampler" if train else "EvalSampler"},
        DATASETS,
        path=f"{path}.sampler",
        length=len(dataset),
        batch_size=int(cfg.get("batch_size", 1)),
        seed=seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    if hasattr(sampler, "use_scenes"):  # the samplers that walk through recordings
        sampler.use_scenes(dataset.scene_of_samples())
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=getattr(dataset, "collate", collate),  # data sets of other samples bring their own
        prefetch_factor=cfg.get("prefetch_factor", 2) if workers else None,
        persistent_workers=cfg.get("persistent_workers", True) if workers else False,
        pin_memory=cfg.get("pin_memory", torch.cuda.is_available()),
        worker_init_fn=_init_worker,
        # Its own generator: making an iterator must not advance the global one, or a resumed run would differ.
        generator=torch.Generator().manual_seed(seed),
    )


def picture_dataset(cfg: Mapping[str, Any], stage: str, **changes: Any) -> PictureDataset:
    """The pictures of ``<stage>_dataloader``, with some arguments changed.

    Raises:
        ConfigError: there are none in this configuration.
    """
    path = f"{stage}_dataloader.dataset"
    node = (cfg.get(f"{stage}_dataloader") or {}).get("dataset")
    dataset = build_node({**node, **changes}, DATASETS, path=path) if isinstance(node, Mapping) else node
    if not isinstance(dataset, PictureDataset):
        found = "is missing" if dataset is None else f"builds a {type(dataset).__name__}"
        raise ConfigError(f"config key '{path}' {found}, expected a PictureDataset")
    return dataset


def stream(loader: DataLoader[Any], first_batch: int) -> Iterator[Any]:
    """Batches of a training loader from micro-batch ``first_batch`` on."""
    loader.batch_sampler.start = first_batch  # type: ignore[union-attr]
    return iter(loader)


def _init_worker(worker: int) -> None:
    """One thread a worker; Ctrl-C is the main process's business."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)


def describe_faults(dataset: Any) -> str | None:
    """One line on the frames that a data set had to skip or blank so far; None where there are none.

    Data sets that read files have ``faults() -> {kind: [tokens]}``.
    """
    if not hasattr(dataset, "faults"):
        return None
    found = {kind: tokens for kind, tokens in dataset.faults().items() if tokens}
    parts = [f"{len(tokens)} frame(s) {kind} (first: {tokens[0]})" for kind, tokens in found.items()]
    return f"unreadable files: {', '.join(parts)}" if parts else None
