"""Everything that docs/extending.md adds is added, as printed."""

import sys
import types

import pytest
import timm
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from torch import nn

from mmseg_dafm.fishertune import criteria
from mmseg_dafm.fishertune.candidates import find_candidates
from mmseg_dafm.models.adapters import build_adapter
from tests.docs.snippets import block_with
from tests.hooks.fisher_run import config, train
from tests.models_common import domain_embedding


@pytest.fixture
def run_block(root):
    """Run a printed block as a module; what it registers is taken back afterwards."""
    before = {registry: dict(registry._module_dict) for registry in (MODELS, DATASETS)}
    known = dict(criteria.CRITERIA)

    def run(text):
        module = types.ModuleType('my_parts')
        sys.modules['my_parts'] = module
        exec(block_with(root / 'docs/extending.md', text), module.__dict__)
        return module

    yield run
    sys.modules.pop('my_parts', None)
    for registry, modules in before.items():
        registry._module_dict.clear()
        registry._module_dict.update(modules)
    criteria.CRITERIA.clear()
    criteria.CRITERIA.update(known)


@pytest.mark.slow
def test_a_criterion(run_block, tmp_path):
    run_block('def geometric_mean')
    hook = run_block("criterion='geometric'").custom_hooks[0]
    assert hook.pop('type') == 'FisherTuneHook'
    runner = train(config(tmp_path, hook, iterations=4))
    assert runner.optim_wrapper.count
    assert (tmp_path / 'fisher_selection.json').read_text().count('geometric')


def test_a_rule(run_block):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = nn.ModuleDict(dict(to_qkv=nn.Linear(4, 12)))
            self.channel_mixer = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))

    backbone = nn.ModuleDict(dict(layers=nn.ModuleList([Block(), Block()])))
    rules = run_block('extra_rules').optim_wrapper['paramwise_cfg']['candidates']
    found = find_candidates(backbone, **rules)
    assert {(each.kind, each.block) for each in found} == {(kind, i) for kind in ('q', 'k', 'v', 'ffn') for i in range(2)}


def test_a_backbone(run_block):
    run_block('class TwoLevels')
    head = dict(
        type='FPNHead',
        in_index=[0, 1],
        feature_strides=[4, 8],
        channels=8,
        num_classes=3,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    neck = dict(type='FPN', out_channels=8, num_outs=2)
    model = dict(
        type='DomainAwareEncoderDecoder', backbone=dict(type='TwoLevels'), neck=neck, decode_head=dict(head, in_channels=[8, 8]),
        domain_embedding=domain_embedding(), test_cfg=dict(mode='whole'),
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
    )  # fmt: skip
    model = MODELS.build(Config(model))
    images = torch.rand(2, 3, 36, 44)
    logits = model(images, mode='tensor')
    assert logits.shape == (2, 3, 9, 11)
    assert model.backbone.shift.in_features == model.domain_embedding.out_channels


def test_a_data_set(run_block, tmp_path, monkeypatch):
    run_block('class Harbour')
    monkeypatch.chdir(tmp_path)
    for folder, ending, mode in (('images', 'jpg', 'RGB'), ('labels', 'png', 'L')):
        (tmp_path / 'data/harbour' / folder).mkdir(parents=True)
        for name in 'ab':
            Image.new(mode, (8, 6)).save(tmp_path / 'data/harbour' / folder / f'{name}.{ending}')
    dataset = DATASETS.build(run_block("type='Harbour'").train_set)
    assert len(dataset) == 2
    assert dataset[0]['data_samples'].domain == 'calm'
    (tmp_path / 'data/harbour/labels/b.png').unlink()
    with pytest.raises(ValueError, match='label'):
        DATASETS.build(run_block("type='Harbour'").train_set)


def test_an_adapter(run_block):
    run_block('class LayerBias')
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, embed_dim=24, depth=2, num_heads=2).eval()
    images = torch.rand(1, 3, 32, 32)
    expected = vit.forward_features(images)
    adapter = build_adapter(dict(type='LayerBias'), vit)
    assert torch.equal(vit.forward_features(images), expected)
    with torch.no_grad():
        adapter.shifts[0].add_(1.0)
    assert not torch.equal(vit.forward_features(images), expected)
