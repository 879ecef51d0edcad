"""Checks of data sets: as many images as were published, every one with its label, and ten pairs that can be decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmseg_dafm.core.image_files import decoded, split_lines, visible
from mmseg_dafm.doctor.checks import Check
from mmseg_dafm.doctor.layouts import DATA_LAYOUTS, Layout

SAMPLES = 10


def check_data_root(name: str, root: str, required: bool = True) -> Iterator[Check]:
    """Count images with labels in each split and decode ten pairs, spread over it.

    Args:
        name: A key of `DATA_LAYOUTS`.
        root: The data set's folder.
        required: Whether the exit code depends on it.

    Yields:
        One check per split, and one that is not required per split without public labels whose folder is there.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in DATA_LAYOUTS:
        raise ValueError(f'--data-root {name}={root}: known data sets are {sorted(DATA_LAYOUTS)}')
    folder, layouts = Path(root).expanduser(), DATA_LAYOUTS[name]
    for split in layouts[0].splits:
        filled = [layout.of(split) for layout in layouts]
        layout = next((layout for layout in filled if (folder / layout.images).is_dir()), filled[0])
        yield _check_split(f'{name} {split} in {root}', folder, layout, root, required)
    for split in layouts[0].unlabelled:
        layout = layouts[0].of(split)
        if (folder / layout.images).is_dir():
            yield _check_unlabelled(f'{name} {split} in {root}', folder, layout, root)


def _check_split(title: str, folder: Path, layout: Layout, root: str, required: bool) -> Check:
    image_dir, label_dir = folder / layout.images, folder / layout.labels
    ending, label_ending = layout.suffixes
    images = listed_images(folder, layout)
    labels = [
        label_dir / image.relative_to(image_dir).parent / (image.name.removesuffix(ending) + label_ending) for image in images
    ]
    pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label.is_file() and image.is_file()]
    some = spread(pairs)
    problem = next(filter(None, (pair_problem(*pair, layout.size, layout.num_ids) for pair in some)), None)
    complete, counted = counted_images(images, layout)
    found = f'{counted}, {len(pairs)} with labels' + (f', {len(some)} opened' if some else '')
    good = complete and len(pairs) >= layout.share * len(images) and problem is None
    needed = f'{needed_images(layout)} and as many labels *{label_ending} with ids 0-{layout.num_ids - 1} and 255'
    fix = layout.fix.replace('ROOT', root)
    return Check(title, problem or found + layout.note.replace('ROOT', root), needed, good, required, fix)


def _check_unlabelled(title: str, folder: Path, layout: Layout, root: str) -> Check:
    images = listed_images(folder, layout)
    some = spread(images)
    problem = next(filter(None, (image_problem(image, layout.size) for image in some)), None)
    complete, counted = counted_images(images, layout)
    found = problem or f'{counted}, {len(some)} opened'
    fix = f'--submission needs them all: unpack the test images of the release in {root}'
    return Check(title, found, needed_images(layout), complete and problem is None, False, fix)


def spread(items: Sequence) -> Sequence:
    """Ten of them, from all over."""
    return items[:: max(len(items) // SAMPLES, 1)][:SAMPLES]


def counted_images(images: Sequence[Path], layout: Layout) -> tuple[bool, str]:
    """Whether there are as many images as were published, and how many there are."""
    count = layout.counts.get(layout.splits[0])
    complete = len(images) == count if count else bool(images)
    return complete, f'{len(images)} images' + (f' instead of {count}' if count and not complete else '')


def needed_images(layout: Layout) -> str:
    """Where a split's images must be, and how many."""
    where = f'{layout.names} for {layout.images}' if layout.names else f'{layout.images}/{layout.files}'
    count = layout.counts.get(layout.splits[0])
    return where + (f' ({count} images)' if count else '')


def listed_images(folder: Path, layout: Layout) -> list[Path]:
    """The images of a split: those that its list names, whether they are there or not; without a list, those of the folder."""
    image_dir = folder / layout.images
    if layout.names is None:
        return visible(image_dir.glob(layout.files), image_dir)
    if not (folder / layout.names).is_file():
        return []
    ending = layout.suffixes[0]
    lines = split_lines((folder / layout.names).read_bytes())
    return [image_dir / (line.removeprefix(f'{layout.images}/').removesuffix(ending) + ending) for line in lines]


def image_problem(image: Path, size: tuple[int, int] | None = None) -> str | None:
    """What is wrong with an image: it cannot be decoded, is turned or of another size; None if nothing is."""
    try:
        found = decoded(image).size
    except ValueError as error:
        return str(error)
    return size_problem(image, found, size)


def size_problem(image: Path, found: tuple[int, int], size: tuple[int, int] | None) -> str | None:
    """What is wrong with an image's width and height; None if nothing is."""
    if size is not None and found != size:
        turned = ' (turned by 90 degrees)' if found == size[::-1] else ''
        return f'{image.name} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}{turned}'
    return None


def pair_problem(image: Path, label: Path, size: tuple[int, int] | None = None, num_ids: int = 19) -> str | None:
    """What is wrong with an image, as above, or with its label: of another size, of other ids or of none; None if nothing is."""
    try:
        found, ids = decoded(image).size, np.asarray(decoded(label))
    except ValueError as error:
        return str(error)
    if problem := size_problem(image, found, size):
        return problem
    if ids.shape != found[::-1]:
        turned = ' (turned by 90 degrees)' if ids.shape == found else ''
        return f'{label.name} has shape {ids.shape}, its image {found[::-1]}{turned}'
    values = {int(value) for value in np.unique(ids)}
    if values == {255}:
        return f'{label.name} is 255 everywhere, so none of its pixels counts'
    wrong = sorted(values - set(range(num_ids)) - {255})
    return f'{label.name} holds ids {wrong[:8]}' if wrong else None
