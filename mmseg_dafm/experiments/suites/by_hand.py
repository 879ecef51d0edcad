"""Folders that take the place of a suite's run on the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg_dafm.experiments.suites.results import read_folder
from mmseg_dafm.experiments.suites.run_config import run_hash
from mmseg_dafm.experiments.suites.state import DONE, read_json
from mmseg_dafm.experiments.suites.suite_file import Suite


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
