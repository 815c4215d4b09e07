"""Which scenes belong to which split: the official ones by number, others from ``<root>/<version>/splits.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bev.io import FileError
from bev.io.json_files import write_json
from bev.registry import suggest

# Numbers of the scenes, as published with the data set (the devkit's ``utils/splits.py``).
_OFFICIAL = {
    "train": """1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 202-204
        206-214 218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 461-465 467-469
        471-472 474-480 499-502 504-515 517-518 525-539 541-546 566 568 570-578 580 582-600 639-679 681 683-689
        695-698 700-701 703-719 726-728 730-731 733-741 744 746-747 749-752 757-765 767-769 786-787 789-792 803-806
        808-813 815-817 819-822 847-856 858 860-866 868-873 875-878 880 882-903 945 947 949 952-953 955-961 975-984
        988-992 994-1025 1044-1058 1074-1102 1104-1110""",
    "val": """3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771
        775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073""",
    "test": """77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 827-831
        833-842 844-846 932-933 935-943 1026-1043""",
    "mini_train": "61 553 655 757 796 1077 1094 1100",
    "mini_val": "103 916",
    "train_detect": """1-2 41-76 161-168 170-176 190-196 199-200 202-204 206-214 254-264 283-306 315-318 321 323-324
        347-375 382 420-439 457-459 461-465 467-469 471-472 474-480 566 568 570-578 580 582-583 665-679 681 683-689
        739-741 744 746-747 749-752 757-765 767-769 868-873 875-878 880 882-903 945 947 949 952-953 955-961 975-984
        988-991 1011-1025 1074-1102 1104-1105""",
    "train_track": """4-11 19-34 120-135 138-139 149-152 154-155 157-160 177-185 187-188 218-220 222 224-253 328
        376-381 383-386 388-403 405-408 410-419 440-456 499-502 504-515 517-518 525-539 541-546 584-600 639-664
        695-698 700-701 703-719 726-728 730-731 733-738 786-787 789-792 803-806 808-813 815-817 819-822 847-856 858
        860-866 992 994-1010 1044-1058 1106-1110""",
}


def official_scenes(split: str) -> list[str]:
    """Scene names of an official split; raises KeyError for another name."""
    names = []
    for part in _OFFICIAL[split].split():
        first, _, last = part.partition("-")
        names += [f"scene-{number:04d}" for number in range(int(first), int(last or first) + 1)]
    return names


def scenes_of_split(folder: Path, split: str | Sequence[str], available: Sequence[str]) -> list[str]:
    """Scenes to use.

    Args:
        folder: ``<root>/<version>``.
        split: an official name, a name in ``splits.json``, or the scene names themselves.
        available: scenes that the tables have.

    Raises:
        FileError: an unknown split or scene, or a split none of whose scenes are in the tables.
    """
    if not isinstance(split, str):
        unknown = [name for name in split if name not in set(available)]
        if unknown:
            raise FileError(f"{folder}: there is no scene {unknown[0]!r}{suggest(unknown[0], available)}")
        return list(split)
    wanted = set(official_scenes(split) if split in _OFFICIAL else _custom_scenes(folder, split))
    # An official split may be there in part (a few of the ten blobs of trainval): use what is there.
    found = [name for name in available if name in wanted]
    if not found:
        fitting = [name for name in _OFFICIAL if set(official_scenes(name)) & set(available)] + _custom_names(folder)
        raise FileError(
            f"{folder}: none of its {len(available)} scenes is in split {split!r}; splits with scenes here: {fitting}"
        )
    return found


def splits_with_scenes(folder: Path, available: Sequence[str]) -> dict[str, int]:
    """Official and custom splits that have scenes here, and how many."""
    scenes = {name: official_scenes(name) for name in _OFFICIAL} | _custom_splits(folder)
    counts = {name: len(set(members) & set(available)) for name, members in scenes.items()}
    return {name: count for name, count in counts.items() if count}


def add_custom_splits(folder: Path, source: Path, available: Sequence[str]) -> None:
    """Add the splits of a file ``{name: [scene names]}`` to ``<folder>/splits.json``, where the devkit looks too.

    Splits of the same name are replaced, others stay.

    Raises:
        FileError: not such a file, a name of an official split, a scene that the tables do not have, or a folder that
            cannot be written.
    """
    if not source.exists():
        raise FileError(f"{source}: there is no such file of splits")
    added = _read_splits(source)
    for name, scenes in added.items():
        if name in _OFFICIAL:
            raise FileError(f"{source}: {name!r} is an official split; give it another name")
        unknown = [scene for scene in scenes if scene not in set(available)]
        if unknown or not scenes:
            problem = f"no scene {unknown[0]!r}{suggest(unknown[0], available)}" if unknown else "an empty list"
            raise FileError(f"{source}: split {name!r}: {problem}")
    try:
        write_json(folder / "splits.json", {**_custom_splits(folder), **added}, indent=1)
    except OSError as error:
        raise FileError(f"{folder / 'splits.json'}: cannot write the splits: {error.strerror or error}") from error


def _custom_splits(folder: Path) -> dict[str, list[str]]:
    path = folder / "splits.json"
    return _read_splits(path) if path.exists() else {}


def _read_splits(path: Path) -> dict[str, list[str]]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.MsgspecError) as error:
        raise FileError(f"{path}: expected an object of lists of scene names: {error}") from error


def _custom_names(folder: Path) -> list[str]:
    return list(_custom_splits(folder))


def _custom_scenes(folder: Path, split: str) -> list[str]:
    custom = _custom_splits(folder)
    if split not in custom:
        hint = suggest(split, [*_OFFICIAL, *custom])
        raise FileError(f"split {split!r} is neither official nor in {folder / 'splits.json'}{hint}")
    return custom[split]
