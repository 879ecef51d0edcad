"""The manifest of made images, and a contact sheet to look at them."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import visible
from mmseg_dafm.datasets.checks import check_label_ids
from mmseg_dafm.datasets.classes import CLASSES
from mmseg_dafm.experiments.synthesis.layouts import Layout, control_image, read_labels
from mmseg_dafm.experiments.synthesis.plan import target_of

NAME = 'manifest.json'
# Entries that may be folders; one folder has many names.
SOURCES = ('pretrained', 'controlnet', 'imported_from')


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a domain's folder, or None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is no JSON ({error}); restore it, or choose another --out.') from None
    if not isinstance(manifest, dict):
        raise ValueError(f'{path} must hold a JSON object, got a {type(manifest).__name__}; restore it, or choose another --out.')
    return manifest


def with_full_paths(manifest: dict) -> dict:
    """A manifest whose local folders are absolute, without links; hub ids stay."""
    folders = {key: manifest[key] for key in SOURCES if isinstance(manifest.get(key), str) and Path(manifest[key]).is_dir()}
    return manifest | {key: str(Path(folder).resolve()) for key, folder in folders.items()}


def claim(folder: Path, manifest: Mapping) -> None:
    """Record what the images of a domain are made with, and refuse a folder whose images were made otherwise.

    Each process calls it before its first image. A manifest without any image yet is replaced.

    Args:
        folder: the domain's folder, made if missing.
        manifest: names and plain values.

    Raises:
        ValueError: the folder holds images with another manifest or with none, or cannot be written.
    """
    manifest = with_full_paths(json.loads(json.dumps(manifest)))
    if visible(folder.glob('**/*.png'), folder):
        begun = read_manifest(folder)
        if begun is None:
            raise ValueError(
                f'{folder} holds images but no {NAME}, so nobody knows how they were made: choose another --out, or take them '
                f'over from elsewhere with --import.'
            )
        begun = with_full_paths(begun)
        keys = [key for key in sorted({*begun, *manifest}) if begun.get(key) != manifest.get(key)]
        if keys:
            then = ', '.join(f'{key} = {begun.get(key)!r} (now {manifest.get(key)!r})' for key in keys)
            raise ValueError(f'{folder} was begun with {then}: go on with what it was begun with, or choose another --out.')
        return
    try:
        with replacing(folder / NAME) as path:
            path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + '\n', encoding='utf-8')
    except OSError as error:
        raise ValueError(f'--out: {folder} cannot be written ({error}); choose a folder that can be.') from None


# Pixels across one cell; more cannot be seen in a picture of five columns.
CELL_WIDTH = 480


def domains_of(out: Path) -> dict[str, str]:
    """Domain -> words for its column, of the folders below ``out`` that have a manifest."""
    found = {}
    for folder in (path for path in visible(out.iterdir(), out) if path.is_dir()):
        manifest = read_manifest(folder)
        if manifest is not None:
            found[folder.name] = str(manifest.get('scene') or 'imported')
    return found


def draw_sheet(layouts: Sequence[Layout], out: Path, path: str | os.PathLike, palette: str = 'ade20k', rows: int = 4) -> int:
    """Draw the first layouts that have an image, one row each: label | one column per domain.

    Args:
        layouts: the layouts, in their order.
        out: root folder of the images.
        path: the PNG to write, whole or not at all.
        palette: colours of the label maps.
        rows: layouts at the most.

    Returns:
        Rows that were drawn; at 0 no file is written.

    Raises:
        ValueError: a label holds other ids than train ids, or ``palette`` is unknown.
    """
    domains = {
        domain: words
        for domain, words in domains_of(out).items()
        if any(target_of(out, domain, layout).is_file() for layout in layouts)
    }
    shown = [layout for layout in layouts if any(target_of(out, domain, layout).is_file() for domain in domains)][:rows]
    if not shown:
        return 0
    check_label_ids([str(layout.path) for layout in shown], len(CLASSES), '--labels')
    with Image.open(shown[0].path) as label:
        height = max(1, round(CELL_WIDTH * label.height / label.width))
    cell, columns = 3.6, len(domains) + 1
    size = (cell * columns + 0.2, (cell * height / CELL_WIDTH + 0.3) * len(shown) + 0.5)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for layout, line in zip(shown, axes, strict=True):
        line[0].imshow(control_image(read_labels(layout.path, height, CELL_WIDTH), palette), interpolation='nearest')
        line[0].set_xlabel(layout.stem, fontsize=9)
        for axis, domain in zip(line[1:], domains, strict=True):
            target = target_of(out, domain, layout)
            if target.is_file():
                with Image.open(target) as image:
                    axis.imshow(np.asarray(image.convert('RGB').resize((CELL_WIDTH, height), Image.Resampling.LANCZOS)))
            else:
                axis.set_facecolor('0.92')
                axis.text(0.5, 0.5, 'no image', ha='center', va='center', color='0.4', transform=axis.transAxes)
                axis.set_box_aspect(height / CELL_WIDTH)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    titles = [f'label ({palette} colours)', *(f'{domain}: {words}' for domain, words in domains.items())]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return len(shown)
