"""tools/lr_sweep.py as a user runs it, on the tiny run; and its refusals."""

import json
from pathlib import Path

import pytest
from tiny import run_main, write_tiny_run

from mmseg_dafm.experiments.sweep import trials as trial_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/lr_sweep.py'
WRAPPER = "optim_wrapper = dict(constructor='DAFTOptimWrapperConstructor', optimizer=dict(type='SGD', momentum=0.9))\n"
SCHEDULE = "param_scheduler = [dict(type='PolyLR', eta_min=0.0, begin=0, end=8, by_epoch=False)]\n"


@pytest.fixture
def config(tmp_path):
    path = write_tiny_run(tmp_path, ROOT)
    lines = [line for line in path.read_text().splitlines() if not line.startswith('optim_wrapper')]
    text = '\n'.join(lines).replace('max_iters=2, val_interval=2', 'max_iters=8, val_interval=8')
    path.write_text(f'{text}\n{WRAPPER}{SCHEDULE}')
    return path


def sweep(config, monkeypatch, *arguments) -> dict:
    """The tool in this process; its trials are processes of their own."""
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    run_main(TOOL, monkeypatch, config, '--out', 'sweep', '--iters', 2, '--holdout', 0.34, *arguments)
    return json.loads((config.parent / 'sweep/sweep.json').read_text())


@pytest.mark.slow
def test_two_steps_with_a_diverging_rate_then_again_after_a_cut(config, monkeypatch, capsys):
    rates = ['--feature-lrs', 1e30, 0.01, '--head-lrs', 0.1, '--fixed-head-lr', 1.0, '--jobs', 2]
    data = sweep(config, monkeypatch, *rates)
    assert (data['trials_run'], data['diverged'], data['images_trained'], data['images_held_out']) == (3, 1, 4, 2)
    scores = {(trial['feature_lr'], trial['head_lr']): trial['score'] for trial in data['trials']}
    assert scores[1e30, 1.0] is None
    assert data['chosen']['feature_lr'] == 0.01
    assert data['chosen']['score'] == max(score for score in scores.values() if score is not None)
    assert 'optim_wrapper.paramwise_cfg.feature_lr=0.01' in data['cfg_options']
    options = ' '.join(data['cfg_options'])
    assert capsys.readouterr().out.rstrip().endswith(f'chosen:\n--cfg-options {options}')
    folder = config.parent / 'sweep'
    assert {'sweep.json', 'sweep.md', 'sweep.png', 'trial_config.py', 'trials'} == {path.name for path in folder.iterdir()}
    records = {path: path.read_text() for path in folder.rglob('trial.json')}
    cut = folder / 'trials/feature0.01_head0.1/trial.json'
    cut.unlink()
    times = {path: path.stat().st_mtime_ns for path in records if path != cut}
    assert sweep(config, monkeypatch, *rates)['trials'] == data['trials']
    assert {path: path.stat().st_mtime_ns for path in records if path != cut} == times, 'finished trials are kept'
    assert json.loads(cut.read_text())['results'] == json.loads(records[cut])['results']


def test_tied_rates_within_a_budget(config, monkeypatch, capsys):
    asked = []

    def fake(config, folder, options, iterations, tool, device):
        asked.append([float(option.split('=')[1]) for option in options])
        return dict(diverged=asked[-1][0] > 0.05, results=dict(mIoU=10.0), minutes=0.0)

    monkeypatch.setattr(trial_run, 'run_trial', fake)
    data = sweep(config, monkeypatch, '--tied', '--feature-lrs', 0.1, 0.03, 0.01, '--budget', 2, '--select', 'val')
    assert asked == [[0.1, 0.1], [0.01, 0.01]]
    assert (data['trials_run'], data['budget'], data['diverged'], data['chosen']['head_lr']) == (2, 2, 1, 0.01)
    assert 'test-set tuning' in capsys.readouterr().out


@pytest.mark.parametrize('method', [['--tied'], ['--tied', 'lp-ft'], ['--head-only'], []], ids=' '.join)
@pytest.mark.parametrize('budget', [8, 14])
def test_every_method_gets_the_budget(config, monkeypatch, method, budget):
    record = dict(diverged=False, results=dict(mIoU=10.0), minutes=0.0)
    monkeypatch.setattr(trial_run, 'run_trial', lambda *_: record)
    assert sweep(config, monkeypatch, *method, '--budget', budget)['trials_run'] == budget


@pytest.mark.parametrize('norm', [None, 23.4])
def test_the_norm_of_converted_features_is_printed_after_step_1_and_kept(config, monkeypatch, capsys, norm):
    def fake(config, folder, options, iterations, tool, device):
        folder.mkdir(parents=True)
        if norm is not None:
            (folder / 'bn_conversion.json').write_text(json.dumps(dict(feature_norm=norm)))
        return dict(diverged=False, results=dict(mIoU=10.0), minutes=0.0)

    monkeypatch.setattr(trial_run, 'run_trial', fake)
    assert sweep(config, monkeypatch, '--budget', 2)['feature_norm'] == norm
    said, note = capsys.readouterr().out, 'mean feature norm after conversion: 23.4;'
    assert said.count(note) == (norm is not None)
    if norm is not None:
        assert said.index(note) < said.index('step 2')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tied', '--feature-lrs', 0.1, 0.01, '--budget', 3], '--budget 3 asks for more trials than the 2 that the given'),
        (['--fixed-head-lr', -1], '--fixed-head-lr must be a positive number, got -1.0'),
        (['--fixed-head-lr', 'nan'], '--fixed-head-lr must be a positive number, got nan'),
        (['--tied', '--head-lrs', 0.1], '--tied does not use --head-lrs: leave it out'),
        (['--head-only', '--feature-lrs', 0.1, '--rounds', 2], '--head-only does not use --feature-lrs, --rounds: leave it out'),
        (['--tied', 'lp-ft', '--fixed-head-lr', 1.0], '--tied does not use --fixed-head-lr'),
        (['--rounds', 0], '1 round or more'),
        (['--budget', 1], '--budget 1 is below one trial for each of the 2 steps'),
        (['--head-lrs', -1], 'head_lrs must be distinct positive numbers'),
        (['--jobs', 0], '--jobs must be 1 or more'),
        (['--holdout', 1.5], 'the held-out share must lie between 0 and 1, got 1.5'),
        (['--group-by', 'day'], "--group-by 'day' does not occur in the image path"),
        (['--cfg-options', 'optim_wrapper.constructor=None'], 'has one learning rate: sweep it with --tied'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], "data_root='nowhere'"),
        (['--iters', 0], '--iters must be 1 or more'),
        (
            ['--cfg-options', 'param_scheduler.0.eta_min=1e-4'],
            'raises the rate of the smallest feature rate from 3e-06 to 0.0001',
        ),
    ],
)
def test_bad_input_is_one_sentence_before_any_trial(config, monkeypatch, arguments, message):
    monkeypatch.chdir(config.parent)
    with pytest.raises(SystemExit) as info:
        run_main(TOOL, monkeypatch, config, *arguments)
    assert str(info.value).startswith('error: ')
    assert message in str(info.value)
    assert len(str(info.value).splitlines()) == 1
    assert not list(config.parent.rglob('trials'))


def test_another_config_in_the_same_folder_is_refused(config, monkeypatch):
    (config.parent / 'sweep').mkdir()
    (config.parent / 'sweep/trial_config.py').write_text('a = 1\n')
    with pytest.raises(SystemExit, match='holds a sweep with another config, split or length: choose another --out'):
        run_main(TOOL, monkeypatch, config, '--out', config.parent / 'sweep')


def test_a_missing_config_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r'error: config none\.py does not exist'):
        run_main(TOOL, monkeypatch, 'none.py')
