"""CheckpointFitHook: tests refuse checkpoints that do not fit, trainings say how much of one does, and resume needs all of it."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

from tests.tools.tiny import call, write_tiny_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A tiny run of two iterations: folder with tiny.py and work/iter_1.pth, iter_2.pth."""
    folder = tmp_path_factory.mktemp('fit')
    config = write_tiny_run(folder, ROOT)
    done = call(ROOT / 'tools/train.py', config, '--work-dir', folder / 'work', cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def state_of(trained):
    return torch.load(trained / 'work/iter_2.pth', weights_only=False)['state_dict']


def with_fewer_classes(state):
    return {key: value[:1] if key.startswith('decode_head.conv_seg') else value for key, value in state.items()}


def without_the_head(state):
    return {key: value for key, value in state.items() if not key.startswith('decode_head')}


def diverged(state):
    return {key: value * float('nan') if key == 'backbone.conv1.weight' else value for key, value in state.items()}


FOREIGN = {
    'keys': (lambda state: {f'net.{index}': value for index, value in enumerate(state.values())}, '0 of 42 tensors fit'),
    'classes': (with_fewer_classes, r'2 have another shape \(decode_head.conv_seg.weight: \(1, 4, 1, 1\), not \(2, 4, 1, 1\)'),
    'part': (without_the_head, r'are missing \(decode_head'),
    'nan': (diverged, r'1 of 42 tensors are not finite \(backbone.conv1.weight\)'),
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', FOREIGN)
def test_a_test_refuses_a_checkpoint_that_does_not_fit(trained, tmp_path, kind):
    """The same hook works under mmseg's own test tool: all it does is Runner.test()."""
    change, words = FOREIGN[kind]
    torch.save({'state_dict': change(state_of(trained))}, tmp_path / 'foreign.pth')
    cfg = Config.fromfile(trained / 'tiny.py')
    cfg.update(load_from=str(tmp_path / 'foreign.pth'), work_dir=str(tmp_path / 'w'), experiment_name=f'fit_{kind}')
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=words) as error:
        runner.test()
    assert 'foreign.pth' in str(error.value)


@pytest.mark.slow
def test_the_tool_ends_in_one_sentence_without_a_table(trained, tmp_path):
    torch.save({'state_dict': {'a.b': torch.ones(1)}}, tmp_path / 'foreign.pth')
    done = call(ROOT / 'tools/test.py', trained / 'tiny.py', tmp_path / 'foreign.pth', '--work-dir', tmp_path / 'w', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f'error: {tmp_path}/foreign.pth does not fit the EncoderDecoder')
    assert 'mIoU:' not in done.stdout + done.stderr
    assert not list(tmp_path.rglob('*.md'))


@pytest.mark.parametrize('names', [['right', 'left'], ['left', 'other']])
def test_classes_in_another_order_are_refused_and_other_names_told(trained, tmp_path, names):
    content = torch.load(trained / 'work/iter_2.pth', weights_only=False)
    content['meta']['dataset_meta'] = dict(classes=names, palette=[[0, 0, 0], [1, 1, 1]])
    torch.save(content, tmp_path / 'named.pth')
    cfg = Config.fromfile(trained / 'tiny.py')
    cfg.update(load_from=str(tmp_path / 'named.pth'), work_dir=str(tmp_path / 'w'), experiment_name=f'named_{names[1]}')
    runner = Runner.from_cfg(cfg)
    if sorted(names) == ['left', 'right']:
        with pytest.raises(ValueError, match=r'named.pth was trained on 2 classes.*0: right, left, 1: left, right'):
            runner.test()
        return
    runner.test()
    assert 'they differ in 1: other, right' in next((tmp_path / 'w').rglob('*.log')).read_text()


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'student.'])
def test_a_prefix_is_stripped_and_the_scores_are_the_same(trained, tmp_path, prefix):
    torch.save({'state_dict': {prefix + key: value for key, value in state_of(trained).items()}}, tmp_path / 'prefixed.pth')
    scores = []
    for index, path in enumerate((trained / 'work/iter_2.pth', tmp_path / 'prefixed.pth')):
        cfg = Config.fromfile(trained / 'tiny.py')
        cfg.update(load_from=str(path), work_dir=str(tmp_path / str(index)), experiment_name=f'prefix_{prefix}{index}')
        scores.append(Runner.from_cfg(cfg).test()['mIoU'])
    assert scores[0] == scores[1]


def train(trained, tmp_path, name, **changes):
    cfg = Config.fromfile(trained / 'tiny.py')
    cfg.merge_from_dict({'work_dir': str(tmp_path / 'w'), 'experiment_name': name, 'train_cfg.max_iters': 3, **changes})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return next((tmp_path / 'w').rglob('*.log')).read_text()


def test_a_training_starts_from_a_part_and_says_how_much(trained, tmp_path):
    torch.save({'state_dict': without_the_head(state_of(trained))}, tmp_path / 'part.pth')
    log = train(trained, tmp_path, 'part', load_from=str(tmp_path / 'part.pth'))
    assert f'{tmp_path}/part.pth: 30 of 42 tensors fit, 12 are missing (decode_head.conv_seg.weight' in log


@pytest.mark.slow
def test_a_training_does_not_start_from_nothing(trained, tmp_path):
    torch.save({'state_dict': {'a.b': torch.ones(1)}}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match=r'none.pth: no tensor fits EncoderDecoder'):
        train(trained, tmp_path, 'none', load_from=str(tmp_path / 'none.pth'))
    with pytest.raises(ValueError, match=r'init_cfg of ResNet: .*none.pth: no tensor fits ResNet'):
        train(
            trained,
            tmp_path,
            'none2',
            **{'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(tmp_path / 'none.pth'))},
        )


@pytest.mark.parametrize('prefix', [None, 'backbone', 'backbone.'])
def test_init_cfg_finds_the_backbone_of_a_segmentor_and_logs_its_share(trained, tmp_path, prefix):
    checkpoint = str(trained / 'work/iter_2.pth')
    given = {} if prefix is None else dict(prefix=prefix)
    cfg = Config.fromfile(trained / 'tiny.py')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint, **given)
    from mmengine.registry import init_default_scope

    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    model.init_weights()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state_of(trained)[f'backbone.{key}'])


def test_weights_alone_are_no_training_to_resume(trained, tmp_path):
    torch.save(state_of(trained), tmp_path / 'iter_9.pth')
    with pytest.raises(ValueError, match=r'iter_9.pth holds weights and no training state'):
        train(trained, tmp_path, 'resume', load_from=str(tmp_path / 'iter_9.pth'), resume=True)


@pytest.mark.slow
def test_a_moved_run_whose_last_file_is_half_goes_on_from_the_one_before(trained, tmp_path):
    shutil.copytree(trained / 'work', tmp_path / 'moved')
    last = tmp_path / 'moved/iter_2.pth'
    last.write_bytes(last.read_bytes()[:1000])
    arguments = ('--work-dir', tmp_path / 'moved', '--resume', '--cfg-options', 'train_cfg.max_iters=3')
    done = call(ROOT / 'tools/train.py', trained / 'tiny.py', *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'iter_2.pth in' in done.stdout + done.stderr
    assert 'going on from iter_1.pth' in done.stdout + done.stderr
    assert 'resumed epoch: 0, iter: 1' in done.stdout + done.stderr
    assert (tmp_path / 'moved/iter_3.pth').is_file()
    content = torch.load(tmp_path / 'moved/iter_3.pth', weights_only=False)
    # what reads the config of the run, such as the metric's tables, finds this run's
    assert f"work_dir = '{tmp_path}/moved'" in content['message_hub']['runtime_info']['cfg']


@pytest.mark.slow
def test_the_doctor_compares_a_checkpoint_with_a_config(trained, tmp_path, capsys):
    from mmseg_dafm.doctor.__main__ import main

    arguments = ['--config', str(trained / 'tiny.py'), '--checkpoint']
    assert main([*arguments, str(trained / 'work/iter_2.pth')]) == 0
    assert '42 of 42 tensors fit' in capsys.readouterr().out
    torch.save({'state_dict': without_the_head(state_of(trained))}, tmp_path / 'part.pth')
    assert main([*arguments, str(tmp_path / 'part.pth')]) == 1
    assert '30 of 42 tensors fit' in ' '.join(capsys.readouterr().out.split())


def test_a_training_is_not_resumed_with_another_seed(trained, tmp_path):
    """mmengine would go on with the checkpoint's seed."""
    shutil.copytree(trained / 'work', tmp_path / 'work')
    old = torch.load(tmp_path / 'work/iter_1.pth', weights_only=False)['meta']['seed']
    options = ['--work-dir', tmp_path / 'work', '--resume', '--cfg-options', 'train_cfg.max_iters=3']
    done = call(ROOT / 'tools/train.py', trained / 'tiny.py', *options, f'randomness.seed={old + 1}', cwd=trained)
    assert done.returncode == 1
    assert f'was trained with seed {old}, and the config has randomness.seed={old + 1}' in done.stderr
    done = call(ROOT / 'tools/train.py', trained / 'tiny.py', *options, f'randomness.seed={old}', cwd=trained)
    assert done.returncode == 0, done.stderr
