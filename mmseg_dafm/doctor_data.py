"""Checks of data sets: every image has its label, and ten pairs are opened."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_dafm.doctor_checks import Check
from mmseg_dafm.doctor_layouts import DATA_LAYOUTS, Layout

SAMPLES = 10


def check_data_root(name: str, root: str, required: bool = True) -> Iterator[Check]:
    """Count images with labels in each split and decode ten pairs, spread over it.

    Args:
        name: A key of `DATA_LAYOUTS`.
        root: The data set's folder.
        required: Whether the exit code depends on it.

    Yields:
        One check per split.

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


def _check_split(title: str, folder: Path, layout: Layout, root: str, required: bool) -> Check:
    image_dir, label_dir = folder / layout.images, folder / layout.labels
    ending, label_ending = layout.suffixes
    images = listed_images(folder, layout)
    labels = [
        label_dir / image.relative_to(image_dir).parent / (image.name.removesuffix(ending) + label_ending) for image in images
    ]
    pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label.is_file() and image.is_file()]
    some = pairs[:: max(len(pairs) // SAMPLES, 1)][:SAMPLES]
    problem = next(filter(None, (pair_problem(*pair, layout.size, layout.num_ids) for pair in some)), None)
    count = layout.counts.get(layout.splits[0])
    found = f'{len(images)} images, {len(pairs)} with labels' + (f', {len(some)} opened' if some else '')
    complete = len(images) == count if count else bool(images)
    good = complete and len(pairs) >= layout.share * len(images) and problem is None
    where = f'{layout.names} for {layout.images}' if layout.names else f'{layout.images}/{layout.files}'
    number = f' ({count} images)' if count else ''
    needed = f'{where}{number} and as many labels *{label_ending} with ids 0-{layout.num_ids - 1} and 255'
    return Check(title, problem or found, needed, good, required, layout.fix.replace('ROOT', root))


def listed_images(folder: Path, layout: Layout) -> list[Path]:
    """The images of a split: those that its list names, whether they are there or not; without a list, those of the folder."""
    image_dir = folder / layout.images
    if layout.names is None:
        return sorted(image_dir.glob(layout.files))
    if not (folder / layout.names).is_file():
        return []
    ending = layout.suffixes[0]
    lines = (folder / layout.names).read_text(encoding='utf-8').split()
    return [image_dir / (line.removeprefix(f'{layout.images}/').removesuffix(ending) + ending) for line in lines]


def pair_problem(image: Path, label: Path, size: tuple[int, int] | None = None, num_ids: int = 19) -> str | None:
    """What is wrong with an image and its label: not readable, turned, of different sizes, of other ids; None if nothing is."""
    try:
        with Image.open(image) as picture:
            found = picture.size
        with Image.open(label) as picture:
            ids = np.asarray(picture)
    except OSError as error:
        return f'cannot be read: {error}'
    if size is not None and found != size:
        turned = ' (turned by 90 degrees)' if found == size[::-1] else ''
        return f'{image.name} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}{turned}'
    if ids.shape != found[::-1]:
        turned = ' (turned by 90 degrees)' if ids.shape == found else ''
        return f'{label.name} has shape {ids.shape}, its image {found[::-1]}{turned}'
    wrong = sorted({int(value) for value in np.unique(ids)} - set(range(num_ids)) - {255})
    return f'{label.name} holds ids {wrong[:8]}' if wrong else None
