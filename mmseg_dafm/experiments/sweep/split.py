"""A held-out part of the training set, on which learning rates are chosen instead of on the test data."""

import copy
import random
import re
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS

from mmseg_dafm.core.run_config import for_each_dataset, set_pipeline


def split_groups(groups: Sequence[str], fraction: float, seed: int = 0) -> set[str]:
    """Choose whole groups that hold about ``fraction`` of the images.

    Args:
        groups: the group of each image; images of one group (a recording, or the image itself) stay together.
        fraction: share of the images to hold out, above 0 and below 1.
        seed: seed of the choice.

    Returns:
        The groups that are held out: at least one, never all. The groups are gone through in random order, and one is
        taken where that brings the share closer to ``fraction``; if none does, the smallest is.

    Raises:
        ValueError: If the fraction is out of range or there is only one group.
    """
    if not 0 < fraction < 1:
        raise ValueError(f'the held-out share must lie between 0 and 1, got {fraction}.')
    sizes = dict.fromkeys(sorted(set(groups)), 0)
    for name in groups:
        sizes[name] += 1
    if len(sizes) < 2:
        raise ValueError(
            f'a held-out part needs at least two groups of images, but all {len(groups)} are one: {list(sizes)[:1]}.'
        )
    order = list(sizes)
    random.Random(seed).shuffle(order)
    target, held, count = fraction * len(groups), set(), 0
    for name in order:
        if abs(count + sizes[name] - target) < abs(count - target) and len(held) + 1 < len(order):
            held.add(name)
            count += sizes[name]
    return held or {min(order, key=sizes.get)}


def group_of(path: str, pattern: str | None) -> str:
    """The group of an image: the first group of the pattern (or its whole match) in the path, else the path itself.

    Raises:
        ValueError: If the pattern does not occur in the path.
    """
    if pattern is None:
        return path
    found = re.search(pattern, path)
    if found is None:
        raise ValueError(f'--group-by {pattern!r} does not occur in the image path {path}: correct the expression.')
    return found.group(1) if found.re.groups else found.group()


def image_paths(dataset: ConfigDict) -> list[str]:
    """The image paths of a data set's config without its ``indices``, in the order that ``indices`` counts.

    Raises:
        ValueError: If the data set does not list its images.
    """
    plain = {key: value for key, value in dataset.items() if key != 'indices'}
    built = DATASETS.build({**copy.deepcopy(plain), 'pipeline': []})
    if not hasattr(built, 'get_data_info'):
        raise ValueError(f'{dataset.get("type")} does not list its images, so none can be held out: use --select val.')
    return [built.get_data_info(i)['img_path'] for i in range(len(built))]


def chosen_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """What mmengine takes for ``indices`` of a data set with ``count`` images, written out."""
    everything = list(range(count))
    if indices is None:
        return everything
    if isinstance(indices, int):
        return everything[:indices] if indices >= 0 else everything[indices:]
    return list(indices)


def hold_out(cfg: Config, fraction: float = 0.2, seed: int = 0, group_by: str | None = None) -> dict:
    """Make the validation set of a training config a held-out part of its training set, in place.

    Every leaf data set of ``train_dataloader`` keeps the rest through mmengine's ``indices``; the held-out images get the
    config's ``test_pipeline``. An image that occurs in several leaves is on one side in all of them. The test data take
    no part.

    Args:
        cfg: a training config.
        fraction: share of the images that is held out.
        seed: seed of the choice.
        group_by: a regular expression on the image path; images with the same match (first group) stay together.

    Returns:
        ``dict(train, held_out, groups)``: numbers of images and, if grouped, the held-out groups.

    Raises:
        ValueError: If there are too few groups, or a leaf would lose all its images.
    """
    leaves: list[ConfigDict] = []
    for_each_dataset(cfg.train_dataloader.dataset, leaves.append)
    paths = [image_paths(leaf) for leaf in leaves]
    used = [chosen_indices(len(own), leaf.get('indices')) for own, leaf in zip(paths, leaves, strict=True)]
    images = sorted({own[i] for own, indices in zip(paths, used, strict=True) for i in indices})
    groups = {path: group_of(path, group_by) for path in images}
    held = split_groups(list(groups.values()), fraction, seed)
    parts, tested, kept_count = [], set(), 0
    for leaf, own, indices in zip(leaves, paths, used, strict=True):
        part = copy.deepcopy(leaf)
        # an image that several leaves hold is tested once
        part.indices = [i for i in indices if groups[own[i]] in held and own[i] not in tested]
        part.test_mode = True
        tested.update(own[i] for i in part.indices)
        leaf.indices = [i for i in indices if groups[own[i]] not in held]
        if not leaf.indices:
            raise ValueError(f'the held-out part would take all images of {leaf.type}: lower --holdout or group differently.')
        kept_count += len(leaf.indices)
        if part.indices:
            parts.append(part)
    pipeline = cfg.test_pipeline
    if len(parts) == 1:
        cfg.val_dataloader.dataset = parts[0]
        set_pipeline(parts[0], pipeline)
    else:
        for part in parts:
            part.pop('pipeline', None)
        cfg.val_dataloader.dataset = ConfigDict(type='DomainConcatDataset', pipeline=pipeline, datasets=parts)
    return dict(train=kept_count, held_out=len(tested), groups=sorted(held) if group_by else None)
