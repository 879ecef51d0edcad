"""Delta checkpoints: extract and merge give every bit back; wrong bases and files are refused."""

import importlib.util
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.registry import MODELS
from safetensors.torch import load_file, save_file

from mmseg_dafm.fishertune.delta import base_hash, describe, extract, load_delta, merge, save_delta

META = dict(
    iter=7,
    cfg='model = 1',
    dataset_meta=dict(classes=('road', 'car'), palette=[[1, 2, 3]]),
    seed=None,
    odd=object(),
    array=np.ones(2),
)


def base_state() -> dict:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        'backbone.a.weight': draw(20, 30),
        'backbone.b.weight': draw(8, 4, 3).half(),
        'backbone.norm.running_var': draw(5).bfloat16(),
        'backbone.norm.num_batches_tracked': torch.tensor(3),
        'backbone.mask': torch.tensor([True, False]),
        'backbone2.weight': draw(2),
        'decode_head.weight': draw(3, 3),
    }


def same_bits(one: dict, other: dict) -> bool:
    def raw(tensor):
        return tensor.dtype, tensor.shape, tensor.reshape(-1).contiguous().view(torch.uint8).tolist()

    return list(one) == list(other) and all(raw(value) == raw(other[name]) for name, value in one.items())


def trained_state(seed: int = 0, share: float = 0.05) -> dict:
    generator = torch.Generator().manual_seed(seed)
    state = {name: value.clone() for name, value in base_state().items()}
    weight = state['backbone.a.weight']
    weight[torch.rand(weight.shape, generator=generator) < share] += 1
    state['backbone.norm.num_batches_tracked'] += 2
    state['decode_head.weight'] += 1
    state['decode_head.bias'] = torch.zeros(3)
    return state


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.6, 1.0]))
@settings(max_examples=20, deadline=None)
def test_merging_gives_every_bit_back_through_a_file(tmp_path_factory, seed, share):
    folder = tmp_path_factory.mktemp('delta')
    state, base = trained_state(seed, share), base_state()
    found = extract(state, base, meta=META)
    changed = int((state['backbone.a.weight'] != base['backbone.a.weight']).sum())
    rows = {row['name']: row for row in describe(found)}
    if changed:
        assert rows['backbone.a.weight']['changed'] == (changed if changed <= 300 else 600)
    assert 'backbone.b.weight' not in rows
    assert rows['outside of backbone']['size'] == 2 + 9 + 3
    save_delta(found, folder / 'a' / 'x.safetensors')
    assert [path.name for path in (folder / 'a').iterdir()] == ['x.safetensors']
    again = load_delta(folder / 'a' / 'x.safetensors')
    assert same_bits(merge(again, base), state)
    assert describe(again) == describe(found)
    assert again.meta == dict(iter=7, cfg='model = 1', dataset_meta=dict(classes=['road', 'car'], palette=[[1, 2, 3]]), seed=None)
    stored = load_file(folder / 'a' / 'x.safetensors')
    assert sum(t.nbytes for t in stored.values()) == sum(row['bytes'] for row in describe(found))


def test_bits_decide_not_values():
    base, state = base_state(), trained_state()
    weight = base['backbone.a.weight']
    weight[0, :3] = torch.tensor([0.0, math.nan, math.inf])
    state['backbone.a.weight'] = weight.clone()
    state['backbone.a.weight'][0, 0] = -0.0
    found = extract(state, base)
    assert found.changed['backbone.a.weight'][0].tolist() == [0]
    assert same_bits(merge(found, base), state)


def test_tensors_that_the_base_lacks_or_has_otherwise_are_stored_whole():
    base, state = base_state(), trained_state()
    state['backbone.b.weight'] = torch.ones(9, 4, 3).half()
    state['backbone.norm.running_var'] = state['backbone.norm.running_var'].float()
    state['backbone.new'] = torch.ones(2).expand(3, 2)
    state['decode_head.alias'] = state['decode_head.weight']
    found = extract(state, base)
    assert {name for name in found.whole if name.startswith('backbone.')} == {
        'backbone.b.weight', 'backbone.norm.running_var', 'backbone.new', 'backbone.norm.num_batches_tracked'
    }  # fmt: skip
    assert same_bits(merge(found, base), state)


def test_shared_and_strided_tensors_are_written(tmp_path):
    state = trained_state()
    state['decode_head.alias'] = state['decode_head.weight'].t()
    save_delta(extract(state, base_state()), tmp_path / 'x.safetensors')
    assert same_bits(merge(load_delta(tmp_path / 'x.safetensors'), base_state()), state)


@pytest.mark.parametrize(
    'change',
    [
        lambda base: base['backbone.b.weight'].view(-1)[5].add_(1),
        lambda base: base.update({'backbone.extra': torch.zeros(1)}),
        lambda base: base.pop('backbone.mask'),
        lambda base: base.update({'backbone.b.weight': base['backbone.b.weight'].reshape(4, 8, 3)}),
        lambda base: base.update({'backbone.c.weight': base.pop('backbone.b.weight')}),
        lambda base: base.update({'backbone.mask': base['backbone.mask'].to(torch.uint8)}),
    ],
)
def test_any_other_base_is_refused(change):
    found, base = extract(trained_state(), base_state()), base_state()
    change(base)
    with pytest.raises(ValueError, match=r'made from another base: its backbone has SHA-256 \w{12}\.\.\., this one'):
        merge(found, base)


def test_the_hash_is_of_the_module_alone_and_of_no_order():
    base = base_state()
    expected = base_hash(base)
    base['decode_head.weight'] += 1
    base['backbone2.weight'] += 1
    assert base_hash(dict(reversed(base.items()))) == expected
    assert base_hash(base, 'decode_head') != base_hash(base_state(), 'decode_head')


def test_wrong_inputs_are_refused(tmp_path):
    base, state = base_state(), trained_state()
    with pytest.raises(
        ValueError, match=r"the base has no tensors of the module 'trunk', only of \['backbone', 'backbone2', 'dec"
    ):
        base_hash(base, 'trunk')
    with pytest.raises(ValueError, match="the checkpoint has no tensors of the module 'backbone'"):
        extract({'blocks.0.weight': torch.ones(1)}, base)
    foreign = {f'backbone.other.{name}': value for name, value in base.items()}
    with pytest.raises(ValueError, match="the base shares no tensor of 'backbone' with the checkpoint .* is none of its names"):
        extract(state, foreign)
    with pytest.raises(ValueError, match='decode_head._extra_state of type dict'):
        extract({**state, 'decode_head._extra_state': {}}, base)
    with pytest.raises(FileNotFoundError, match='none.safetensors does not exist'):
        load_delta(tmp_path / 'none.safetensors')
    (tmp_path / 'text.safetensors').write_text('hello')
    with pytest.raises(ValueError, match='is no safetensors file'):
        load_delta(tmp_path / 'text.safetensors')
    save_file(state, tmp_path / 'plain.safetensors')
    with pytest.raises(ValueError, match='not a delta of this version: its format is None'):
        load_delta(tmp_path / 'plain.safetensors')


@pytest.fixture
def tool(root):
    spec = importlib.util.spec_from_file_location('delta_tool', root / 'tools' / 'model_converters' / 'delta.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', ['delta.py', *map(str, arguments)])
            module.main()

    return run


def test_the_tool_extracts_merges_and_informs(tool, tmp_path, capsys):
    base, state = base_state(), trained_state()
    torch.save(base, tmp_path / 'base.pth')
    torch.save(dict(state_dict=state, meta=META, optimizer={}), tmp_path / 'trained.pth')
    tool('extract', tmp_path / 'trained.pth', tmp_path / 'delta.safetensors', '--base', tmp_path / 'base.pth')
    tool('merge', tmp_path / 'delta.safetensors', tmp_path / 'merged.pth', '--base', tmp_path / 'base.pth')
    merged = torch.load(tmp_path / 'merged.pth', weights_only=True)
    assert same_bits(merged['state_dict'], state)
    assert merged['meta']['dataset_meta']['classes'] == ['road', 'car']
    capsys.readouterr()
    tool('info', tmp_path / 'delta.safetensors')
    text = capsys.readouterr().out
    changed = int((state['backbone.a.weight'] != base['backbone.a.weight']).sum())
    assert f'| backbone.a.weight                 |      {changed} | 600 |' in text
    assert base_hash(base) in text
    torch.save({**base, 'backbone.mask': torch.tensor([True, True])}, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match='error: the delta was made from another base'):
        tool('merge', tmp_path / 'delta.safetensors', tmp_path / 'wrong.pth', '--base', tmp_path / 'other.pth')
    assert not (tmp_path / 'wrong.pth').exists()
    with pytest.raises(SystemExit, match='none.pth does not exist'):
        tool('extract', tmp_path / 'none.pth', tmp_path / 'x.safetensors', '--base', tmp_path / 'base.pth')


def test_a_config_with_pretrained_weights_is_a_base(tool, tmp_path):
    norm = "dict(type='BN')"
    backbone = (
        f"dict(type='ResNet', depth=18, base_channels=8, norm_cfg={norm}, init_cfg=dict(type='Pretrained', checkpoint='{{}}'))"
    )
    text = f"""model = dict(
        type='EncoderDecoder', backbone={backbone.format(tmp_path / 'resnet.pth')}, decode_head=dict(
            type='FCNHead', in_channels=64, channels=4, num_convs=1, concat_input=False, num_classes=3, norm_cfg={norm},
            in_index=3, loss_decode=dict(type='CrossEntropyLoss')))
    """
    resnet = MODELS.build(dict(type='ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN')))
    torch.save(resnet.state_dict(), tmp_path / 'resnet.pth')
    (tmp_path / 'config.py').write_text(text)
    state = {f'backbone.{name}': value.clone() for name, value in resnet.state_dict().items()}
    state['backbone.conv1.weight'].view(-1)[:3] += 1
    state['decode_head.weight'] = torch.ones(1)
    torch.save(state, tmp_path / 'trained.pth')
    tool('extract', tmp_path / 'trained.pth', tmp_path / 'delta.safetensors', '--config', tmp_path / 'config.py')
    found = load_delta(tmp_path / 'delta.safetensors')
    assert {name: len(index) for name, (index, _) in found.changed.items()} == {'backbone.conv1.weight': 3}
    tool('merge', tmp_path / 'delta.safetensors', tmp_path / 'merged.pth', '--config', tmp_path / 'config.py')
    assert same_bits(torch.load(tmp_path / 'merged.pth', weights_only=True)['state_dict'], state)
