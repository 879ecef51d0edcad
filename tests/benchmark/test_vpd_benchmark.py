"""tools/benchmark/vpd.py: contestants compute the same, bytes are counted right, the report has what it promises."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'tools' / 'benchmark'


@pytest.fixture(scope='module')
def vpd():
    """The script as a module; its helpers lie beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import vpd as module

        yield module
        for name in ('vpd', 'contestants', 'measure', 'report'):
            sys.modules.pop(name, None)


@pytest.fixture(scope='module')
def fake_bytes(vpd):
    """Saved bytes at 64 and at 128 px, by fake tensors."""
    args = Namespace(arch='small', batch=1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return [vpd.saved(args, size, torch.device('cpu')) for size in (64, 128)]


@pytest.fixture
def small(vpd):
    backbone, images = vpd.build_backbone('small', 64, 2, torch.device('cpu'))
    # away from the symmetric start: class tokens that differ make maps that differ
    torch.manual_seed(1)
    return backbone.double(), images.double(), backbone.latents


def outputs(vpd, small, name):
    backbone, images, given = small
    given.latents = given.latents.double()
    backbone.zero_grad()
    outs = vpd.CONTESTANTS[name](backbone, images)
    vpd.backward(outs)
    return outs, {key: value.grad.clone() for key, value in backbone.named_parameters() if value.grad is not None}


@pytest.mark.parametrize('name', ['ours + checkpointing', 'explicit'])
def test_contestants_compute_what_vpd_backbone_computes(vpd, small, name):
    expected, gradients = outputs(vpd, small, 'ours')
    found, theirs = outputs(vpd, small, name)
    assert [out.shape[1] for out in found] == [64, 128 + 19, 128 + 19, 128]
    for ours, out in zip(expected, found, strict=True):
        assert torch.allclose(ours, out, atol=1e-9)
    assert theirs.keys() == gradients.keys()
    for key, value in gradients.items():
        assert torch.allclose(theirs[key], value, atol=1e-7 * value.abs().max().clamp_min(1).item()), key


def test_the_floor_is_the_first_feature(vpd, small):
    expected, _ = outputs(vpd, small, 'ours')
    found, _ = outputs(vpd, small, 'floor')
    assert len(found) == 1
    assert torch.allclose(found[0], expected[0], atol=1e-9)


def test_saved_bytes_of_a_hand_counted_network(vpd):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, x):
            # exp saves its output (once, though two products save it too); the products save weight, which is not counted
            y = x.exp()
            return y @ self.weight + y.mT @ self.weight

    net, x = Net(), torch.zeros(4, 4, requires_grad=True)
    assert vpd.saved_bytes(lambda: net(x), net, [x]) == 4 * 4 * 4
    assert vpd.saved_bytes(lambda: net(x).square(), net, [x]) == 2 * 4 * 4 * 4


@pytest.mark.slow
def test_fake_tensors_count_the_same_bytes_as_real_ones(vpd, fake_bytes):
    fake, real = fake_bytes[0], vpd.saved(Namespace(arch='small', batch=1), 64, torch.device('cpu'), fake=False)
    # convolutions choose other memory layouts for fake tensors, so that a few copies differ
    assert fake == pytest.approx(real, rel=0.02)
    assert fake['ours + checkpointing'] < fake['ours'] < fake['explicit']
    assert fake['floor'] <= fake['ours']


def test_saved_bytes_grow_with_the_image_and_explicit_attention_grows_fastest(fake_bytes):
    little, large = fake_bytes
    growth = {name: large[name] / little[name] for name in little}
    assert 3.5 < growth['ours'] < 4.3  # linear in pixels, but for the few bytes of the context
    assert growth['explicit'] > 1.1 * growth['ours']


@pytest.mark.slow
def test_the_script_writes_json_and_a_table_with_every_goal(vpd, tmp_path, monkeypatch, capsys):
    arguments = ['--arch', 'small', '--sizes', '64', '--repeats', '1', '--warmup', '0', '--device', 'cpu', '--out', tmp_path]
    monkeypatch.setattr(sys, 'argv', ['vpd.py', *map(str, arguments)])
    monkeypatch.setattr(vpd.torch, 'set_num_threads', lambda count: None)
    vpd.main()
    result = json.loads((tmp_path / 'vpd_small_64.json').read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['vpd_small_64.json', 'vpd_small_64.md']
    part = result['sizes']['64']
    assert part['times'].keys() == {*vpd.CONTESTANTS, 'W', 'W, remembered', 'VAE encoder'}
    assert part['saved'].keys() == vpd.CONTESTANTS.keys()
    assert all(value > 0 for values in part['times'].values() for value in (values['wall'], values['cpu']))
    assert result['windows']['count'] == 18
    assert [row['goal'] for row in result['goals']] == [
        'step / floor', 'saved / explicit', 'saved with checkpointing / explicit', 'W / step', 'W, mean of 54 visits / step',
        'windows: one at a time / default',
    ]  # fmt: skip
    environment = result['environment']
    assert environment['torch'] == torch.__version__
    assert environment['hardware']
    table = (tmp_path / 'vpd_small_64.md').read_text()
    assert table in capsys.readouterr().out
    assert all(row['goal'] in table for row in result['goals'])


def test_goals_are_judged_by_their_limits(vpd):
    from report import judge

    assert judge('step / floor', 1.10, False)['met']
    assert not judge('step / floor', 1.11, False)['met']
    assert not judge('W / step', 0.02, False)['met']
    assert judge('windows: one at a time / default', 0.99, False)['met']
    assert not judge('windows: one at a time / default', 1.4, True)['met']


@pytest.mark.parametrize(('arguments', 'message'), [(['--sizes', '100'], 'multiples of 64'), (['--repeats', '0'], 'at least 1')])
def test_wrong_arguments_are_refused(vpd, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['vpd.py', *arguments])
    with pytest.raises(SystemExit):
        vpd.parse_args()
    assert message in capsys.readouterr().err
