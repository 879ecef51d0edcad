"""Trial configs and records: schedules, rates, scores, divergence, resuming and crashes."""

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_dafm.experiments.sweep.plan import Outcome, Point, Trial
from mmseg_dafm.experiments.sweep.report import draw, to_dict, to_markdown, write_report
from mmseg_dafm.experiments.sweep.trials import (
    as_arguments,
    checkpoint_interval,
    has_diverged,
    prepare,
    rate_options,
    results_at,
    run_trial,
    score_of,
    trial_name,
)

TRAIN = """
import json, pathlib, sys
work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
assert '--resume' in sys.argv
rate = float(sys.argv[-1].split('=')[1])
runs = len(list(work.glob('run*')))
folder = work / f'run{runs}' / 'vis_data'
folder.mkdir(parents=True)
(work / 'iter_5.pth').touch()
lines = [dict(loss=1.0, step=5), dict(loss=float('nan') if rate > 1 else 0.5, step=9)]
if rate != 0.5:
    lines.append({'mIoU': 100 * rate, 'mIoU.dusk': float('nan'), 'time': 1.0, 'step': 10})
(folder / 'scalars.json').write_text('\\n'.join(map(json.dumps, lines)) + '\\n{"cut')
if rate == 0.25:
    raise RuntimeError('index 9 is out of bounds')
if rate == 0.75:
    raise ValueError('the statistics of layer 3 are not finite')
"""


@pytest.fixture
def train(tmp_path):
    path = tmp_path / 'train.py'
    path.write_text(TRAIN)
    return lambda rate: run_trial(Path('c.py'), tmp_path / trial_name(Point(rate, rate)), [f'lr={rate}'], 10, path)


def test_a_trial_is_trained_once_and_read_back(train, tmp_path):
    record = train(0.1)
    assert score_of(record, 'mIoU') == 10.0
    assert math.isnan(score_of(record, 'mIoU.dusk')), 'a score that is not a number counts as worst'
    assert train(0.1) == record
    folder = tmp_path / trial_name(Point(0.1, 0.1))
    assert len(list(folder.glob('run*'))) == 1
    assert not list(folder.glob('*.pth')), 'the weights of finished trials are removed'
    with pytest.raises(ValueError, match=r"--metric IoU is not a result of the validation: choose from \['mIoU', 'mIoU.dusk'\]"):
        score_of(record, 'IoU')


WAITING = """
import pathlib, sys, time
work = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
with open(work / 'calls', 'a') as file:
    file.write('x')
while not (work.parent / 'go').exists():
    time.sleep(0.02)
"""


@pytest.mark.slow
def test_a_training_that_outlives_its_killed_sweep_keeps_the_folder(tmp_path):
    (tmp_path / 'train.py').write_text(WAITING)
    code = (
        'import sys; from pathlib import Path; from mmseg_dafm.experiments.sweep.trials import run_trial;'
        'folder = Path(sys.argv[1]); run_trial(Path("c.py"), folder / "trial", ["lr=1"], 10, folder / "train.py")'
    )
    sweep = subprocess.Popen([sys.executable, '-c', code, str(tmp_path)])
    calls, deadline = tmp_path / 'trial/calls', time.time() + 60
    try:
        while not (calls.exists() and calls.read_text()) and time.time() < deadline:
            time.sleep(0.05)
    finally:
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
    again = lambda: run_trial(Path('c.py'), tmp_path / 'trial', ['lr=1'], 10, tmp_path / 'train.py')  # noqa: E731
    try:
        with pytest.raises(RuntimeError, match='another process trains in .*trial, perhaps for a sweep that was killed'):
            again()
        assert calls.read_text() == 'x', 'no second training joined it'
    finally:
        (tmp_path / 'go').touch()
    while True:  # until the first has ended
        with pytest.raises(RuntimeError) as refusal:
            again()
        if 'another process' not in str(refusal.value):
            break
        time.sleep(0.05)
    assert 'ended without a validation' in str(refusal.value)
    assert calls.read_text() == 'xx', 'it goes on when the first has ended'


def test_nan_counts_as_diverged_whether_it_crashes_or_not(train):
    for rate in (2.0, 0.75):
        record = train(rate)
        assert record['diverged']
        assert math.isnan(score_of(record, 'mIoU'))


def test_other_crashes_stop_with_the_last_line_and_keep_no_record(train, tmp_path):
    with pytest.raises(RuntimeError, match='exit code 1: RuntimeError: index 9 is out of bounds'):
        train(0.25)
    with pytest.raises(RuntimeError, match='ended without a validation'):
        train(0.5)
    assert not list(tmp_path.rglob('trial.json'))
    assert list((tmp_path / trial_name(Point(0.25, 0.25))).glob('iter_5.pth')), 'it can go on'


def test_only_the_last_loss_and_the_last_validation_count():
    lines = [dict(loss=math.inf, step=1), dict(loss=1.0, step=2), dict(mIoU=1.0, step=5), dict(mIoU=2.0, step=5)]
    assert not has_diverged(lines)
    assert results_at(lines, 5) == dict(mIoU=2.0)
    assert results_at(lines, 10) is None
    assert not has_diverged([])


def test_different_points_have_different_folders():
    points = [Point(f, h) for f in (1e-5, 1.0000001e-5, 0.1, 1.0) for h in (1e-5, 10.0)]
    assert len({trial_name(point) for point in points}) == len(points)


def config(**changes) -> Config:
    base = dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=200, val_interval=50, val_begin=1000),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
            dict(type='PolyLR', eta_min=0.0, begin=20, end=200, by_epoch=False),
        ],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=50), checkpoint=dict(save_best='mIoU.day', rule='greater')),
        work_dir='elsewhere',
    )
    return Config(dict(base, **changes))


def test_the_schedule_shrinks_with_the_trial():
    cfg = config()
    prepare(cfg, 40)
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 4), (4, 40)]
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (40, 40)
    assert 'val_begin' not in cfg.train_cfg
    assert cfg.default_hooks.logger.interval == 2
    assert 'save_best' not in cfg.default_hooks.checkpoint
    assert 'work_dir' not in cfg
    same = config()
    prepare(same)
    assert [(part.begin, part.end) for part in same.param_scheduler] == [(0, 20), (20, 200)]


@pytest.mark.parametrize('iterations', [*range(1, 40), 200, 30000])
def test_the_last_weights_are_never_saved(iterations):
    """Or a trial cut off while it validates would find nothing left to train, and end without a score."""
    assert iterations % checkpoint_interval(iterations) != 0


def test_epoch_based_configs_are_refused():
    with pytest.raises(ValueError, match='a sweep needs train_cfg=dict'):
        prepare(config(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3)))
    with pytest.raises(ValueError, match='param_scheduler StepLR counts epochs: set by_epoch=False'):
        prepare(config(param_scheduler=dict(type='StepLR')))
    with pytest.raises(ValueError, match='--iters must be 1 or more, got 0'):
        prepare(config(), 0)


@pytest.mark.parametrize('scope', ['', 'mmseg.'])
def test_rates_become_options(scope):
    daft = dict(constructor=f'{scope}DAFTOptimWrapperConstructor', optimizer=dict(type='SGD'))
    options = rate_options(config(optim_wrapper=daft), Point(3e-6, 0.1))
    assert as_arguments(options) == ['optim_wrapper.paramwise_cfg.feature_lr=3e-06', 'optim_wrapper.paramwise_cfg.head_lr=0.1']
    assert rate_options(config(), Point(0.3, 0.3)) == {'optim_wrapper.optimizer.lr': 0.3}
    with pytest.raises(ValueError, match='has one learning rate: sweep it with --tied'):
        rate_options(config(), Point(0.3, 0.1))


def outcome() -> Outcome:
    rows = [(0.1, 1.0, math.nan, 1), (0.01, 1.0, 40.0, 1), (1e-3, 1.0, 30.0, 1), (0.01, 0.1, 45.5, 2)]
    trials = tuple(Trial(Point(f, h), score, step) for f, h, score, step in rows)
    return Outcome(trials, trials[-1], ('step 2: a note',))


def test_the_report_states_trials_divergence_and_choice(tmp_path):
    settings = dict(config='configs/a.py', metric='mIoU', budget=4, groups_held_out=None)
    write_report(tmp_path, outcome(), ['feature', 'head'], ['a=0.01', 'b=0.1'], settings)
    data = json.loads((tmp_path / 'sweep.json').read_text())
    assert data == to_dict(outcome(), ['a=0.01', 'b=0.1'], settings)
    assert (data['trials_run'], data['diverged'], data['chosen']['head_lr']) == (4, 1, 0.1)
    assert data['trials'][0]['score'] is None
    text = (tmp_path / 'sweep.md').read_text()
    rows = [line for line in text.splitlines() if line.startswith('| ')][1:]
    assert rows[0] == '| 2 | 0.01 | 0.1 | 45.50 | chosen |'
    assert rows[-1] == '| 1 | 0.1 | 1 | diverged |  |'
    assert '--cfg-options a=0.01 b=0.1' in text
    assert text == to_markdown(outcome(), ['a=0.01', 'b=0.1'], settings)
    assert (tmp_path / 'sweep.png').stat().st_size > 5000


def test_the_picture_has_a_logarithmic_panel_per_rate_and_marks_choice_and_divergence():
    figure = draw(outcome(), ['feature', 'head', 'feature'], 'mIoU', 'title')
    assert [panel.get_xscale() for panel in figure.axes] == ['log', 'log']
    for panel in figure.axes:
        stars = [line for line in panel.lines if line.get_marker() == '*']
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in stars] == [
            (0.01 if panel is figure.axes[0] else 0.1, 45.5)
        ]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == 'x' and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[0.1]]
    drawn = [len(line.get_xdata()) for line in figure.axes[1].lines if line.get_marker() == 'o']
    assert drawn == [2], 'only the line that a step went along: head_lr at feature_lr=0.01'
