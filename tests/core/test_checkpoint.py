"""Reading checkpoints without running code, and comparing them with a model."""

import argparse
import collections
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from safetensors.torch import save_file
from torch import nn

from mmseg_dafm.core import checkpoint as core
from mmseg_dafm.core import fit


class Code:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def network():
    return nn.Sequential(collections.OrderedDict(backbone=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), head=nn.Conv2d(4, 2, 1)))


@pytest.mark.parametrize('options', [{}, {'_use_new_zipfile_serialization': False}], ids=['zip', 'legacy'])
def test_what_a_training_of_mmengine_writes_is_read(tmp_path, options):
    hub = MessageHub.get_instance('reader')
    hub.update_scalar('train/loss', 2.0)
    hub.update_scalar('train/loss', 4.0)
    hub.update_info('best_score', np.float64(3.5))
    optimizer = torch.optim.AdamW(network().parameters(), lr=1e-3)
    content = dict(
        meta=dict(iter=3, seed=np.int64(4), classes=('a', 'b'), args=argparse.Namespace(lr=0.1), dtype=torch.float16),
        state_dict=network().state_dict(),
        message_hub=hub.state_dict(),
        optimizer=optimizer.state_dict(),
        random=(np.random.get_state(), torch.get_rng_state(), torch.Size([2])),
        half=nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
    )
    torch.save(content, tmp_path / 'iter_3.pth', **options)
    read = core.read_checkpoint(tmp_path / 'iter_3.pth')
    assert read['meta'] == content['meta']
    assert all(torch.equal(read['state_dict'][key], value) for key, value in content['state_dict'].items())
    history = read['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.statistics('mean') == 3.0
    assert (read['random'][0][1] == content['random'][0][1]).all()
    MessageHub.get_instance('another').load_state_dict(read['message_hub'])


def test_code_is_refused_unless_trusted(tmp_path, monkeypatch):
    torch.save({'state_dict': {'a': torch.ones(1)}, 'hook': Code(tmp_path / 'ran')}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil.pth would run posix.system while .* --trust-checkpoint'):
        core.read_checkpoint(tmp_path / 'evil.pth')
    assert not (tmp_path / 'ran').exists()
    parser = argparse.ArgumentParser()
    parser.add_argument('--trust-checkpoint', action=core.TrustCheckpoint)
    monkeypatch.setenv(core.TRUST, '0')
    assert parser.parse_args(['--trust-checkpoint']).trust_checkpoint
    core.read_checkpoint(tmp_path / 'evil.pth')
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('name', ['eval', 'getattr', '__import__', 'exec'])
def test_builtins_are_refused(tmp_path, name):
    class Call:
        def __reduce__(self):
            return __builtins__[name] if isinstance(__builtins__, dict) else getattr(__builtins__, name), ('os', 'x')

    torch.save({'a': Call()}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil.pth would run .* while it is read'):
        core.read_checkpoint(tmp_path / 'evil.pth')


def test_a_method_of_the_history_is_no_way_out(tmp_path):
    class Call:
        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    torch.save({'a': Call()}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r"getattr\(.*HistoryBuffer.*'__init__'\)"):
        core.read_checkpoint(tmp_path / 'evil.pth')


@pytest.mark.parametrize('kind', ['cut', 'text', 'empty', 'pickle', 'cut.safetensors', 'folder'])
def test_files_that_cannot_be_read_are_named(tmp_path, kind):
    path = tmp_path / (kind if kind.endswith('.safetensors') else f'{kind}.pth')
    if kind == 'folder':
        path.mkdir()
    elif kind == 'cut.safetensors':
        save_file(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-50])
    elif kind == 'cut':
        torch.save(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path.write_bytes(dict(text=b'<html>not found</html>', empty=b'', pickle=pickle.dumps([1]))[kind])
    with pytest.raises((ValueError, FileNotFoundError), match=path.name):
        core.read_checkpoint(path)


def test_torchscript_and_safetensors(tmp_path):
    model = network().eval()
    torch.jit.trace(model, torch.zeros(1, 3, 4, 4)).save(tmp_path / 'scripted.pt')
    save_file(model.state_dict(), tmp_path / 'plain.safetensors')
    for name in ('scripted.pt', 'plain.safetensors'):
        assert core.read_weights(tmp_path / name).keys() == model.state_dict().keys()


@pytest.mark.parametrize('wrap', [None, 'state_dict', 'model', 'module'])
@pytest.mark.parametrize('prefix', ['', 'module.', 'model.', 'module.student.', '_orig_mod.'])
def test_weights_fit_under_prefixes_and_wrappers(tmp_path, wrap, prefix):
    state = {f'{prefix}{key}': value for key, value in network().state_dict().items()}
    torch.save(state if wrap is None else {wrap: state, 'epoch': 3}, tmp_path / 'a.pth')
    model = network()
    fit.load_weights(model, tmp_path / 'a.pth')
    assert all(torch.equal(value, state[prefix + key]) for key, value in model.state_dict().items())
    found = fit.compare(model, state)
    assert found.complete
    assert not found.left
    assert found.prefix == ('' if prefix == '_orig_mod.' else prefix)
    assert (found.prefix in str(found)) or not found.prefix


def test_a_backbone_is_found_inside_a_segmentor():
    state = {f'backbone.{key}': value for key, value in network().state_dict().items()} | {'decode_head.weight': torch.ones(2)}
    found = fit.compare(network(), state)
    assert found.complete
    assert found.prefix == 'backbone.'
    assert found.left == ['decode_head.weight']


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda s: s.pop('backbone.weight'), '7 of 8 tensors fit.*1 are missing .backbone.weight'),
        (lambda s: s.update({'head.weight': torch.ones(3, 4, 1, 1)}), r'head.weight: \(3, 4, 1, 1\), not \(2, 4, 1, 1\)'),
        (lambda s: s.clear(), 'no tensors by name'),
        (lambda s: s['norm.running_var'].fill_(float('inf')), 'not finite .norm.running_var'),
        (lambda s: s['head.bias'].fill_(float('nan')), 'not finite .head.bias'),
    ],
)
def test_weights_to_use_must_cover_the_model(tmp_path, change, words):
    state = network().state_dict()
    change(state)
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=words) as error:
        fit.load_weights(network(), tmp_path / 'a.pth')
    assert 'a.pth' in str(error.value)


def test_counters_may_be_missing_and_declared_names_too():
    state = {key: value for key, value in network().state_dict().items() if 'num_batches' not in key and key != 'head.bias'}
    model = network()
    assert fit.compare(model, state).missing == ['head.bias']
    model.head.optional_in_checkpoints = ('bias',)
    assert fit.compare(model, state).complete


def test_a_training_starts_from_a_part_but_not_from_nothing():
    state = {'backbone.weight': network().state_dict()['backbone.weight']}
    assert list(fit.require_some(network(), state, 'a.pth').state) == ['backbone.weight']
    with pytest.raises(ValueError, match=r'a.pth: no tensor fits Sequential .*begin with x.y'):
        fit.require_some(network(), {'x.y': torch.ones(2)}, 'a.pth')


def test_masks_may_hold_infinity_on_purpose():
    model = network()
    model.register_buffer('mask', torch.full((2, 2), float('-inf')))
    assert fit.require_fit(model, model.state_dict(), 'a.pth').complete
    assert fit.require_some(model, model.state_dict(), 'a.pth').complete


def test_student_and_teacher_are_ambiguous():
    state = {f'{who}.{key}': value for who in ('student', 'teacher') for key, value in network().state_dict().items()}
    with pytest.raises(ValueError, match='2 times, under student., teacher.'):
        fit.compare(network(), state)


def test_large_float64_weights_are_finite():
    core.check_finite({'a': torch.full((2,), 1.7e308, dtype=torch.float64)}, 'a.pth')
