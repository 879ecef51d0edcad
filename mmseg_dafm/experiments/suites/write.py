"""Gather a suite's finished runs and write its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg_dafm.evaluation.tables import write_text
from mmseg_dafm.experiments.suites.render import to_csv, to_latex, to_markdown
from mmseg_dafm.experiments.suites.results import Result, read_folders, read_results
from mmseg_dafm.experiments.suites.stamp import stamp
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.table import class_table, main_table


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
