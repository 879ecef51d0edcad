"""Which runs a suite asks for, in which order, and where they lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmseg_dafm.experiments.suites.run_config import read_config
from mmseg_dafm.experiments.suites.suite_checks import needed
from mmseg_dafm.experiments.suites.suite_file import Run, Suite


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
