"""Runs and their pictures on the report page."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from mmseg_dafm.core.image_files import visible
from mmseg_dafm.experiments.report.markup import Markup, join, photo, short_paths, tag
from mmseg_dafm.experiments.suites.execute import DONE, cell_state, read_json
from mmseg_dafm.experiments.suites.plan import folder_of, plan
from mmseg_dafm.experiments.suites.results import Result
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.tool_runs import last_error

# of a log, from its end
TAIL = 65536
HEADINGS = ('run', 'seed', 'state', 'config', 'minutes', 'commit', 'options')


@dataclass(frozen=True)
class RunRecord:
    """A run with one seed.

    Attributes:
        run: Its name.
        seed: ``'seed 0'``, or the name of a folder that was trained by hand.
        config: Config file, or the command's script.
        state: ``'done'``, ``'trained'``, ``'started'``, ``'missing'``, or ``'refused'`` for a folder of another run.
        folder: Its folder.
        done: Content of its ``done.json``.
        last: Why it is not done, as far as its folder tells.
    """

    run: str
    seed: str
    config: str
    state: str
    folder: Path
    done: Mapping = field(default_factory=dict)
    last: str = ''


def run_records(
    suite: Suite,
    results: Mapping[str, Sequence[Result]],
    out: Path,
    seeds: Sequence[int] | None = None,
    by_hand: Collection[str] = (),
) -> list[RunRecord]:
    """All runs of a suite, those that were trained by hand last.

    Args:
        suite: Of the runs.
        results: Run -> its finished seeds.
        out: The suite's folder.
        seeds: Instead of the suite's own.
        by_hand: Runs whose results are of folders that were trained by hand, besides those of the suite file's ``folder``.
    """
    found = []
    for cell in plan(suite, seeds):
        if cell.run in by_hand:
            continue
        run, folder = suite.run(cell.run), folder_of(suite, cell, out)
        done, last = {}, ''
        try:
            state = cell_state(suite, cell, out)
        except ValueError as error:
            state, last = 'refused', str(error)
        if state == 'done':
            done = read_json(folder / DONE) or {}
        elif state in ('started', 'trained'):
            last = last_line(folder / 'stdout.txt')
        found.append(RunRecord(cell.run, f'seed {cell.seed}', run.config or run.command[0], state, folder, done, last))
    for run in suite.runs:
        if run.kind == 'folder' or run.name in by_hand:
            for result in results.get(run.name, ()):
                config = str(result.protocol.get('config', 'unknown'))
                found.append(RunRecord(run.name, result.file.parent.name, config, 'done', result.file.parent))
    return found


def last_line(log: Path) -> str:
    """What a log says last: its last error, else its last line."""
    if not log.is_file():
        return 'no log'
    with open(log, 'rb') as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        return last_error(file.read().decode(errors='replace'))


def run_section(records: Sequence[RunRecord], out: Path) -> Markup:
    """A table of all runs, and above it those that are not finished.

    Args:
        records: All runs.
        out: The suite's folder; paths are shown relative to it.
    """
    stopped = [record for record in records if record.state in ('started', 'trained')]
    refused = [record for record in records if record.state == 'refused']
    missing = [record for record in records if record.state == 'missing']
    parts = []
    for title, found in (('Stopped, or still running', stopped), ('Refused', refused)):
        lines = [
            tag('li', tag('strong', f'{r.run}, {r.seed}'), f' ({r.state}): ', tag('code', short_paths(r.last, out)))
            for r in found
        ]
        if lines:
            parts.append(tag('div', tag('h3', f'{title}: {len(lines)}'), tag('ul', *lines), class_='warning'))
    if missing:
        names = ', '.join(f'{r.run} ({r.seed})' for r in missing)
        parts.append(tag('details', tag('summary', f'Not started: {len(missing)}'), tag('p', names)))
    head = tag('tr', *(tag('th', text, scope='col') for text in HEADINGS))
    rows = [_row(record, out) for record in records if record.state != 'missing']
    table = tag('table', tag('thead', head), tag('tbody', *rows))
    if rows:
        parts.append(tag('div', table, class_='scroll', tabindex=0, role='region', aria_label='Runs'))
    return join(*parts)


def _row(record: RunRecord, out: Path) -> Markup:
    # the seed has a column of its own
    options = [short_paths(text, out) for text in record.done.get('options', ()) if not text.startswith('randomness.seed=')]
    shown = tag('details', tag('summary', len(options)), *(tag('code', text) for text in options)) if options else '-'
    return tag(
        'tr',
        tag('th', record.run, scope='row', class_='method'),
        tag('td', record.seed.removeprefix('seed ')),
        tag('td', record.state, class_='missing' if record.state != 'done' else None),
        tag('td', short_paths(record.config, out)),
        tag('td', record.done.get('minutes', '-'), class_='number'),
        tag('td', record.done.get('commit', '-')),
        tag('td', shown, class_='options'),
    )


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
