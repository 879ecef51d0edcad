"""Pictures that runs have left: sensitivity, conversion, drift, t-SNE."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mmseg_dafm.core.image_files import visible
from mmseg_dafm.experiments.report.images import photo
from mmseg_dafm.experiments.report.markup import Markup, join, tag
from mmseg_dafm.experiments.report.run_section import RunRecord

KINDS = {
    'fisher_sensitivity.png': 'Sensitivity: mean score per block and kind of weight, and the share that is selected',
    'bn_conversion.png': 'Conversion of batch normalisation',
    'fig1.png': 'Drift of features',
    'fig2.png': 'Change of weights',
    'tsne.png': 'Domain gap: t-SNE of features',
    'robustness.png': 'Scores under corruptions',
    'overlap.png': 'Overlap of scores',
    'alphas.png': 'Weights of the domain embedding',
}


def picture_section(records: Sequence[RunRecord]) -> Markup | None:
    """Pictures by kind; of every run that of its first seed. None if there are none."""
    found: dict[str, dict[str, list[tuple[str, Path]]]] = {}
    for record in records:
        # what another suite left in a folder is no picture of this one
        if record.state == 'refused':
            continue
        for path in visible(record.folder.glob('*.png'), record.folder):
            found.setdefault(path.name, {}).setdefault(record.run, []).append((record.seed, path))
    parts = []
    for name in sorted(found, key=lambda name: ([*KINDS, name].index(name), name)):
        figures = [_figure(run, files) for run, files in found[name].items()]
        summary = tag('summary', tag('h3', KINDS.get(name, name)))
        parts.append(tag('details', summary, tag('div', *figures, class_='pictures'), open=not parts))
    return join(*parts) if parts else None


def _figure(run: str, files: Sequence[tuple[str, Path]]) -> Markup:
    seed, path = files[0]
    others = f', the first of {len(files)} seeds' if len(files) > 1 else ''
    caption = f'{run}, {seed}{others}: {path.name}'
    try:
        with Image.open(path) as image:
            picture = photo(image, f'{KINDS.get(path.name, "Picture")}; {caption}')
    except OSError:
        picture = tag('p', f'{path.name} of {run} cannot be read.', class_='warning')
    # a phone shows it at its own size, in a box that scrolls
    box = tag('div', picture, class_='wide', tabindex=0, role='region', aria_label=caption)
    return tag('figure', box, tag('figcaption', caption))
