"""Results of runs, of the suite and of folders that were run by hand, and the protocol that they share."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmseg_dafm.evaluation.tables import show
from mmseg_dafm.experiments.suites.execute import DONE, cell_state, read_json
from mmseg_dafm.experiments.suites.plan import cell_of, folder_of, output_of
from mmseg_dafm.experiments.suites.run_config import run_hash
from mmseg_dafm.experiments.suites.suite_file import Run, Suite

TESTED = re.compile(r'domain_iou_(best_.+_)?(?:iter|epoch)_(\d+)\.json')


class Result(NamedTuple):
    """One finished run.

    Attributes:
        label: Its seed, or its folder if it was trained by hand.
        file: Where its results lie.
        values: Nested results, as :func:`look_up` reads them.
        classes: Names of the classes; empty for a command.
        protocol: Of the test; empty for a command.
        commit: That was checked out.
    """

    label: str
    file: Path
    values: Mapping
    classes: Sequence[str]
    protocol: Mapping
    commit: str


def read_results(suite: Suite, run: Run, out: Path, seeds: Sequence[int] | None = None) -> tuple[list[Result], list[str]]:
    """The finished seeds of a run, and a sentence for every folder that cannot be used.

    Args:
        suite: Of the run.
        run: To read.
        out: The suite's folder.
        seeds: Instead of the suite's own.

    Raises:
        ValueError: For a folder of the suite file that holds no results.
    """
    if run.kind == 'folder':
        return read_folders(run.folder, f'{suite.file}: run {run.name!r}'), []
    found, problems = [], []
    for cell in dict.fromkeys(cell_of(suite, run, seed) for seed in (suite.seeds if seeds is None else seeds)):
        try:
            if cell_state(suite, cell, out) != 'done':
                continue
            record = read_json(folder_of(suite, cell, out) / DONE)
            found.append(read_result(output_of(suite, cell, out), str(cell.seed), record, run.kind == 'config'))
        except ValueError as error:
            problems.append(f'not in the table: {error}')
    return found, problems


def read_folder(folder: str | Path, where: str) -> Result:
    """The results of a folder that was trained and tested by hand: of its last tested checkpoint, without augmentation.

    Of a last and a best checkpoint of the same step, the last counts. Seed and commit are those of ``done.json`` if a suite has
    written one.

    Raises:
        ValueError: If there are none.
    """
    folder = Path(folder)
    matches = ((TESTED.fullmatch(path.name), path) for path in folder.glob('domain_iou_*.json'))
    tested = {(int(match[2]), not match[1]): path for match, path in matches if match}
    validated = folder / 'domain_iou.json'
    if not tested and not validated.is_file():
        raise ValueError(
            f'{where}: {folder} holds no domain_iou_*.json: test a checkpoint with tools/test.py --work-dir {folder} first.'
        )
    record = read_json(folder / DONE)
    label = str(record['seed']) if record and 'seed' in record else str(folder)
    return read_result(tested[max(tested)] if tested else validated, label, record, domains=True)


def read_folders(folders: Sequence[str | Path], where: str) -> list[Result]:
    """As :func:`read_folder`, for the folders of one run; named by their paths where two have the same seed.

    Raises:
        ValueError: If one holds no results.
    """
    found = [read_folder(folder, where) for folder in folders]
    if len({result.label for result in found}) < len(found):
        # a row has one number per label, so none may be lost
        found = [result._replace(label=str(folder)) for result, folder in zip(found, folders, strict=True)]
    return found


def read_result(file: Path, label: str, record: Mapping | None = None, domains: bool = False) -> Result:
    """Read a JSON file of `DomainIoUMetric`, or of another tool.

    Args:
        file: To read.
        label: Of the result.
        record: The run's ``done.json``, which holds commit, processes and batch size.
        domains: Refuse a file that is not of `DomainIoUMetric`.

    Raises:
        ValueError: If the file is missing, is no JSON or holds no results.
    """
    record = record or {}
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise ValueError(f'{file} does not exist: test the run again.') from None
    except ValueError as error:
        raise ValueError(f'{file} is no JSON ({error}): test the run again.') from None
    if not isinstance(content, dict | list):
        raise ValueError(f'{file} must hold a dict or a list, got {content!r}: test the run again.')
    commit = record.get('commit', 'unknown')
    summary = content.get('summary') if isinstance(content, dict) else None
    if not isinstance(summary, dict) or 'domains' not in summary:
        if domains:
            raise ValueError(f'{file} holds no summary with domains: test the run again with DomainIoUMetric.')
        return Result(label, file, content, (), {}, commit)
    missing = [key for key in ('classes', 'protocol') if key not in content] + [key for key in ('pooled',) if key not in summary]
    if missing:
        raise ValueError(f'{file} holds no {missing[0]}: test the run again.')
    values = {**summary['domains'], 'all': summary['pooled'], 'target': summary.get('target')}
    values.update(mean=summary.get('mean'), percent=summary.get('percent'))
    protocol = {**content['protocol'], **{key: record.get(key) for key in ('processes', 'batch_size')}}
    return Result(label, file, values, content['classes'], protocol, commit)


def look_up(result: Result, path: str, where: str) -> float | None:
    """The number at a path such as ``fog/mIoU`` or ``features/-1/all/cka``; None where a score is undefined.

    A number picks from a list, or a dict's entry of that place.

    Raises:
        ValueError: If there is no such number.
    """
    node = result.values
    for key in path.split('/'):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list | Mapping) and re.fullmatch(r'-?\d+', key) and -len(node) <= int(key) < len(node):
            node = list(node.values() if isinstance(node, Mapping) else node)[int(key)]
        else:
            known = ', '.join(map(str, node)) if isinstance(node, Mapping) else 'nothing'
            raise ValueError(f'{where}: {path!r} is not in {result.file}, which has {known} instead of {key!r}; correct value.')
    if node is not None and not isinstance(node, int | float):
        raise ValueError(f'{where}: {path!r} in {result.file} is no number; correct value.')
    return node


def named_folders(texts: Iterable[str], option: str = '--run') -> dict[str, list[str]]:
    """Name -> its folders, in the order of the command line.

    Args:
        texts: Such as ``vpd=work_dirs/mine_seed0``.
        option: Whose values they are.

    Raises:
        ValueError: For a text of another form.
    """
    folders: dict[str, list[str]] = {}
    for text in texts:
        name, _, folder = text.partition('=')
        if not name or not folder:
            raise ValueError(f'{option} {text!r} must have the form NAME=FOLDER')
        folders.setdefault(name, []).append(folder)
    return folders


def check_folders(suite: Suite, folders: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for every folder that a suite has written for another run or with another config.

    Args:
        suite: Whose runs they replace; unknown names are left to :func:`mmseg_dafm.experiments.suites.write.gather`.
        folders: Run -> folders.

    Raises:
        ValueError: If a folder is named twice, two folders of a run hold the same seed, or one holds no results.
    """
    warnings = []
    seen: dict[Path, str] = {}
    for name, given in folders.items():
        for folder in given:
            text = f'--run {name}={folder}'
            if (place := Path(folder).resolve()) in seen:
                raise ValueError(f'{text} names the folder of {seen[place]} again: give each folder once')
            seen[place] = text
    for run in suite.runs:
        labels: dict[str, str] = {}
        for folder in folders.get(run.name, ()):
            label = read_folder(folder, f'--run {run.name}').label
            if label in labels:
                raise ValueError(f'--run {run.name}: {labels[label]} and {folder} both hold seed {label}: leave one out')
            labels[label] = folder
            record = read_json(Path(folder) / DONE)
            if record and record.get('run') != run.name:
                warnings.append(f'--run {run.name}={folder}: its {DONE} is of the run {record.get("run")!r}')
            elif record and run.kind == 'config' and record.get('hash') != run_hash(suite, run):
                warnings.append(f'--run {run.name}={folder}: its {DONE} is of another config or other options')
    return warnings


# rows that differ in one of these must not be compared
PROTOCOL = ('data', 'scales', 'mode', 'crop', 'stride', 'tta', 'checkpoint')
# of the training; runs of other tools and by hand do not say
TRAINED = ('processes', 'batch_size')
VERSIONS = ('mmseg_dafm', 'torch')


def stamp(suite: Suite, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Lines of plain text: the protocol of every part of the table, versions and commits.

    Args:
        suite: Whose runs are shown.
        results: Run -> its finished seeds.
    """
    shown = [run for run in suite.runs if run.row is not None]
    tested = [(run, result) for run in shown for result in results.get(run.name, ())]
    if not tested:
        return ['Protocol: nothing was run.']
    lines = []
    for part in dict.fromkeys(run.part for run in shown):
        rows = [(run.row, result) for run, result in tested if run.part == part and result.protocol]
        if rows:
            lines += _of_part(f'Protocol of {part}' if part else 'Protocol', rows)
    for key in VERSIONS:
        found = sorted({str(result.protocol[key]) for _, result in tested if key in result.protocol})
        lines += [f'{key}: {", ".join(found)}'] if found else []
    commits = sorted({result.commit for _, result in tested})
    lines.append(f'commit: {", ".join(commits)}')
    return lines


def _of_part(title: str, rows: Sequence[tuple[str, Result]]) -> list[str]:
    same, differing = [], []
    for key in (*PROTOCOL, *TRAINED):
        found: dict[str, list[str]] = {}
        for row, result in rows:
            if key in TRAINED and result.protocol.get(key) is None:
                continue
            names = found.setdefault(show(result.protocol.get(key, 'unknown')), [])
            if row not in names:
                names.append(row)
        if len(found) == 1:
            same.append(f'{key} {next(iter(found))}')
        elif found:
            differing.append(f'{key} ' + '; '.join(f'{value} ({", ".join(names)})' for value, names in found.items()))
    lines = [f'WARNING, ROWS DIFFER IN PROTOCOL and cannot be compared: {text}' for text in differing]
    return [*lines, f'{title}: {", ".join(same)}']
