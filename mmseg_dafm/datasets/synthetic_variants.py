"""Find the synthetic images that share the layout, and so the label, of a real one, and count them."""

import logging
import os.path as osp
from collections.abc import Mapping, Sequence

import mmengine.fileio as fileio
from mmengine.logging import print_log

from mmseg_dafm.datasets.checks import check_folder


def named_roots(roots: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Name folders of synthetic images by their domain.

    Args:
        roots: domain -> folder, or folders, whose last path components become the names.

    Raises:
        ValueError: there is no folder, or two folders get the same name.
    """
    if isinstance(roots, Mapping):
        named = dict(roots)
    else:
        folders = [roots] if isinstance(roots, str) else list(roots)
        named = {osp.basename(osp.normpath(folder)): folder for folder in folders}
        if len(named) != len(folders):
            raise ValueError(
                f'RealSyntheticMix: synthetic_roots {folders} have equal folder names; give a dict domain -> folder.'
            )
    if not named:
        raise ValueError('RealSyntheticMix: synthetic_roots is empty; give at least one folder of synthetic images.')
    return named


def find_variants(names: Sequence[str], roots: Mapping[str, str], img_suffix: str = '.png') -> dict[int, list[tuple[str, str]]]:
    """Match synthetic images to real ones by their paths.

    A synthetic image belongs to a real one if the path of one, below its root and without the suffix, is the end of the
    other's: ``town/000001`` fits ``train/town/000001`` and ``000001``, but not ``village/000001``.

    Args:
        names: path of each real image below the image folder, without the suffix.
        roots: domain -> folder, searched with its sub-folders.
        img_suffix: suffix of the synthetic images.

    Returns:
        Index of a real image -> its variants as (domain, path), sorted; images without variants are left out.

    Raises:
        ValueError: a folder is missing, a synthetic image fits several real ones or several of one domain fit the same real
            one, or none fits any.
    """
    parts = [tuple(name.split('/')) for name in names]
    by_stem: dict[str, list[int]] = {}
    for i, name in enumerate(parts):
        by_stem.setdefault(name[-1], []).append(i)
    variants: dict[int, list[tuple[str, str]]] = {}
    found, strangers = [], []
    for domain, root in roots.items():
        check_folder(root, f'<root>/**/<path of the real image>{img_suffix}', 'RealSyntheticMix')
        taken: dict[int, str] = {}
        for path in sorted(fileio.list_dir_or_file(root, list_dir=False, suffix=img_suffix, recursive=True)):
            name = path[: -len(img_suffix)].replace('\\', '/')
            found.append(name)
            same_stem = by_stem.get(name.rpartition('/')[2], [])
            fitting = [i for i in same_stem if _one_ends_the_other(tuple(name.split('/')), parts[i])]
            if len(fitting) > 1:
                raise ValueError(
                    f'RealSyntheticMix: {osp.join(root, path)} fits {len(fitting)} real images, {names[fitting[0]]} and '
                    f'{names[fitting[1]]}: put it into the folder of its real image, as tools/generate_synthetic.py does.'
                )
            if not fitting:
                strangers += [name] * bool(same_stem)
                continue
            if fitting[0] in taken:
                raise ValueError(
                    f'RealSyntheticMix: {osp.join(root, taken[fitting[0]])} and {osp.join(root, path)} both fit the real image '
                    f'{names[fitting[0]]}: keep one image per domain, or make the folder of each a domain of synthetic_roots.'
                )
            taken[fitting[0]] = path
            variants.setdefault(fitting[0], []).append((domain, osp.join(root, path)))
    if not variants:
        raise ValueError(
            f'RealSyntheticMix: none of the {len(found)} synthetic images in {list(roots.values())} (such as '
            f'{found[:2]}) matches one of the {len(names)} real images (such as {list(names[:2])}); '
            f'check img_suffix (now {img_suffix!r}), the folders and the file names.'
        )
    if strangers:
        print_log(
            f'RealSyntheticMix: {len(strangers)} synthetic images, such as {strangers[0]}, share the file name of a real image '
            'but lie in other folders: they are not used',
            'current',
            logging.WARNING,
        )
    return {i: sorted(variants[i]) for i in sorted(variants)}


def _one_ends_the_other(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths is the end of the longer."""
    count = min(len(first), len(second))
    return first[-count:] == second[-count:]


def describe_coverage(
    variants: Mapping[int, Sequence[tuple[str, str]]], domains: Sequence[str], layouts: int, ratio: float
) -> tuple[float, str]:
    """How many layouts have synthetic images.

    Args:
        variants: as :func:`find_variants` returns them.
        domains: the domains, in their order.
        layouts: number of real images.
        ratio: share of synthetic samples.

    Returns:
        Share of the layouts that have a synthetic image, and a sentence with the numbers per domain.
    """
    counts = [sum(any(name == domain for name, _ in found) for found in variants.values()) for domain in domains]
    each = ', '.join(f'{domain} {count}' for domain, count in zip(domains, counts, strict=True))
    sentence = (
        f'RealSyntheticMix: {len(variants)} of {layouts} layouts have synthetic images ({each}); they make up {ratio:.0%} of '
        'the samples'
    )
    return len(variants) / layouts, sentence
