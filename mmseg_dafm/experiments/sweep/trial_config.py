"""The config that all trials of a sweep share, and the options that set a trial's learning rates."""

from collections.abc import Mapping

from mmengine.config import Config, ConfigDict

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
