"""Lay results out: rows, columns, means and deviations over seeds, and the papers' own figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from mmseg_dafm.datasets.classes import CLASSES
from mmseg_dafm.experiments.suites.results import Result, look_up, stamp
from mmseg_dafm.experiments.suites.suite_file import Column, Run, Suite


@dataclass
class Entry:
    """One place of the table.

    Attributes:
        values: Seed -> number.
        paper: The paper's own figure.
        note: Number of the footnote on that figure.
        best: Whether no other row is better; never set where rows have different numbers of seeds.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    paper: float | None = None
    note: int | None = None
    best: bool = False

    def text(self, digits: int = 2) -> str:
        """Mean, and sample standard deviation of two values or more; 'not run' for none."""
        if not self.values:
            return 'not run'
        spread = f' ± {self.deviation:.{digits}f}' if len(self.values) > 1 else ''
        return f'{self.mean:.{digits}f}{spread}'

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass
class Row:
    """One row: title, heading of its group, an entry per column, the labels of its seeds, and whether it is never run."""

    name: str
    title: str
    group: str
    entries: dict[str, Entry]
    seeds: list[str]
    paper_only: bool = False


@dataclass
class Table:
    """A table, ready to be written.

    Attributes:
        title: Of the table.
        columns: In order.
        rows: In order.
        footnotes: Texts, numbered from 1.
        paper_rows: The paper's figures stand below their row, and not in columns of their own.
    """

    title: str
    columns: Sequence[Column]
    rows: list[Row]
    footnotes: list[str]
    paper_rows: bool = False

    def has_paper(self, column: str) -> bool:
        """Whether a column has a neighbour with the paper's figures."""
        return not self.paper_rows and any(row.entries[column].paper is not None for row in self.rows)


Results = Mapping[str, Sequence[Result]]


def main_table(suite: Suite, results: Results) -> Table:
    """The suite's table.

    Args:
        suite: Its layout.
        results: Run -> its finished seeds.

    Raises:
        ValueError: If a column's value is not in a result.
    """
    footnotes: list[str] = []
    rows = [_row(suite, name, runs, results, footnotes) for name, runs in suite.rows().items()]
    frozen = {row.name: row for row in rows}
    for column in suite.columns:
        for row in rows:
            values = row.entries[column.name].values
            if column.of:
                own, other = row.entries[column.of].values, frozen[column.minus].entries[column.of].values
                # seeds often differ more than methods do, so the difference is taken within a seed
                values = {label: own[label] - other[label] for label in own if label in other}
            elif column.mean:
                parts = [row.entries[name].values for name in column.mean]
                values = {label: mean(part[label] for part in parts) for label in parts[0] if all(label in p for p in parts)}
            row.entries[column.name].values = values
    _mark(suite, suite.columns, rows, _comparable(suite, results))
    return Table(suite.title, suite.columns, rows, footnotes)


def class_table(suite: Suite, results: Results, domain: str) -> Table:
    """IoU of every class on one domain, a row per method, and the mean; as FisherTune's Table 2.

    The errata of the main table's column of that domain's mIoU stand at the mean.

    Raises:
        ValueError: If a result does not have the domain, or results differ in their classes.
    """
    found = [result for run in suite.runs if run.row is not None for result in results.get(run.name, ()) if result.classes]
    classes = list(found[0].classes) if found else []
    for result in found:
        if list(result.classes) != classes:
            raise ValueError(f'{suite.file}: per_class={domain!r}, but {result.file} has other classes than {found[0].file}.')
    if not classes:
        width = max((len(run.paper_classes.get(domain, ())) for run in suite.runs), default=0)
        classes = list(suite.class_names or (CLASSES if width == len(CLASSES) + 1 else (f'class {i}' for i in range(width - 1))))
    columns = [Column(name, name, value=f'{domain}/IoU/{i}') for i, name in enumerate(classes)]
    columns.append(Column('mIoU', value=f'{domain}/mIoU'))
    main = [column.name for column in suite.columns if column.value == f'{domain}/mIoU']
    rows, footnotes = [], []
    for name, runs in suite.rows().items():
        # domains of one test lie in one file, whichever part of the row it fills
        with_domain = [run for run in runs if any(domain in result.values for result in results.get(run.name, ()))]
        run = (with_domain or runs)[0]
        given = next((run.paper_classes[domain] for run in runs if domain in run.paper_classes), ())
        if given and len(given) != len(columns):
            raise ValueError(
                f'{suite.file}: run {run.name!r}: paper_classes[{domain!r}] has {len(given)} figures for {len(columns)} columns '
                '(classes and mean): complete it.'
            )
        entries = {}
        for i, column in enumerate(columns):
            values = _values(suite, column, results.get(run.name, ())) if with_domain else {}
            entries[column.name] = Entry(values, given[i] if given else None)
        if given:
            for text in dict.fromkeys(run.errata[key] for run in runs for key in main if key in run.errata):
                entries['mIoU'].note = _note(text, footnotes)
        rows.append(Row(name, _title(runs), runs[0].group, entries, list(entries['mIoU'].values)))
    _mark(suite, columns, rows, _comparable(suite, results))
    return Table(f'{suite.title}: IoU per class, {domain}', columns, rows, footnotes, paper_rows=True)


def mark_best(entries: Sequence[Entry], best: str | None, comparable: bool = True) -> None:
    """Mark the best of a column's rows, if they have the same number of seeds and there are two to compare.

    Args:
        entries: Of the rows.
        best: ``'max'`` or ``'min'``; None for no mark.
        comparable: Whether the rows were tested alike.
    """
    run = [entry for entry in entries if entry.values]
    if best is None or not comparable or len(run) < 2 or len({len(entry.values) for entry in run}) > 1:
        return
    top = (max if best == 'max' else min)(entry.mean for entry in run)
    for entry in run:
        entry.best = entry.mean == top


def _comparable(suite: Suite, results: Results) -> bool:
    return not any(line.startswith('WARNING') for line in stamp(suite, results))


def _mark(suite: Suite, columns: Sequence[Column], rows: Sequence[Row], comparable: bool) -> None:
    for column in columns:
        for group in dict.fromkeys(row.group if suite.best_of == 'group' else '' for row in rows):
            shown = [row.entries[column.name] for row in rows if suite.best_of == 'all' or row.group == group]
            mark_best(shown, column.best, comparable)


def _note(text: str, footnotes: list[str]) -> int:
    """Number of a footnote, which is added if it is new."""
    if text not in footnotes:
        footnotes.append(text)
    return footnotes.index(text) + 1


def _row(suite: Suite, name: str, runs: Sequence[Run], results: Results, footnotes: list[str]) -> Row:
    entries = {column.name: Entry() for column in suite.columns}
    for run in runs:
        for column in suite.columns:
            entry = entries[column.name]
            if column.value and column.part == run.part:
                entry.values = _values(suite, column, results.get(run.name, ()))
            entry.paper = run.paper.get(column.name, entry.paper)
            if column.name in run.errata:
                entry.note = _note(run.errata[column.name], footnotes)
    seeds = dict.fromkeys(result.label for run in runs for result in results.get(run.name, ()))
    return Row(name, _title(runs), runs[0].group, entries, list(seeds), all(run.paper_only for run in runs))


def _title(runs: Sequence[Run]) -> str:
    return next((run.title for run in runs if run.title), runs[0].row or runs[0].name)


def _values(suite: Suite, column: Column, results: Sequence[Result]) -> dict[str, float]:
    where = f'{suite.file}: column {column.name!r}'
    found = {result.label: look_up(result, column.value, where) for result in results}
    return {label: value for label, value in found.items() if value is not None}
