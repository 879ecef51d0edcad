"""Trials of a sweep: their configs, and running them."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmseg_dafm.core.files import locked, replacing
from mmseg_dafm.evaluation.tables import without_nan
from mmseg_dafm.experiments.sweep.plan import Point
from mmseg_dafm.optim.schedule_check import DAFT, uses_daft

CHECKPOINTS_PER_TRIAL = 4
LOGS_PER_TRIAL = 20


def shorten_schedule(cfg: Config, iterations: int) -> None:
    """Train for ``iterations`` and move the begin and end of every scheduler in proportion, in place.

    Raises:
        ValueError: If the config does not count in iterations.
    """
    old = cfg.train_cfg.get('max_iters')
    if old is None or cfg.train_cfg.get('type', 'IterBasedTrainLoop') != 'IterBasedTrainLoop':
        raise ValueError(f'a sweep needs train_cfg=dict(type="IterBasedTrainLoop", max_iters=...), got {dict(cfg.train_cfg)}.')
    if iterations < 1:
        raise ValueError(f'--iters must be 1 or more, got {iterations}.')
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
        if scheduler.get('by_epoch', True):
            raise ValueError(f'param_scheduler {scheduler.get("type")} counts epochs: set by_epoch=False.')
        for key in ('begin', 'end', 'T_max', 'total_iters'):
            if scheduler.get(key):
                scheduler[key] = max(1, round(scheduler[key] * iterations / old))
    cfg.train_cfg.max_iters = iterations


def checkpoint_interval(iterations: int) -> int:
    """About a quarter of a trial, but no divisor of it.

    A trial that is cut off in its validation must have something to train when it goes on: with its last weights saved,
    mmengine would resume at the end and never validate.
    """
    interval = iterations // CHECKPOINTS_PER_TRIAL + 1
    while iterations % interval == 0:
        interval += 1
    return interval


def prepare(cfg: Config, iterations: int | None = None) -> None:
    """Make a training config that of a trial, in place: scored once, at its end, and able to go on when cut off.

    Scores and losses go to a JSON file; the loss is logged often enough to see it diverge. Nothing chooses a checkpoint by
    its validation, because the last weights are the ones that are scored.

    Args:
        cfg: a training config.
        iterations: length of a trial; None keeps the config's.

    Raises:
        ValueError: As :func:`shorten_schedule`.
    """
    iterations = cfg.train_cfg.get('max_iters', 0) if iterations is None else iterations
    shorten_schedule(cfg, iterations)
    cfg.train_cfg.val_interval = iterations
    cfg.train_cfg.pop('val_begin', None)
    cfg.train_cfg.pop('dynamic_intervals', None)
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.checkpoint = ConfigDict(
        type='CheckpointHook', by_epoch=False, interval=checkpoint_interval(iterations), max_keep_ckpts=2, save_last=False
    )
    logger = hooks.setdefault('logger', ConfigDict(type='LoggerHook'))
    logger.interval = max(1, min(logger.get('interval', 10), iterations // LOGS_PER_TRIAL))
    logger.log_metric_by_epoch = False
    cfg.setdefault('visualizer', ConfigDict(type='SegLocalVisualizer', name='visualizer'))
    cfg.visualizer.vis_backends = [ConfigDict(type='LocalVisBackend')]
    cfg.pop('work_dir', None)


def rate_options(cfg: Config, point: Point) -> dict[str, float]:
    """The ``--cfg-options`` that set a point's rates in a config.

    Args:
        cfg: a config with ``DAFTOptimWrapperConstructor``, or with any other constructor if both rates are equal.
        point: the rates.

    Returns:
        Key and value, in the order feature, head.

    Raises:
        ValueError: If the config has a single rate and the point two.
    """
    wrapper = cfg.optim_wrapper
    if uses_daft(wrapper):
        options = {f'optim_wrapper.paramwise_cfg.{key}': value for key, value in point._asdict().items()}
        if 'lr' in wrapper.optimizer:
            options['optim_wrapper.optimizer.lr'] = point.head_lr
        return options
    if point.feature_lr != point.head_lr:
        raise ValueError(
            f'{cfg.filename} has one learning rate: sweep it with --tied, or set optim_wrapper.constructor={DAFT!r}.'
        )
    return {'optim_wrapper.optimizer.lr': point.head_lr}


def as_arguments(options: Mapping[str, float]) -> list[str]:
    """Options as the command line takes them: ``key=value``, exact for floats."""
    return [f'{key}={value!r}' for key, value in options.items()]


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
