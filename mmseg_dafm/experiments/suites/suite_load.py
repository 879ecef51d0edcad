"""Read a suite file."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

from mmengine.config import Config

from mmseg_dafm.experiments.suites.suite_checks import check_suite
from mmseg_dafm.experiments.suites.suite_file import Column, Run, Suite


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
