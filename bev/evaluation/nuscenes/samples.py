"""Which samples of a submission are scored, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.splits import official_scenes
from bev.data.nuscenes.tables import SampleRow, read_table
from bev.io import FileError
from bev.registry import suggest


def wanted_samples(
    results_path: str | Path,
    predicted: Sequence[str],
    index: FrameIndex,
    folder: Path,
    split: str | Sequence[str],
    tokens: Sequence[str] | None = None,
) -> list[str]:
    """Tokens to score, in the order in which the devkit reads them: among equal scores it is the order that decides.

    For an official split that is the order of the results file, which must hold these samples and no others; for other
    splits and for lists of scenes it is the order of the table ``sample``, and other samples in the file are left out.

    Args:
        results_path: for the error messages.
        predicted: samples of the results file, in its order.
        index: of the data set.
        folder: ``<root>/<version>``.
        split: as for ``NuScenesDataset``.
        tokens: score these samples of the split only; other samples in the file are left out.

    Raises:
        FileError: nothing to score, a sample is missing, unknown, or not of the split.
    """
    chosen = {index.token[int(i)] for i in frames_of_split(index, folder, split)}
    if tokens is not None:
        unknown = next((token for token in tokens if token not in chosen), None)
        if unknown is not None:
            raise FileError(f"sample {unknown} is not in split {split!r} of {folder}")
        chosen &= set(tokens)
    if not chosen:
        raise FileError(f"{results_path}: there is no sample of split {split!r} to score")
    if not len(index.box_label):
        raise FileError(f"{folder} has no annotations to score against")
    official = isinstance(split, str) and _is_official(split)
    check_samples(results_path, predicted, chosen, index.frame_of, exact=official and tokens is None)
    order = predicted if official else [row.token for row in read_table(folder, "sample", SampleRow)]
    return [token for token in order if token in chosen]


def _is_official(split: str) -> bool:
    try:
        official_scenes(split)
    except KeyError:
        return False
    return True


def check_samples(
    path: str | Path,
    predicted: Collection[str],
    wanted: Collection[str],
    known: Collection[str],
    exact: bool = False,
) -> None:
    """Raise FileError where a wanted sample is missing, or one is not in the data set or (``exact``) not wanted."""
    present = set(predicted)
    missing = [token for token in known if token in wanted and token not in present]
    if missing:
        raise FileError(
            f"{path}: {len(missing)} of the {len(wanted)} samples of the split are missing, the first is {missing[0]} "
            "(a sample without boxes needs an empty list)"
        )
    unknown = [token for token in predicted if token not in known]
    if unknown:
        raise FileError(f"{path}: sample {unknown[0]} is not in the data set")
    others = [token for token in predicted if exact and token not in wanted]
    if others:
        raise FileError(
            f"{path}: {len(others)} samples are not in the split, the first is {others[0]}; nuScenes scores a file of "
            "exactly one split (name scenes or tokens to score a part of a file)"
        )


def chosen_tokens(
    index: FrameIndex,
    folder: Path,
    split: str | Sequence[str],
    scenes: Sequence[str] | None = None,
    tokens_file: str | Path | None = None,
) -> list[str] | None:
    """A part of a split for ``wanted_samples``.

    Args:
        index, folder, split: as for :func:`wanted_samples`.
        scenes: names of scenes of the split.
        tokens_file: text file with one sample token a line.

    Returns:
        The tokens, or None where the whole split is meant.

    Raises:
        FileError: a scene that the split does not have, or a file that cannot be read or is empty.
    """
    frames = [int(i) for i in frames_of_split(index, folder, split)]
    if scenes is not None:
        available = {index.scenes[index.scene[i]] for i in frames}
        wrong = next((name for name in scenes if name not in available), None)
        if wrong is not None:
            raise FileError(f"{folder}: split {split!r} has no scene {wrong!r}{suggest(wrong, available)}")
        frames = [i for i in frames if index.scenes[index.scene[i]] in scenes]
    chosen = [index.token[i] for i in frames]
    if tokens_file is None:
        return None if scenes is None else chosen
    try:
        listed = Path(tokens_file).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{tokens_file}: cannot read the tokens: {error}") from error
    if not listed:
        raise FileError(f"{tokens_file}: holds no token")
    return listed if scenes is None else [token for token in listed if token in set(chosen)]
