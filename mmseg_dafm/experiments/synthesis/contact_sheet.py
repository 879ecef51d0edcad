"""A picture to judge a synthetic set by: label map and image of each domain beside each other."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import visible
from mmseg_dafm.datasets.checks import check_label_ids
from mmseg_dafm.datasets.nineteen_classes import CLASSES
from mmseg_dafm.experiments.synthesis.control_image import control_image
from mmseg_dafm.experiments.synthesis.layouts import Layout, read_labels
from mmseg_dafm.experiments.synthesis.manifest import read_manifest
from mmseg_dafm.experiments.synthesis.plan import target_of

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
