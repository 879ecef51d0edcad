"""Runs of a suite in order, what each starts from, and its command."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmseg_dafm.experiments.suites.run_config import read_config
from mmseg_dafm.experiments.suites.suite_file import Run, Suite
from mmseg_dafm.experiments.suites.suite_load import fill, needed, references


class Cell(NamedTuple):
    """A run with one seed: what is executed as a whole."""

    run: str
    seed: int


def cell_of(suite: Suite, run: Run, seed: int) -> Cell:
    """The cell of a run for a seed; runs of the kind ``once`` know the suite's first seed alone."""
    return Cell(run.name, suite.seeds[0] if run.once else seed)


def needs_of(suite: Suite, cell: Cell) -> list[Cell]:
    """The cells that a cell starts from."""
    return [cell_of(suite, suite.run(name), cell.seed) for name in needed(suite.run(cell.run))]


def plan(suite: Suite, seeds: Sequence[int] | None = None, only: Sequence[str] = ()) -> list[Cell]:
    """All cells of a suite, each after those that it needs.

    Seeds are outermost, so that a table that is cut off has every row.

    Args:
        suite: Where they are listed.
        seeds: Instead of the suite's own.
        only: Names of runs; what they need comes along. Empty for all.

    Raises:
        ValueError: For a name that the suite does not have, or seeds that are none.
    """
    check_seeds(seeds)
    names = [run.name for run in suite.runs]
    for name in only:
        if name not in names:
            raise ValueError(f'--only {name!r}: {suite.file} has no such run; use some of {", ".join(names)}.')
    cells: dict[Cell, None] = {}

    def add(cell: Cell) -> None:
        for needed_cell in needs_of(suite, cell):
            add(needed_cell)
        cells.setdefault(cell)

    for seed in suite.seeds if seeds is None else seeds:
        for run in suite.runs:
            if run.kind != 'folder' and (not only or run.name in only):
                add(cell_of(suite, run, seed))
    return list(cells)


def check_seeds(seeds: Sequence[int] | None) -> None:
    """Refuse seeds of the command line that no run can have.

    Raises:
        ValueError: For a negative one, or one given twice.
    """
    if seeds and (min(seeds) < 0 or len(set(seeds)) < len(seeds)):
        raise ValueError(f'--seeds {" ".join(map(str, seeds))}: give different numbers, 0 or more')


def folder_of(suite: Suite, cell: Cell, out: Path) -> Path:
    """A cell's folder: ``NAME_seedS``, or ``NAME`` for a run of the kind ``once``."""
    return out / (cell.run if suite.run(cell.run).once else f'{cell.run}_seed{cell.seed}')


def output_of(suite: Suite, cell: Cell, out: Path) -> Path:
    """The JSON file that holds a cell's results."""
    run = suite.run(cell.run)
    if run.kind == 'command':
        return folder_of(suite, cell, out) / run.output
    return folder_of(suite, cell, out) / f'domain_iou_{Path(read_config(suite, run).checkpoint).stem}.json'


def filled(suite: Suite, cell: Cell, out: Path, texts: list[str], waiting: bool = False) -> list[str]:
    """Options or arguments with every placeholder replaced.

    Args:
        suite: Of the cell.
        cell: Whose placeholders they are.
        out: The suite's folder.
        texts: With placeholders.
        waiting: Leave ``{options:NAME}`` as it is while the other run has no output, for a preview.

    Raises:
        RuntimeError: If the output of another run holds no ``cfg_options``.
    """

    def look_up(kind: str, name: str) -> str:
        if not name:
            return {'seed': cell.seed, 'work_dir': folder_of(suite, cell, out)}[kind]
        other = cell_of(suite, suite.run(name), cell.seed)
        folder = folder_of(suite, other, out)
        return folder / read_config(suite, suite.run(name)).checkpoint if kind == 'checkpoint' else folder

    found = []
    for text in texts:
        lists = [name for kind, name in references([text]) if kind == 'options']
        if not lists:
            found.append(fill(text, look_up))
            continue
        file = output_of(suite, cell_of(suite, suite.run(lists[0]), cell.seed), out)
        if waiting and not file.is_file():
            found.append(text)
            continue
        content = json.loads(file.read_text())
        if not isinstance(content.get('cfg_options'), list):
            raise RuntimeError(f'{suite.file}: run {cell.run!r} takes {text}, but {file} holds no list cfg_options')
        found += map(str, content['cfg_options'])
    return found


def config_options(suite: Suite, cell: Cell, out: Path, waiting: bool = False) -> list[str]:
    """The changes to a cell's config: its seed, then the suite's options, which come last and win."""
    return [f'randomness.seed={cell.seed}', *filled(suite, cell, out, list(suite.run(cell.run).options), waiting)]


def commands(suite: Suite, cell: Cell, out: Path, processes: int = 1, waiting: bool = False) -> list[list[str]]:
    """What a cell executes: a script below tools/ and its arguments, once for a command, twice for a config.

    Training validates nothing, because its final weights are tested right after.

    Args:
        suite: Of the cell.
        cell: To execute.
        out: The suite's folder.
        processes: Of a training and a test, one per GPU.
        waiting: As for :func:`filled`.
    """
    run, folder = suite.run(cell.run), folder_of(suite, cell, out)
    if run.kind == 'command':
        return [filled(suite, cell, out, list(run.command), waiting)]
    config = read_config(suite, run)
    options = ['--cfg-options', *config_options(suite, cell, out, waiting)]
    launch = ['--launcher', 'pytorch'] if processes > 1 else []
    train = [
        'train.py',
        config.file,
        '--resume',
        '--work-dir',
        folder,
        *launch,
        *options,
        f'train_cfg.val_begin={config.length + 1}',
    ]
    test = ['test.py', config.file, folder / config.checkpoint, '--work-dir', folder, *launch, *options]
    test += ['--targets', *run.targets] if run.targets else []
    return [[str(part) for part in command] for command in (train, test)]
