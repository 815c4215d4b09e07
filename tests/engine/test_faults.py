"""Frames that could not be read are counted and shown."""

import logging
import shutil

from bev.data import NuScenesDataset
from bev.engine.data import describe_faults


def test_skipped_frames_are_named(synthetic_root, tmp_path, caplog):
    root = tmp_path / "nuscenes"
    shutil.copytree(synthetic_root, root)
    broken = sorted((root / "samples" / "CAM_FRONT").iterdir())[0]
    broken.write_bytes(b"no picture")
    frames = NuScenesDataset(root, "v1.0-synthetic", "synthetic_train", on_error="skip")
    assert describe_faults(frames) is None
    with caplog.at_level(logging.WARNING):
        samples = [frames[i] for i in range(len(frames))]
    skipped = frames.faults()["skipped"]
    assert len(skipped) == 1 and skipped[0] not in [s.token for s in samples]
    assert describe_faults(frames) == f"unreadable files: 1 frame(s) skipped (first: {skipped[0]})"
    assert broken.name in caplog.text


def test_data_sets_without_files_have_no_faults():
    assert describe_faults([1, 2, 3]) is None
