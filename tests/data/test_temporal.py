"""Earlier frames, streams of recordings, sweeps: what temporal models and depth supervision read."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bev.data import NuScenesDataset
from bev.data.draw import Draw
from bev.data.history import chosen_history
from bev.data.sampler import EndlessSampler
from bev.data.scene_stream import SceneEvalSampler, SceneStreamSampler
from bev.engine.data import build_dataloader, stream
from bev.registry import DATASETS
from bev.structures import collate
from tests.data.tiny_nuscenes import VERSION

IMAGE = dict(type="ImageTransform", size=(24, 48))


def build(root: Path, version: str = VERSION, **options: Any) -> NuScenesDataset:
    split = dict(split=["scene-a", "scene-b", "scene-c"]) if version == VERSION else {}
    cfg = dict(type="NuScenesDataset", root=str(root), version=version, image=IMAGE)
    return DATASETS.build({**cfg, **split, **options})


def test_a_queue_is_ordered_random_and_stays_in_its_scene() -> None:
    previous = np.array([-1, 0, 1, 2, 3, -1, 5, 6])
    rng = np.random.default_rng(0)
    seen = {tuple(chosen_history(previous, 4, 2, 3, rng)) for _ in range(60)}
    assert seen == {(1, 2), (1, 3), (2, 3)}
    assert chosen_history(previous, 4, 2, None, rng) == [2, 3]
    assert {tuple(chosen_history(previous, 6, 2, 3, rng)) for _ in range(40)} == {(5, 5)}
    assert chosen_history(previous, 5, 3, None, rng) == [5, 5, 5]
    assert chosen_history(previous, 4, 0, None, rng) == []


def test_samples_with_a_queue(tiny_root: Path) -> None:
    dataset = build(tiny_root, history=2, history_pool=3)
    token = dataset.tokens
    queues = {tuple(p.token for p in dataset[Draw(3, (s,))].previous) for s in range(25)}
    assert queues == {(token[0], token[1]), (token[0], token[2]), (token[1], token[2])}
    batch = collate([dataset[3], dataset[6]])
    assert len(batch.previous) == 2 and all(len(past) == 2 for past in batch.previous)
    for past in batch.previous:
        assert past.scenes == batch.scenes and (past.timestamp_us < batch.timestamp_us).all()
    for bad in (dict(history=3, history_pool=2), dict(history=-1), dict(sweeps=2)):
        with pytest.raises(ValueError, match="history|sweeps"):
            build(tiny_root, **bad)


def test_adjacent_frames_align_through_the_poses(synthetic_root: Path) -> None:
    """BEVDet4D: what stands still in the earlier frame is where it is now, once moved by the poses."""
    dataset = build(synthetic_root, "v1.0-synthetic", split="synthetic_train", history=1, frame="ego")
    compared = 0
    for i in (2, 4, 8):
        now, past = dataset[i], dataset[i].previous[0]
        now_from_past = torch.linalg.inv(now.global_from_ref) @ past.global_from_ref
        moved = past.boxes.transform(now_from_past, "ego")
        pairs = (now.boxes.track_id[:, None] == moved.track_id[None]).nonzero()
        still = [(a, b) for a, b in pairs.tolist() if float(now.boxes.velocity_mps[a].norm()) < 0.05]
        for a, b in still:
            torch.testing.assert_close(now.boxes.center_m[a], moved.center_m[b], atol=0.05, rtol=0)
        compared += len(still)
    assert compared > 10


SCENES = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]


def _stream(count: int, start: int = 0, **options: Any) -> list[list[Draw]]:
    sampler = SceneStreamSampler(**{"length": len(SCENES), "batch_size": 2, "seed": 3, **options})
    sampler.use_scenes(SCENES)
    sampler.start = start
    return list(islice(sampler, count))


@pytest.mark.parametrize(("clip_frames", "turns"), [(None, 1), (2, 1), (None, 3), (2, 2)])
def test_rows_walk_through_scenes_in_order(clip_frames: int | None, turns: int) -> None:
    batches = _stream(60, clip_frames=clip_frames, turns=turns)
    for row in (row for turn in range(turns) for row in zip(*batches[turn::turns])):
        for before, now in zip(row, row[1:]):
            continues = now.index == before.index + 1 and SCENES[now.index] == SCENES[before.index]
            # A recording may follow itself; it is then marked as a start and begins at its first frame.
            assert now.starts or continues
            assert now.starts or now.seed == before.seed
            if now.starts and clip_frames is None:
                assert now.index == SCENES.index(SCENES[now.index])
    assert all(draw.starts for batch in batches[:turns] for draw in batch)
    assert len({d.batch_seed for b in batches for d in b}) == 60
    # Every epoch reads every frame once.
    seen = [(d.seed[1], d.index) for b in batches for d in b]
    assert len(set(seen)) == len(seen)
    for epoch in range(max(e for e, _ in seen) - 1):
        assert sorted(i for e, i in seen if e == epoch) == list(range(len(SCENES)))


@pytest.mark.parametrize(("world_size", "turns"), [(2, 1), (3, 1), (2, 3)])
def test_processes_together_read_the_large_batch_and_resume(world_size: int, turns: int) -> None:
    large = _stream(20, batch_size=2 * world_size, turns=turns)
    ranks = [_stream(20, rank=r, world_size=world_size, turns=turns) for r in range(world_size)]
    assert large == [sum((rank[step] for rank in ranks), []) for step in range(20)]
    assert _stream(12, start=8, rank=1, world_size=world_size, turns=turns) == ranks[1][8:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_evaluation_reads_everything_once_and_rows_stay(world_size: int, batch_size: int) -> None:
    everything = []
    for rank in range(world_size):
        sampler = SceneEvalSampler(len(SCENES), batch_size, rank=rank, world_size=world_size)
        sampler.use_scenes(SCENES)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for before, now in zip(batches, batches[1:]):
            assert len(now) <= len(before)
            for old, new in zip(before, now):
                assert new.starts != (new.index == old.index + 1 and SCENES[new.index] == SCENES[old.index])
        everything += [d.index for b in batches for d in b]
    assert sorted(everything) == list(range(len(SCENES)))


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="13 frames, but scenes of .4,"):
        SceneStreamSampler(13, 1).use_scenes([0, 0, 1, 1])
    with pytest.raises(ValueError, match="needs a data set whose frames know their scene"):
        next(iter(SceneStreamSampler(13, 1)))
    with pytest.raises(ValueError, match="clip_frames"):
        SceneStreamSampler(13, 1, clip_frames=0)
    with pytest.raises(ValueError, match="turns"):
        SceneStreamSampler(13, 1, turns=0)
    with pytest.raises(ValueError, match="data set of 0"):
        SceneEvalSampler(0, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_carry_the_flag(tiny_root: Path, workers: int) -> None:
    cfg = dict(dataset=build(tiny_root), batch_size=2, num_workers=workers, sampler=dict(type="SceneStreamSampler"))
    loader = build_dataloader(cfg, "train_dataloader", seed=1, train=True)
    past: Any = None
    for batch in islice(stream(loader, 0), 7):
        assert batch.starts is not None and batch.starts.dtype == torch.bool
        for row in range(2):
            follows = past is not None and batch.scenes[row] == past.scenes[row]
            follows = follows and bool(batch.timestamp_us[row] > past.timestamp_us[row])
            assert bool(batch.starts[row]) != follows
        past = batch
    other = build_dataloader(dict(cfg, sampler=dict(type="SceneEvalSampler")), "val_dataloader", seed=1, train=False)
    assert sorted(t for batch in other for t in batch.tokens) == sorted(cfg["dataset"].tokens)


def test_shuffled_samples_start_anew_and_balanced_ones_cannot_stream(tiny_root: Path) -> None:
    dataset = build(tiny_root)
    shuffled = next(iter(EndlessSampler(len(dataset), 2)))
    assert collate([dataset[draw] for draw in shuffled]).starts.tolist() == [True, True]
    assert collate([dataset[1], dataset[2]]).starts is None  # read one by one: nobody has said
    with pytest.raises(ValueError, match="not in order of time"):
        build(tiny_root, class_balance=True).scene_of_samples()


def test_a_stand_in_from_another_scene_starts_anew(own_root: Path) -> None:
    dataset = build(own_root, on_error="skip")
    last = [i for i, scene in enumerate(dataset.scene_of_samples()) if scene == 0][-1]
    (own_root / dataset.index.camera_file[int(dataset.frames[last]) * 6]).unlink()
    sample = dataset[Draw(last, (1,), starts=False)]
    assert sample.scene == "scene-b" and sample.starts
    assert not dataset[Draw(last - 1, (1,), starts=False)].starts


def test_balanced_frames_hold_every_class_alike(synthetic_root: Path) -> None:
    plain = build(synthetic_root, "v1.0-synthetic", split="synthetic_train")
    balanced = build(synthetic_root, "v1.0-synthetic", split="synthetic_train", class_balance=True)
    index = plain.index
    holding = []
    for frame in plain.frames:
        rows = index.boxes_of(int(frame))
        seen = (index.box_num_lidar_pts + index.box_num_radar_pts)[rows] > 0
        holding.append(set(index.box_label[rows][seen].tolist()) - {-1})
    count = np.array([sum(c in held for held in holding) for c in range(10)])
    share = int(count.sum() / 10)
    assert len(balanced) == share * int((count > 0).sum())
    frame_set = {int(f): held for f, held in zip(plain.frames, holding)}
    for k, c in enumerate(np.flatnonzero(count)):
        assert all(c in frame_set[int(f)] for f in balanced.frames[k * share : (k + 1) * share])
    again = build(synthetic_root, "v1.0-synthetic", split="synthetic_train", class_balance=True)
    np.testing.assert_array_equal(balanced.frames, again.frames)


def test_all_of_a_batch_have_one_size(tiny_root: Path) -> None:
    image = dict(type="ResolutionBuckets", transforms=[IMAGE, dict(type="ImageTransform", size=(32, 64))])
    dataset = build(tiny_root, image=image)
    loader = DataLoader(dataset, batch_sampler=EndlessSampler(len(dataset), 3, seed=2), collate_fn=collate)
    sizes = [batch.rig.image_size_px for batch in islice(loader, 12)]
    assert set(sizes) == {(24, 48), (32, 64)}
    with pytest.raises(ValueError, match="cache='memory'"):
        build(tiny_root, image=image, cache="memory")


def test_sweeps_are_the_devkits(synthetic_root: Path) -> None:
    pytest.importorskip("nuscenes")
    from nuscenes.utils.data_classes import LidarPointCloud

    from tests.data.devkit_referee import open_devkit

    devkit = open_devkit(synthetic_root, "v1.0-synthetic")
    dataset = build(synthetic_root, "v1.0-synthetic", split="synthetic_train", load_points=True, sweeps=3)
    for i in (0, 1, 4, 8):
        sample = dataset[i]
        record = devkit.get("sample", sample.token)
        channels = ("LIDAR_TOP", "LIDAR_TOP")
        cloud, times = LidarPointCloud.from_file_multisweep(devkit, record, *channels, 4, min_distance=1.0)
        ours = sample.points
        key = len(build(synthetic_root, "v1.0-synthetic", split="synthetic_train", load_points=True)[i].points)
        # The devkit leaves out what is near the vehicle in the key frame too.
        near = (ours.xyz_m[:key, :2].abs() < 1).all(1)
        kept = torch.cat([~near, torch.ones(len(ours) - key, dtype=torch.bool)])
        assert int(kept.sum()) == cloud.points.shape[1]
        np.testing.assert_allclose(ours.xyz_m[kept].numpy().T, cloud.points[:3], atol=2e-3)
        np.testing.assert_array_equal(ours.fields["intensity"][kept].numpy(), cloud.points[3])
        np.testing.assert_allclose(ours.fields["time_s"][kept].numpy(), times[0], atol=1e-6)
        assert (len(ours) > 1.5 * key) == (i not in (0,)) and float(ours.fields["time_s"].max()) < 1.6


def test_depth_of_sweeps_is_the_nearest_of_each_cell(synthetic_root: Path) -> None:
    from bev.geometry.projection import in_image, project
    from bev.models.losses.depth import lidar_depth_targets

    options = dict(split="synthetic_train", load_points=True)
    few, many = (build(synthetic_root, "v1.0-synthetic", sweeps=n, **options)[4] for n in (0, 3))
    depth = [lidar_depth_targets([s.points], collate([s]).rig, 2)[0] for s in (few, many)]
    assert (depth[1] > 0).sum() > (depth[0] > 0).sum() and depth[1][depth[0] > 0].mean() < depth[0][depth[0] > 0].mean()
    pixels, distance = project(many.points.xyz_m, many.rig.img_from_ref)
    seen = in_image(pixels, distance, many.rig.image_size_px)
    for camera, row, column in (depth[1] > 0).nonzero()[::7].tolist():
        u, v = (pixels[camera] / 2).long().unbind(-1)
        inside = seen[camera] & (u == column) & (v == row)
        assert float(depth[1][camera, row, column]) == float(distance[camera][inside].min())
