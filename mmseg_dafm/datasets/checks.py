"""Checks of data folders and label files, made while a data set is built and before any training time is spent."""

import os.path as osp
from collections.abc import Iterable, Sequence

import mmcv
import mmengine.fileio as fileio
import numpy as np


def check_folder(path: str, layout: str, data_set: str) -> None:
    """Refuse a folder that does not exist.

    Args:
        path: the folder on the local disk.
        layout: the expected layout, e.g. ``'img_dir/<sequence>/*.jpg'``.
        data_set: the name that the message gives to the data set.

    Raises:
        ValueError: the folder is missing; the sentence names folder, layout and remedy.
    """
    if not osp.isdir(path):
        raise ValueError(
            f'{data_set}: the folder {path} does not exist (expected layout: {layout}); '
            f"put the data there or point the data set's data_root and data_prefix to where it lies."
        )


def check_split(
    split: str, splits: Sequence[str], data_set: str, unlabelled: Sequence[str] = (), test_mode: bool = False
) -> None:
    """Refuse a split that the data set does not have, and one without labels for anything but prediction.

    Args:
        split: the split that is asked for.
        splits: the splits of the data set.
        data_set: the name that the message gives to the data set.
        unlabelled: those of them that have no public labels.
        test_mode: the data set is only predicted, by a pipeline without ``LoadAnnotations``.

    Raises:
        ValueError: the split is unknown, or has no labels and ``test_mode`` is off.
    """
    if split not in splits:
        raise ValueError(f'{data_set}: split must be one of {tuple(splits)}, got {split!r}.')
    if split in unlabelled and not test_mode:
        others = tuple(name for name in splits if name not in unlabelled)
        raise ValueError(
            f'{data_set}: the {split} split has no public labels; use it with test_mode=True and without LoadAnnotations, '
            f'or take {" or ".join(map(repr, others))}.'
        )


def check_not_empty(data_list: Sequence[dict], path: str, layout: str, data_set: str) -> None:
    """Refuse a data set without a single image.

    Args:
        data_list: the data infos that were found.
        path: the folder that was searched.
        layout: the expected layout.
        data_set: the name that the message gives to the data set.

    Raises:
        ValueError: ``data_list`` is empty; the sentence names folder, layout and remedy.
    """
    if not data_list:
        raise ValueError(
            f'{data_set}: no image was found in {path} (expected layout: {layout}); '
            f'check data_root, the split and the file suffixes.'
        )


def check_label_ids(
    paths: Iterable[str], num_ids: int, data_set: str, ignore_index: int = 255, backend_args: dict | None = None
) -> None:
    """Read label files as they are stored and refuse ids that the data set does not define.

    Args:
        paths: label files, 8-bit images of ids.
        num_ids: number of ids that the files may hold, 0 to ``num_ids - 1``.
        data_set: the name that the message gives to the data set.
        ignore_index: the id of pixels that do not count.
        backend_args: arguments of mmengine's file backend.

    Raises:
        ValueError: a file is missing, has more than one channel, or holds another id; the sentence names the file,
            the ids found and the ids expected.
    """
    for path in paths:
        if not fileio.exists(path, backend_args=backend_args):
            raise ValueError(f'{data_set}: the label file {path} does not exist; check seg_map_path and seg_map_suffix.')
        content = fileio.get(path, backend_args=backend_args)
        label = mmcv.imfrombytes(content, flag='unchanged', backend='pillow').squeeze()
        if label.ndim != 2:
            raise ValueError(
                f'{data_set}: the label file {path} has shape {label.shape}, expected one channel of ids '
                f'(H, W); convert colour-coded labels to ids first.'
            )
        found = np.unique(label)
        wrong = found[(found >= num_ids) & (found != ignore_index)]
        if wrong.size:
            raise ValueError(
                f'{data_set}: the label file {path} holds the ids {wrong.tolist()}, expected 0 to {num_ids - 1} or '
                f'{ignore_index} (ignored); convert the labels to these ids or choose the matching data set.'
            )
