"""estimate_dr_fim, plot_sensitivity and compare_scores, as a user runs them."""

import json
import runpy
import subprocess
import sys

import pytest
import torch

from mmseg_dafm.fishertune.score_file import load_fisher
from tests.hooks.fisher_run import config, train
from tests.processes import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def warm(tmp_path_factory):
    """A config file and a checkpoint whose head is warmed up."""
    folder = tmp_path_factory.mktemp('warm')
    cfg = config(folder / 'run', iterations=3)
    train(cfg)
    cfg.custom_imports = dict(imports=['mmseg_dafm'])
    cfg.dump(folder / 'config.py')
    return folder, folder / 'config.py', folder / 'run' / 'iter_2.pth'


def tool(name, *arguments):
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def halves(warm):
    folder, cfg, checkpoint = warm
    files = [folder / f'half{i}.safetensors' for i in range(2)]
    for i, file in enumerate(files):
        done = tool('estimate_dr_fim.py', cfg, checkpoint, '--out', file, '--part', f'{i}/2', '--options', 'images=4')
        assert done.returncode == 0, done.stderr
    return files


def test_offline_estimation_is_the_hooks(warm):
    folder, cfg, checkpoint = warm
    out = folder / 'scores.safetensors'
    done = tool('estimate_dr_fim.py', cfg, checkpoint, '--out', out)
    assert '6 images, plain, path batched' in done.stdout, done.stderr
    ours, hooks = load_fisher(out), load_fisher(folder / 'run' / 'dr_fim.safetensors')
    assert ours.meta['weights'] == hooks.meta['weights']
    assert ours.meta['conditions'] == hooks.meta['conditions']
    for name, F in hooks.clean.items():
        assert (ours.clean[name] - F).abs().max() < 1e-5 * F.max()


def test_a_bare_state_dict_and_the_seed_of_the_config(warm, tmp_path, capsys, monkeypatch):
    _, cfg, checkpoint = warm
    torch.save(torch.load(checkpoint, weights_only=False)['state_dict'], tmp_path / 'bare.pth')
    out = tmp_path / 'scores.safetensors'
    arguments = [cfg, tmp_path / 'bare.pth', '--out', out, '--cfg-options', 'randomness.seed=5', 'custom_hooks.0.seed=None']
    monkeypatch.setattr(sys, 'argv', ['estimate_dr_fim.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools/estimate_dr_fim.py'), run_name='__main__')
    assert 'seed 5' in capsys.readouterr().out
    assert load_fisher(out).meta['seed'] == 5


def test_files_of_other_candidates_are_not_compared(warm, halves, tmp_path, monkeypatch):
    _, cfg, checkpoint = warm
    other = tmp_path / 'q.safetensors'
    changes = ['optim_wrapper.paramwise_cfg.candidates.kinds=[q]', 'custom_hooks.0.estimation.images=4']
    done = tool('estimate_dr_fim.py', cfg, checkpoint, '--out', other, '--cfg-options', *changes)
    assert done.returncode == 0, done.stderr
    said = refused('analysis_tools/compare_scores.py', [halves[0], other], monkeypatch)
    assert 'of different models' in said or 'of different candidates' in said
    assert "--coef 'big' must be abs, raw or a number" in refused(
        'analysis_tools/compare_scores.py', [*halves, '--coef', 'big'], monkeypatch
    )


def test_comparison(halves, tmp_path):
    done = tool('analysis_tools/compare_scores.py', *halves, '--criteria', 'F', 'dF', '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'null: half0 against half1' in done.stdout
    record = json.loads((tmp_path / 'overlap.json').read_text())
    pairs = {(each['first'], each['second']): each for each in record['agreements']}
    assert set(pairs) == {('half0 F', 'half0 dF'), ('half1 F', 'half1 dF'), ('half0 F', 'half1 F'), ('half0 dF', 'half1 dF')}
    assert 0 < pairs['half0 F', 'half1 F']['jaccard'] < 1
    assert (tmp_path / 'overlap.png').stat().st_size > 5000
    assert 'different conditions' not in done.stderr


def test_files_of_another_data_set_are_compared_with_a_warning(warm, halves, tmp_path):
    _, cfg, checkpoint = warm
    other = tmp_path / 'other.safetensors'
    changes = ['train_dataloader.dataset.length=8', 'custom_hooks.0.estimation.images=4']
    done = tool('estimate_dr_fim.py', cfg, checkpoint, '--out', other, '--cfg-options', *changes)
    assert done.returncode == 0, done.stderr
    done = tool('analysis_tools/compare_scores.py', halves[0], other, '--criteria', 'F', '--out', tmp_path)
    assert 'half0 and other were estimated under different conditions: dataset.length (9 there, 8 here)' in done.stderr


def test_files_that_overlap_give_no_null_line(warm, halves, tmp_path):
    full = warm[0] / 'run' / 'dr_fim.safetensors'
    done = tool('analysis_tools/compare_scores.py', full, halves[0], '--criteria', 'F', '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'null' not in done.stdout


def test_picture(halves, tmp_path):
    out = tmp_path / 'map.png'
    done = tool('analysis_tools/plot_sensitivity.py', halves[0], '--out', out)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.with_suffix('.json').read_text())
    assert set(record['parts']) == {'rank', 'F', 'dF'}
    assert out.stat().st_size > 10_000


def refused(name, arguments, monkeypatch):
    """What a tool says when it ends with an error; run in this process, which is quicker than a new one."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    return str(end.value)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{cfg}', 'none.pth', '--out', 'x'], 'none.pth does not exist'),
        (['none.py', '{checkpoint}', '--out', 'x'], 'none.py does not exist'),
        (['{cfg}', '{checkpoint}', '--out', 'x', '--options', 'imges=3'], "a key that does not exist: 'imges'"),
        (['{cfg}', '{checkpoint}', '--out', 'x', '--options', 'images=many'], "estimation.images='many' must be a whole number"),
        (['{cfg}', '{cfg}', '--out', 'x'], 'cannot be read: it is cut off or no checkpoint'),
        (['{cfg}', '{renamed}', '--out', 'x'], 'renamed.pth does not fit '),
        (['{cfg}', '{checkpoint}', '--out', 'x', '--part', '2/2'], 'must be (i, n)'),
        (['{cfg}', '{checkpoint}', '--out', 'x', '--part', 'half'], "--part 'half' must be i/n"),
    ],
)
def test_bad_input(warm, arguments, message, monkeypatch):
    folder, cfg, checkpoint = warm
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    renamed = {name.replace('backbone', 'encoder'): value for name, value in state.items()}
    torch.save(dict(state_dict=renamed), folder / 'renamed.pth')
    files = dict(cfg=cfg, checkpoint=checkpoint, renamed=folder / 'renamed.pth')
    said = refused('estimate_dr_fim.py', [a.format(**files) for a in arguments], monkeypatch)
    assert said.startswith('error: ')
    assert message in said


@pytest.mark.parametrize('name', ['compare_scores', 'plot_sensitivity'])
def test_files_that_are_no_scores(warm, name, monkeypatch):
    assert 'no whole safetensors file' in refused(f'analysis_tools/{name}.py', [warm[2]], monkeypatch)
