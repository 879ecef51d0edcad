"""Adapters in runs: checkpoints of another size or factor are refused, which mmengine would only log; resume; two processes."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.registry import MODELS

from mmseg_dafm.models.adapters.adapter import check_adapter_state
from tests.models.vfm_families import build, segmentor
from tests.processes import run_ranks
from tests.runs.common import SIZE, run, tiny_config

# what wrote the checkpoint, what reads it, and the sentence
SIZES = [
    (dict(type='VPT', tokens=4), dict(tokens=9), r'adapter.prompts of shape \(4, 4, 32\), .* type VPT has \(4, 9, 32\)'),
    (dict(type='VQT', tokens=4), dict(tokens=9), r'adapter.prompts of shape \(3, 4, 32\), .* type VQT has \(3, 9, 32\)'),
    (dict(type='Rein', tokens=5, rank=2), dict(rank=3), r'adapter.left of shape \(4, 5, 2\), .* type Rein has \(4, 5, 3\)'),
    (dict(type='Rein', tokens=5, rank=2), dict(tokens=6), r'adapter.left of shape \(4, 5, 2\), .* type Rein has \(4, 6, 2\)'),
    (
        dict(type='AdaptFormer', bottleneck=4), dict(bottleneck=6),
        r'adapter.blocks.0.down.weight of shape \(4, 32\), .* type AdaptFormer has \(6, 32\)',
    ),
    (dict(type='LoRA', rank=2), dict(rank=3), r'qkv.lora_A.default.weight of shape \(2, 32\), .* type LoRA has \(3, 32\)'),
    (dict(type='LoRA', rank=2), dict(alpha=4), 'adapter.factor=1, .* type LoRA has 2 '),
    (dict(type='AdaptFormer', bottleneck=4), dict(scale=1.0), 'adapter.factor=0.1, .* type AdaptFormer has 1 '),
]  # fmt: skip
SCALED = [dict(type='LoRA', rank=2, alpha=1), dict(type='AdaptFormer', bottleneck=4, scale=0.3)]
by_type = dict(ids=lambda adapter: adapter['type'])


def adapted(adapter):
    """A backbone; one with LoRA needs peft."""
    if adapter['type'] == 'LoRA':
        pytest.importorskip('peft')
    return build('dinov2', adapter=adapter)


@pytest.mark.parametrize(('adapter', 'changes', 'text'), SIZES)
def test_another_size_or_factor_is_refused_through_mmengine(adapter, changes, text, tmp_path):
    source = adapted(adapter)
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in source.state_dict().items()}}, tmp_path / 'a.pth')
    model = MODELS.build(segmentor('dinov2', 'fpn', backbone=dict(adapter=dict(adapter, **changes))))
    with pytest.raises(ValueError, match=rf'the checkpoint .* backbone\..*{text}.*: set backbone.adapter as in the config'):
        load_checkpoint(model, str(tmp_path / 'a.pth'), map_location='cpu')
    same = MODELS.build(segmentor('dinov2', 'fpn', backbone=dict(adapter=adapter)))
    load_checkpoint(same, str(tmp_path / 'a.pth'), map_location='cpu')
    state = same.backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())


@pytest.mark.parametrize('adapter', SCALED, **by_type)
def test_a_checkpoint_without_the_factor_is_complete_and_takes_the_configs(adapter):
    source = adapted(adapter).state_dict()
    factor = source.pop('adapter.factor')
    model = adapted(adapter)
    model.load_state_dict(source)
    assert model.state_dict()['adapter.factor'] == factor == torch.tensor(adapter.get('scale', 0.5))


@pytest.mark.parametrize('adapter', SCALED, **by_type)
def test_the_factor_is_no_parameter_and_half_precision_keeps_it_loadable(adapter):
    model = adapted(adapter)
    assert 'adapter.factor' not in dict(model.named_parameters())
    state = copy.deepcopy(model).bfloat16().state_dict()
    assert state['adapter.factor'].dtype == torch.bfloat16
    model.load_state_dict(state)


def test_a_plain_checkpoint_passes_and_a_factor_alone_is_another_adapter():
    own = {'adapter.prompts': torch.ones(1)}
    check_adapter_state(own, {}, 'VPT')
    with pytest.raises(ValueError, match=r'another adapter \(backbone.adapter.factor and others differ\)'):
        check_adapter_state(own, {**own, 'adapter.factor': torch.ones(())}, 'VPT', 'backbone.')
    with pytest.raises(ValueError, match=r'\(adapter.prompts and others differ\)'):
        check_adapter_state({**own, 'adapter.factor': torch.ones(())}, {'adapter.factor': torch.ones(())}, 'VPT')


@pytest.mark.slow
@pytest.mark.parametrize('adapter', [dict(type='LoRA', rank=2), dict(type='Rein', tokens=5, rank=2)], **by_type)
def test_a_run_with_an_adapter_resumes_to_the_bit(adapter, tmp_path):
    adapted(adapter)

    def train(folder, iterations, name, **changes):
        cfg = tiny_config(tmp_path / folder, iterations, **changes)
        preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[60.0] * 3, size=SIZE)
        backbone = dict(adapter=adapter)
        cfg.model = segmentor('dinov2', 'fpn', backbone=backbone, data_preprocessor=preprocessor)
        cfg.model.decode_head.num_classes = 6
        cfg.optim_wrapper.pop('constructor')
        runner = run(cfg, f'{adapter["type"]}_{name}')
        return {key: value.clone() for key, value in runner.model.state_dict().items()}

    whole, half = train('whole', 4, 'whole'), train('parts', 2, 'half')
    resumed = train('parts', 4, 'resumed', resume=True)
    assert whole.keys() == resumed.keys()
    assert [key for key, value in whole.items() if not torch.equal(value, resumed[key])] == []
    moved = [key for key, value in whole.items() if not torch.equal(value, half[key])]
    # the second half trained the adapter and left the ViT alone
    assert any('adapter.' in key or '.lora_' in key for key in moved)
    assert not any(key.startswith('backbone.timm_model') and '.lora_' not in key for key in moved)


@pytest.mark.slow
def test_two_processes_train_adapters_without_find_unused_parameters_and_end_alike(tmp_path):
    run_ranks(Path(__file__).with_name('adapter_ranks.py'), tmp_path, [tmp_path / '{rank}.pth'])
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    for kind in ('Rein', 'VQT'):
        one, other = (rank[kind] for rank in ranks)
        assert not torch.equal(one['image'], other['image'])
        assert [name for name, value in one['weights'].items() if not torch.equal(value, other['weights'][name])] == []
        assert [name for name, value in one['start'].items() if torch.equal(value, one['weights'][name])] == []
