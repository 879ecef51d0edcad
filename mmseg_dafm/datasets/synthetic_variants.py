"""Find the synthetic images that share the layout, and so the label, of a real one."""

import os.path as osp
from collections.abc import Mapping, Sequence

import mmengine.fileio as fileio

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


def find_variants(stems: Sequence[str], roots: Mapping[str, str], img_suffix: str = '.png') -> dict[int, list[tuple[str, str]]]:
    """Match synthetic images to real ones by their stem, the file name without suffix.

    Args:
        stems: stem of each real image.
        roots: domain -> folder, searched with its sub-folders.
        img_suffix: suffix of the synthetic images.

    Returns:
        Index of a real image -> its variants as (domain, path), sorted; images without variants are left out.

    Raises:
        ValueError: a folder is missing, or no synthetic image matches any real one.
    """
    index_of = {stem: i for i, stem in enumerate(stems)}
    variants: dict[int, list[tuple[str, str]]] = {}
    found = []
    for domain, root in roots.items():
        check_folder(root, f'<root>/**/<stem of the real image>{img_suffix}', 'RealSyntheticMix')
        for path in sorted(fileio.list_dir_or_file(root, list_dir=False, suffix=img_suffix, recursive=True)):
            stem = osp.basename(path)[: -len(img_suffix)]
            found.append(stem)
            if stem in index_of:
                variants.setdefault(index_of[stem], []).append((domain, osp.join(root, path)))
    if not variants:
        raise ValueError(
            f'RealSyntheticMix: none of the {len(found)} synthetic images in {list(roots.values())} (stems such as '
            f'{found[:2]}) matches one of the {len(stems)} real images (stems such as {list(stems[:2])}); '
            f'check img_suffix (now {img_suffix!r}) and the file names.'
        )
    return {i: sorted(variants[i]) for i in sorted(variants)}
