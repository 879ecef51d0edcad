"""What a suite must satisfy before anything is run: every mistake is one sentence with file and key."""

import re
from collections.abc import Iterable, Sequence

from mmseg_dafm.experiments.suites.placeholders import references
from mmseg_dafm.experiments.suites.suite_file import Run, Suite

NAME = re.compile(r'[\w.+-]+')


def check_suite(suite: Suite) -> None:
    """Refuse a suite that cannot be planned or laid out.

    Raises:
        ValueError: For the first mistake.
    """
    _unique(suite, 'runs', [run.name for run in suite.runs])
    _unique(suite, 'columns', [column.name for column in suite.columns])
    seeds = suite.seeds
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f'{suite.file}: seeds must be different integers, 0 or more, got {list(seeds)}.')
    if suite.best_of not in ('group', 'all'):
        raise ValueError(f"{suite.file}: best_of={suite.best_of!r} must be 'group' or 'all'.")
    for run in suite.runs:
        _check_run(suite, run)
    _check_columns(suite)
    _check_order(suite)


def needed(run: Run) -> list[str]:
    """Names of the runs that must be finished before a run, each once."""
    texts = [*run.options, *run.command]
    return list(dict.fromkeys([*run.needs, *(name for _, name in references(texts))]))


def _unique(suite: Suite, key: str, names: Sequence[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{suite.file}: {key} has the name {name!r}: use letters, digits, '_', '-', '+' and '.'.")
        if names.count(name) > 1:
            raise ValueError(f'{suite.file}: {key} has {name!r} twice: give each a name of its own.')


def _check_run(suite: Suite, run: Run) -> None:
    where = f'{suite.file}: run {run.name!r}'
    given = [key for key in ('config', 'command', 'folder', 'paper_only') if getattr(run, key)]
    if len(given) != 1:
        raise ValueError(f'{where} must have one of config, command, folder and paper_only, got {" and ".join(given) or "none"}.')
    if run.output and run.row is not None and not run.output.endswith('.json'):
        raise ValueError(f'{where}: output={run.output!r} must be a .json file to fill a row: choose another, or row=None.')
    if run.kind == 'command' and not run.output:
        raise ValueError(f'{where} has a command and no output: name the file that it leaves in {{work_dir}}.')
    for key in ('options', 'targets'):
        if run.kind != 'config' and getattr(run, key):
            raise ValueError(f'{where} has {key} and no config: put them into the command.')
    for option in run.options:
        if '=' not in option and not option.startswith('{'):
            raise ValueError(f'{where}: the option {option!r} must have the form KEY=VALUE.')
    try:
        found = references([*run.options, *run.command])
    except ValueError as error:
        raise ValueError(f'{where}: {error}.') from None
    names = {other.name for other in suite.runs}
    for kind, name in [*found, *(('needs', name) for name in run.needs)]:
        if name not in names:
            raise ValueError(f'{where}: {kind} names {name!r}, which is not in runs: use one of {", ".join(sorted(names))}.')
        other = suite.run(name).kind
        if kind == 'checkpoint' and other != 'config' or kind == 'options' and other != 'command' or other == 'folder':
            raise ValueError(f'{where}: {{{kind}:{name}}} does not exist, because {name!r} is a {other} run.')
    columns = {column.name: column for column in suite.columns}
    for key in ('paper', 'errata'):
        for name in getattr(run, key):
            if name not in columns:
                raise ValueError(f'{where}: {key} names the column {name!r}: use one of {", ".join(columns)}.')
    if set(run.errata) - set(run.paper):
        raise ValueError(f'{where}: errata explains {sorted(set(run.errata) - set(run.paper))}, for which paper has no figure.')
    for domain in run.paper_classes:
        if domain not in suite.per_class:
            raise ValueError(f'{where}: paper_classes names {domain!r}, which is not in per_class={list(suite.per_class)}.')


def _check_columns(suite: Suite) -> None:
    names, rows = [column.name for column in suite.columns], suite.rows()
    for column in suite.columns:
        where = f'{suite.file}: column {column.name!r}'
        given = [key for key in ('value', 'mean', 'of') if getattr(column, key)]
        if len(given) != 1:
            raise ValueError(f'{where} must have one of value, mean and of, got {" and ".join(given) or "none"}.')
        for name in [*column.mean, *([column.of] if column.of else [])]:
            # columns are computed from left to right
            if name not in names[: names.index(column.name)]:
                raise ValueError(f'{where} refers to {name!r}: use a column to the left of it.')
        if bool(column.of) != bool(column.minus):
            raise ValueError(f'{where} must have both of and minus, or neither.')
        if column.minus and column.minus not in rows:
            raise ValueError(f'{where}: minus={column.minus!r} is no row: use one of {", ".join(rows)}.')
        if column.best not in ('max', 'min', None):
            raise ValueError(f"{where}: best={column.best!r} must be 'max', 'min' or None.")
    for row, runs in rows.items():
        parts = [run.part for run in runs]
        if len(set(parts)) < len(parts):
            raise ValueError(f'{suite.file}: row {row!r} has two runs with the same part: give each a part of its own.')


def _check_order(suite: Suite) -> None:
    """Refuse runs that wait for each other, and once-runs' seeds stay clear: every run comes after those it needs."""
    left = {run.name: set(needed(run)) for run in suite.runs}
    while left:
        ready: Iterable[str] = [name for name, waits in left.items() if not waits & left.keys()]
        if not ready:
            raise ValueError(f'{suite.file}: the runs {", ".join(left)} wait for each other: remove one of their needs.')
        for name in ready:
            del left[name]
