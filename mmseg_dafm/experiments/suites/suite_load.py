"""Read suite files, and check them before anything runs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

from mmengine.config import Config

from mmseg_dafm.experiments.suites.suite_file import Column, Run, Suite

PATTERN = re.compile(r'\{([^{}]*)\}')
PLAIN = ('seed', 'work_dir')
REFERENCES = ('run', 'checkpoint', 'options')


def references(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The (kind, name) of every reference to another run, in order.

    Raises:
        ValueError: For a placeholder that does not exist.
    """
    found = []
    for text in texts:
        for content in PATTERN.findall(text):
            kind, colon, name = content.partition(':')
            if content in PLAIN:
                continue
            if kind not in REFERENCES or not colon:
                known = ', '.join([*(f'{{{key}}}' for key in PLAIN), *(f'{{{key}:NAME}}' for key in REFERENCES)])
                raise ValueError(f"'{{{content}}}' in {text!r} is no placeholder: use one of {known}")
            if kind == 'options' and text != f'{{{content}}}':
                raise ValueError(f"'{{{content}}}' in {text!r} stands for a list: make it an item of its own")
            found.append((kind, name))
    return found


def fill(text: str, look_up: Callable[[str, str], str]) -> str:
    """Replace every placeholder of a text.

    Args:
        text: Of an option or an argument.
        look_up: Gives the value of (kind, name); the name is empty for ``seed`` and ``work_dir``.
    """
    return PATTERN.sub(lambda match: str(look_up(*match[1].partition(':')[::2])), text)


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


def load_suite(path: str | PathLike) -> Suite:
    """Read a suite file: mmengine's text style, names that start with ``_`` are helpers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming file and key, for the first mistake.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'suite {path} does not exist: give a file such as configs/suites/domino_table2.py.')
    try:
        content = Config.fromfile(str(path))._cfg_dict.to_dict()
    except (SyntaxError, NameError, TypeError, KeyError) as error:
        raise ValueError(f'{path} cannot be read: {error}; correct the file.') from error
    content = {key: value for key, value in content.items() if not key.startswith('_')}
    for key in ('runs', 'columns'):
        if not content.get(key):
            raise ValueError(f'{path}: {key} is empty or not given: list at least one.')
    if isinstance(content['runs'], Mapping):
        content['runs'] = [dict(name=name, folder=folder) for name, folder in content['runs'].items()]
    content['runs'] = [_run(entry, f'{path}: runs[{i}]') for i, entry in enumerate(content['runs'])]
    content['columns'] = [_build(Column, entry, f'{path}: columns[{i}]') for i, entry in enumerate(content['columns'])]
    suite = _build(Suite, {'title': Path(path).stem, **content, 'file': str(path)}, str(path))
    if suite.gpus is not None and suite.gpus < 1:
        raise ValueError(f'{path}: gpus={suite.gpus} must be 1 or more: correct it.')
    check_suite(suite)
    return suite


def _run(entry: Mapping, where: str) -> Run:
    entry = dict(entry) if isinstance(entry, Mapping) else entry
    if isinstance(entry, dict):
        entry.setdefault('row', entry.get('name'))
        if isinstance(entry.get('folder'), str):
            entry['folder'] = [entry['folder']]
    return _build(Run, entry, where)


def _build(kind: type, entry: Mapping, where: str):
    """Make a dataclass of a dict, unknown and missing keys and wrong types refused."""
    if not isinstance(entry, Mapping):
        raise ValueError(f'{where} must be a dict, got {entry!r}.')
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f'{where}.{unknown[0]} is unknown: use one of {", ".join(known)}.')
    missing = [key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    missing = [key for key in missing if key not in entry]
    if missing:
        raise ValueError(f'{where}.{missing[0]} is not given: add it.')
    for key, value in entry.items():
        if not _fits(value, known[key].type):
            raise ValueError(f'{where}.{key} must be {_words(known[key].type)}, got {value!r}.')
    return kind(**entry)


def _fits(value, wanted) -> bool:
    """Whether a value has the type of a field; an integer is a float, a bool is no number."""
    if get_origin(wanted) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(wanted))
    if get_origin(wanted) is Mapping:
        key, item = get_args(wanted)
        return isinstance(value, Mapping) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if get_origin(wanted) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(one, get_args(wanted)[0]) for one in value)
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


def _words(wanted) -> str:
    """How a type is called in messages."""
    if get_origin(wanted) in (Union, UnionType):
        return ' or '.join(map(_words, get_args(wanted)))
    if get_origin(wanted) is Mapping:
        return f'a dict, each value {_words(get_args(wanted)[1])}'
    if get_origin(wanted) is Sequence:
        return f'a list, each item {_words(get_args(wanted)[0])}'
    names = {str: 'a string', int: 'an integer', float: 'a number', bool: 'True or False', type(None): 'None'}
    return names.get(wanted) or f'a {wanted.__name__}'
