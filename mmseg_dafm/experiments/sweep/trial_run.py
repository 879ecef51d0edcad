"""One trial of a sweep: `tools/train.py` in a process of its own, its result in a JSON file."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.folder_lock import locked
from mmseg_dafm.evaluation.tables import without_nan
from mmseg_dafm.experiments.sweep.plan import Point

# what the last line of a crash says when numbers, not code, were the reason
NOT_FINITE = re.compile(r'\b(nan|nans|inf|infs|infinity|infinite|non-?finite|not finite)\b', re.IGNORECASE)


def trial_name(point: Point) -> str:
    """The folder name of a point; different points have different names."""
    return f'feature{point.feature_lr!r}_head{point.head_lr!r}'


def read_scalars(work_dir: Path) -> list[dict]:
    """All lines that mmengine's LocalVisBackend has written in a work dir, the oldest run first; broken ones are left out."""
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue  # the run was cut off while it wrote
    return lines


def has_diverged(scalars: Sequence[Mapping]) -> bool:
    """Whether the last training loss is not finite; one odd loss that mixed precision has skipped does not count."""
    losses = [line['loss'] for line in scalars if 'loss' in line]
    return bool(losses) and not math.isfinite(losses[-1])


def results_at(scalars: Sequence[Mapping], iteration: int) -> dict[str, float | None] | None:
    """The result of the validation after ``iteration``, nan as None; None if there was no validation."""
    found = [line for line in scalars if 'loss' not in line and line.get('step') == iteration]
    if not found:
        return None
    return without_nan({key: value for key, value in found[-1].items() if key not in ('step', 'time', 'data_time')})


def score_of(record: Mapping, metric: str) -> float:
    """The score in a trial's record; nan if the trial diverged.

    Raises:
        ValueError: If the validation has no such metric; the sentence names those that it has.
    """
    if record['diverged']:
        return math.nan
    if metric not in record['results']:
        raise ValueError(f'--metric {metric} is not a result of the validation: choose from {sorted(record["results"])}.')
    value = record['results'][metric]
    return math.nan if value is None else float(value)


def run_trial(config: Path, work_dir: Path, options: Sequence[str], iterations: int, train_tool: Path, device: str = '') -> dict:
    """Train a point and return its record; a finished trial is read back, one that was cut off goes on.

    Args:
        config: the config that all trials share.
        work_dir: folder of the trial.
        options: ``key=value`` changes that set its rates.
        iterations: length of the training.
        train_tool: tools/train.py.
        device: ``CUDA_VISIBLE_DEVICES`` of the process; empty for none.

    Returns:
        ``dict(diverged, results, minutes)``, the results as :func:`results_at` gives them.

    Raises:
        RuntimeError: If another process trains in the folder, such as the training of a sweep that was killed; or if the
            training stopped for another reason than numbers; the sentence holds its last line.
    """
    with locked(work_dir) as lock:
        if lock is None:
            raise RuntimeError(
                f'another process trains in {work_dir}, perhaps for a sweep that was killed: wait for its end or stop it, then '
                'start again.'
            )
        return _train(config, work_dir, options, iterations, train_tool, device, lock)


def _train(
    config: Path, work_dir: Path, options: Sequence[str], iterations: int, train_tool: Path, device: str, lock: int
) -> dict:
    """:func:`run_trial` in a folder whose lock is held; the training holds it, too."""
    record_file = work_dir / 'trial.json'
    if record_file.is_file():
        return json.loads(record_file.read_text())
    start = time.time()
    log = work_dir / 'stdout.txt'
    command = [sys.executable, '-W', 'ignore', str(train_tool), str(config), '--work-dir', str(work_dir), '--resume']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': device}
    with open(log, 'w') as file:
        command += ['--cfg-options', *options]
        code = subprocess.run(command, env=environment, stdout=file, stderr=file, pass_fds=(lock,)).returncode
    scalars = read_scalars(work_dir)
    diverged, results = has_diverged(scalars), results_at(scalars, iterations)
    if code and not diverged:
        last = next((line for line in reversed(log.read_text(errors='replace').splitlines()) if line.strip()), 'no output')
        if not NOT_FINITE.search(last):
            raise RuntimeError(f'the training of {work_dir.name} stopped with exit code {code}: {last} (all of it: {log})')
        diverged = True
    if not diverged and results is None:
        raise RuntimeError(f'the training of {work_dir.name} ended without a validation: its config needs val_dataloader.')
    record = dict(diverged=diverged, results=results or {}, minutes=round((time.time() - start) / 60, 2))
    with replacing(record_file) as temporary:
        temporary.write_text(json.dumps(record))
    for checkpoint in work_dir.glob('*.pth'):
        checkpoint.unlink()
    return record
