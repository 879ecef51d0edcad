"""Write tables as Markdown, CSV and LaTeX."""

import csv
import io
import re
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmseg_dafm.evaluation.tables import write_text
from mmseg_dafm.experiments.suites.results import Result, read_folders, read_results, stamp
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.table import Entry, Table, class_table, main_table

LATEX = {'&': r'\&', '%': r'\%', '_': r'\_', '#': r'\#', '$': r'\$', '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}'}
LATEX.update({'^': r'\textasciicircum{}', '\\': r'\textbackslash{}', '±': r'$\pm$', 'Δ': r'$\Delta$'})

QUOTED = re.compile('"([^"]*)"')


def grid(table: Table, bold: Callable[[str], str], escape: Callable[[str], str], raised: Callable[[str], str]) -> list[list[str]]:
    """Heading and rows of a table in cells of text.

    Args:
        table: To write.
        bold: Marks the best of a column.
        escape: Makes text safe for the format.
        raised: Writes the letter of a footnote.
    """
    grouped = any(row.group for row in table.rows)
    heading = [*(['group'] if grouped else []), 'method']
    for column in table.columns:
        heading += [column.title or column.name, *(['paper'] if table.has_paper(column.name) else [])]
    # as many decimals as the paper prints
    decimals = {column.name: max(_decimals(row.entries[column.name].paper) for row in table.rows) for column in table.columns}
    lines = [[escape(cell) for cell in [*heading, 'seeds']]]
    for row in table.rows:
        cells = [*([escape(row.group)] if grouped else []), escape(row.title)]
        for column in table.columns:
            entry = row.entries[column.name]
            # a run whose score is undefined has values of other columns, and some rows are never run
            text = '-' if (row.seeds or row.paper_only) and not entry.values else entry.text(column.digits)
            cells.append(bold(escape(text)) if entry.best else escape(text))
            cells += [_paper(entry, decimals[column.name], raised)] if table.has_paper(column.name) else []
        lines.append([*cells, escape(', '.join(row.seeds))])
        if table.paper_rows and any(entry.paper is not None for entry in row.entries.values()):
            figures = [_paper(row.entries[column.name], decimals[column.name], raised) for column in table.columns]
            lines.append([*cells[:grouped], f'{cells[grouped]} (paper)', *figures, ''])
    return lines


def letter(note: int) -> str:
    """The sign of a footnote: a, b, ..."""
    return string.ascii_lowercase[(note - 1) % 26] * ((note - 1) // 26 + 1)


def to_markdown(table: Table, stamp: Sequence[str], notes: Sequence[str] = ()) -> str:
    """A Markdown section: table, footnotes, notes, protocol."""
    cells = grid(table, lambda text: f'**{text}**', lambda text: text.replace('|', r'\|'), lambda sign: f' ({sign})')
    words = 2 if any(row.group for row in table.rows) else 1
    lines = [f'### {table.title}', '', f'| {" | ".join(cells[0])} |', '|---' * words + '|---:' * (len(cells[0]) - words) + '|']
    lines += [f'| {" | ".join(row)} |' for row in cells[1:]]
    lines += ['', *(f'({letter(i)}) {text}\n' for i, text in enumerate(table.footnotes, 1))]
    lines += [f'{text}\n' for text in notes]
    # a line that warns must be seen
    lines += [f'**{text}**  ' if text.startswith('WARNING') else f'{text}  ' for text in stamp]
    return '\n'.join(lines).rstrip() + '\n'


def to_csv(table: Table, stamp: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """One line per row, with mean, deviation, number of seeds, the paper's figure and its footnote for every column.

    Notes and protocol follow as lines that begin with ``#``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    keys = ('mean', 'std', 'n', 'paper', 'note')
    writer.writerow(['row', 'group', 'title', *(f'{column.name}.{key}' for column in table.columns for key in keys)])
    for row in table.rows:
        cells = [row.name, row.group, row.title]
        for column in table.columns:
            entry = row.entries[column.name]
            numbers = [entry.mean, entry.deviation] if entry.values else [None, None]
            cells += ['' if number is None else f'{number:.4f}' for number in numbers]
            cells += [len(entry.values), '' if entry.paper is None else entry.paper]
            cells.append(table.footnotes[entry.note - 1] if entry.note else '')
        writer.writerow(cells)
    return buffer.getvalue() + ''.join(f'# {text}\n' for text in [*notes, *stamp])


def to_latex(table: Table, stamp: Sequence[str], notes: Sequence[str] = ()) -> str:
    r"""A ``table`` with the lines of booktabs; footnotes, notes and protocol below; ``\usepackage{booktabs}`` is all it needs."""
    cells = grid(table, lambda text: rf'\textbf{{{text}}}', escape_latex, lambda sign: rf'\textsuperscript{{{sign}}}')
    words = 2 if any(row.group for row in table.rows) else 1
    lines = [r'\begin{table}', r'\centering', rf'\caption{{{escape_latex(table.title)}}}']
    lines += [rf'\begin{{tabular}}{{{"l" * words}{"r" * (len(cells[0]) - words)}}}', r'\toprule']
    lines += [' & '.join(cells[0]) + r' \\', r'\midrule']
    for i, row in enumerate(cells[1:]):
        if words == 2 and i and row[0] != cells[i][0]:
            lines.append(r'\midrule')
        lines.append(' & '.join(row) + r' \\')
    lines += [r'\bottomrule', r'\end{tabular}']
    texts = [rf'\textsuperscript{{{letter(i)}}} {escape_latex(text)}' for i, text in enumerate(table.footnotes, 1)]
    # a line that warns must be seen
    protocol = [rf'\textbf{{{escape_latex(text)}}}' if text.startswith('WARNING') else escape_latex(text) for text in stamp]
    lines += [rf'\par\raggedright\footnotesize {text}' for text in [*texts, *map(escape_latex, notes), *protocol]]
    lines.append(r'\end{table}')
    return '\n'.join(lines) + '\n'


def escape_latex(text: str) -> str:
    """Text without any meaning to LaTeX, its straight quotes turned into pairs."""
    return ''.join(LATEX.get(sign, sign) for sign in QUOTED.sub(r"``\1''", text))


def _paper(entry: Entry, digits: int, raised: Callable[[str], str]) -> str:
    if entry.paper is None:
        return ''
    return f'{entry.paper:.{digits}f}' + (raised(letter(entry.note)) if entry.note else '')


def _decimals(figure: float | None) -> int:
    return max(1, len(f'{figure:g}'.partition('.')[2])) if figure is not None else 0


def write_tables(
    suite: Suite, out: Path, seeds: Sequence[int] | None = None, folders: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Write ``NAME.md``, ``.csv`` and ``.tex`` for a suite NAME.py, and ``NAME_classes_DOMAIN.csv`` and ``.tex`` per domain.

    Args:
        suite: Whose runs are gathered.
        out: The suite's folder.
        seeds: Instead of the suite's own.
        folders: Run -> folders that were trained by hand, one per seed, instead of the suite's.

    Returns:
        The Markdown text.

    Raises:
        ValueError: If a column's value is not in a result, or a folder is not of a run or holds no results.
    """
    results, problems = gather(suite, out, seeds, folders)
    protocol = [*(f'WARNING: {text}' for text in problems), *stamp(suite, results)]
    stem = Path(suite.file).stem
    tables = {stem: main_table(suite, results)}
    tables.update({f'{stem}_classes_{domain}': class_table(suite, results, domain) for domain in suite.per_class})
    texts = []
    for name, table in tables.items():
        texts.append(to_markdown(table, protocol, suite.notes))
        write_text(str(out / f'{name}.csv'), to_csv(table, protocol, suite.notes))
        write_text(str(out / f'{name}.tex'), to_latex(table, protocol, suite.notes))
    text = '\n'.join(texts)
    write_text(str(out / f'{stem}.md'), text)
    return text


def gather(
    suite: Suite, out: Path, seeds: Sequence[int] | None = None, folders: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, list[Result]], list[str]]:
    """Run -> its finished seeds, for the runs that fill a row, and a sentence for every folder that cannot be used.

    Args:
        suite: Whose runs are gathered.
        out: The suite's folder.
        seeds: Instead of the suite's own.
        folders: As for :func:`write_tables`.

    Raises:
        ValueError: If a folder is not of a run or holds no results.
    """
    folders = folders or {}
    names = [run.name for run in suite.runs]
    for name, given in folders.items():
        if name not in names:
            raise ValueError(f'--run {name}={given[0]}: {suite.file} has no such run; use one of {", ".join(names)}.')
    results, problems = {}, []
    for run in suite.runs:
        if run.name in folders:
            results[run.name] = read_folders(folders[run.name], f'--run {run.name}')
        elif run.row is not None:
            results[run.name], found = read_results(suite, run, out, seeds)
            problems += found
    return results, problems
