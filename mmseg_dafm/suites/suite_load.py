"""Read a suite file."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path

from mmengine.config import Config

from mmseg_dafm.suites.suite_checks import check_suite
from mmseg_dafm.suites.suite_file import Column, Run, Suite


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
        annotation = str(known[key].type)
        wanted = 'dict' if 'Mapping' in annotation else 'list' if 'Sequence' in annotation else None
        if wanted == 'list' and not isinstance(value, list | tuple) or wanted == 'dict' and not isinstance(value, Mapping):
            raise ValueError(f'{where}.{key} must be a {wanted}, got {value!r}.')
    return kind(**entry)
