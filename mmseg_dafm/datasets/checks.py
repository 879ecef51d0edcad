"""Checks of data folders and label files, made while a data set is built and before any training time is spent."""

import os
import os.path as osp
from collections.abc import Iterable, Sequence

import mmcv
import mmengine.fileio as fileio
import numpy as np

# what mmseg's heads, losses, data sets and metrics ignore where nothing else is said
IGNORED = 255


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


def absent(paths: Iterable[str]) -> list[str]:
    """Those of some local files that do not exist.

    Each folder is listed once: 25,000 single questions take minutes on a network disk.
    """
    paths = list(paths)
    folders = {osp.dirname(path) for path in paths}
    present = {osp.join(folder, name) for folder in folders if osp.isdir(folder) for name in os.listdir(folder)}
    return [path for path in paths if path not in present]


def check_listed(data_list: Sequence[dict], ann_file: str, img_suffix: str, data_set: str) -> None:
    """Refuse a list of images that names files which do not exist.

    Args:
        data_list: a data info per line of the list.
        ann_file: the list.
        img_suffix: what the data set appends to a line.
        data_set: the name that the message gives to the data set.

    Raises:
        ValueError: images are missing; the sentence names the list, the first of them and the form of a line.
    """
    if missing := absent(info['img_path'] for info in data_list):
        raise ValueError(
            f'{data_set}: ann_file={ann_file} lists {len(missing)} of {len(data_list)} images that do not exist, the first is '
            f'{missing[0]}: each line must be a path below the image folder without the suffix {img_suffix!r}.'
        )


def find_unlabelled(data_list: Sequence[dict]) -> list[str]:
    """Label files that data infos name and that do not exist."""
    return absent(info['seg_map_path'] for info in data_list if 'seg_map_path' in info)


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
        label = mmcv.imfrombytes(content, flag='unchanged', backend='pillow')
        check_one_channel(label, path, data_set)
        check_ids(label, num_ids, path, data_set, ignore_index)


def check_one_channel(label: np.ndarray, path: str, data_set: str) -> None:
    """Refuse a label that is no map of ids, (H, W).

    Raises:
        ValueError: it has more channels or fewer axes; the sentence names the file.
    """
    if label.ndim != 2:
        raise ValueError(
            f'{data_set}: the label file {path} has shape {label.shape}, expected one channel of ids '
            f'(H, W); convert colour-coded labels to ids first.'
        )


def check_ids(
    label: np.ndarray,
    num_ids: int,
    path: str,
    data_set: str,
    ignore_index: int = 255,
    remedy: str = 'convert the labels to these ids or choose the matching data set',
    num_file_ids: int | None = None,
    first: int = 0,
) -> None:
    """Refuse a label with ids that are no class.

    Args:
        label: ids, (H, W).
        num_ids: number N of ids; 0 to N - 1 are good, and ``ignore_index`` and 255, which mmseg gives to ignored pixels.
        path: the label file.
        data_set: the name that the message gives to the data set.
        ignore_index: the id of pixels that do not count.
        remedy: what to do.
        num_file_ids: number of ids in the file, where a map of labels made them the N classes.
        first: the file's id of class 0, 1 where ``reduce_zero_label`` shifted the ids; for the message.

    Raises:
        ValueError: it has other ids; the sentence names the file, the ids found and the ids expected.
    """
    # One pass over the pixels for a good label: 255 + 1 wraps round to 0.
    if label.dtype == np.uint8 and int((label + np.uint8(1)).max(initial=0)) <= num_ids:
        return
    found = np.flatnonzero(np.bincount(label.ravel())) if label.dtype == np.uint8 else np.unique(label)
    wrong = found[((found < 0) | (found >= num_ids)) & (found != ignore_index) & (found != 255)] + first
    if wrong.size:
        last = (num_file_ids or num_ids) - 1 + first
        raise ValueError(
            f'{data_set}: the label file {path} holds the ids {wrong.tolist()}, expected 0 to {last} or '
            f'{ignore_index} (ignored); {remedy}.'
        )


def check_size(
    label: np.ndarray, height: int, width: int, path: str, image: str, data_set: str, remedy: str = 'restore the files'
) -> None:
    """Refuse a label that is not of its image's size.

    Args:
        label: ids, (H, W).
        height: of the image as loaded.
        width: of the image as loaded.
        path: the label file.
        image: the image file.
        data_set: the name that the message gives to the data set.
        remedy: what to do.

    Raises:
        ValueError: the sizes differ; the sentence names both files.
    """
    if label.shape == (height, width):
        return
    if label.shape == (width, height):
        remedy = "if the image's EXIF data turns it, load it with color_type='color_ignore_orientation'"
    raise ValueError(
        f'{data_set}: the label file {path} is {label.shape[1]} x {label.shape[0]} (width x height), but its image {image} is '
        f'{width} x {height}; {remedy}.'
    )


def check_ignored(ignored: object, classes: int, where: str) -> None:
    """Refuse an ignored label that is a class: its pixels would neither be trained nor scored.

    Args:
        ignored: The label; None ignores nothing.
        classes: Number of classes.
        where: The key, for the message.

    Raises:
        ValueError: If the label is one of the classes.
    """
    if isinstance(ignored, int) and 0 <= ignored < classes:
        raise ValueError(
            f'{where}={ignored} is one of the classes 0 to {classes - 1}, whose pixels would not count: set it to the id of '
            f'unlabelled pixels ({max(IGNORED, classes)} if there are none).'
        )
