"""Parameter groups: exact learning rate and decay of every parameter, and VPD's schedule in every config."""

import functools
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS, PARAM_SCHEDULERS

from mmseg_dafm.optim.named_rates import group_table
from mmseg_dafm.optim.schedule_check import intended_rates, simulate
from mmseg_dafm.optim.vpd_constructor import parameter_groups
from tests.models_common import segmentor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def model():
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg = segmentor()
        cfg['domain_embedding']['image_encoder']['trainable'] = True
        cfg['domain_embedding']['learnable_temperature'] = True
        return MODELS.build(cfg)


def by_name(model, groups):
    where = {id(p): (g['name'], g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    return {name: where[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def test_each_trainable_parameter_is_in_one_group_with_its_rate_and_decay(model):
    groups = parameter_groups(model, lr=1.0, weight_decay=0.5)
    members = [id(p) for g in groups for p in g['params']]
    assert len(members) == len(set(members)) == sum(p.requires_grad for p in model.parameters())
    for name, (_, lr, decay) in by_name(model, groups).items():
        slow = name.startswith(('backbone.unet.', 'domain_embedding.image_encoder.'))
        assert lr == (0.1 if slow else 1.0), name
        parameter = model.get_parameter(name)
        assert decay == (0.5 if parameter.ndim > 1 else 0.0), name


@pytest.mark.parametrize(
    ('name', 'group'),
    [
        ('backbone.unet.conv_in.weight', 'unet'),
        ('backbone.unet.down_blocks.0.resnets.0.norm1.weight', 'unet (no decay)'),
        ('backbone.text_adapter.gamma', 'gamma (no decay)'),
        ('backbone.text_adapter.mlp.0.weight', 'text adapter'),
        ('backbone.domain_projection.weight', 'text adapter'),
        ('domain_embedding.image_encoder.tower.visual_projection.weight', 'clip image'),
        ('domain_embedding.log_temperature', 'temperature (no decay)'),
        ('decode_head.scale_heads.0.0.bn.hidden.weight', 'domain mlp'),
        ('decode_head.scale_heads.0.0.bn.weight', 'head (no decay)'),
        ('decode_head.conv_seg.weight', 'head'),
        ('neck.fpn_convs.0.conv.weight', 'neck'),
    ],
)
def test_groups_by_name(model, name, group):
    assert by_name(model, parameter_groups(model, 1.0, 0.5))[name][0] == group


def test_legacy_norm_lr_repeats_what_the_vpd_config_does_in_fact(model):
    found = by_name(model, parameter_groups(model, 1.0, 0.5, legacy_norm_lr=True))
    transformer = 'backbone.unet.down_blocks.0.attentions.0.'
    assert found[transformer + 'norm.weight'][1:] == (1.0, 0.0)
    for index in (1, 2, 3):
        assert found[f'{transformer}transformer_blocks.0.norm{index}.bias'][1:] == (1.0, 0.0)
    assert found['backbone.unet.down_blocks.0.resnets.0.norm1.weight'][1:] == (0.1, 0.5)
    assert found[transformer + 'transformer_blocks.0.attn1.to_q.weight'][1:] == (0.1, 0.5)
    assert found['decode_head.scale_heads.0.0.bn.bias'][1:] == (1.0, 0.5)


def test_128_norm_tensors_of_sd_15_train_at_the_full_rate():
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='VPDBackbone', class_embeddings=dict(provider='hash', classes=('a', 'b'), dim=768)))
    model = torch.nn.Module()
    model.backbone = backbone
    found = by_name(model, parameter_groups(model, 1.0, 0.5, legacy_norm_lr=True))
    assert sum(lr == 1.0 and name.startswith('backbone.unet.') for name, (_, lr, _) in found.items()) == 128


def test_the_wrapper_is_built_from_a_config_and_the_table_counts(model):
    cfg = dict(
        type='OptimWrapper', constructor='VPDOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=8e-5, weight_decay=1e-3),
        clip_grad=dict(max_norm=1.0), paramwise_cfg=dict(unet_lr_mult=0.01),
    )  # fmt: skip
    wrapper = build_optim_wrapper(model, cfg)
    rates = {group['name']: group['lr'] for group in wrapper.optimizer.param_groups}
    assert rates['unet'] == pytest.approx(8e-7)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)
    table = group_table(wrapper.optimizer.param_groups)
    count = sum(p.numel() for n, p in model.named_parameters() if n.startswith('backbone.unet.') and p.ndim > 1)
    assert f'{count:,}' in table


def test_a_frozen_model_and_wrong_keys_are_refused(model):
    base = dict(type='OptimWrapper', constructor='VPDOptimWrapperConstructor')
    with pytest.raises(ValueError, match=r"unknown keys \['unet_lr'\]"):
        build_optim_wrapper(model, {**base, 'optimizer': dict(type='SGD', lr=0.1), 'paramwise_cfg': dict(unet_lr=1)})
    with pytest.raises(ValueError, match='needs a type and lr'):
        build_optim_wrapper(model, {**base, 'optimizer': dict(type='AdamW')})
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match='no parameter requires a gradient'):
        parameter_groups(frozen, 1.0, 0.0)


def published_factor(iteration: int, warmup: int, length: int) -> float:
    """VPD's factor of every learning rate: linear to 0 from iteration 0, under a linear warm-up from 1e-6.

    Source: VPD's config (poly, power 1, min_lr 0; warm-up 'linear', 1500 iterations, ratio 1e-6) and mmcv 1.6's rule for these.
    """
    regular = 1 - iteration / length
    if iteration >= warmup:
        return regular
    return regular * (1 - (1 - iteration / warmup) * (1 - 1e-6))


def vpd_configs() -> list[Path]:
    found = [path for path in (ROOT / 'configs').rglob('*.py') if not {'_base_', 'suites'} & {*path.parts}]
    return sorted(path for path in found if uses_vpd_schedule(Config.fromfile(path)))


def uses_vpd_schedule(cfg: Config) -> bool:
    return cfg.model.backbone.type == 'VPDBackbone' or cfg.train_cfg.max_iters == 80000


@functools.cache
def simulated(rates: tuple, schedulers: str, length: int):
    return simulate(dict(rates), json.loads(schedulers), length)


@pytest.mark.slow
def test_every_vpd_and_domino_config_has_the_published_schedule():
    paths = vpd_configs()
    names = {path.relative_to(ROOT / 'configs').as_posix() for path in paths}
    assert {path.relative_to(ROOT / 'configs').as_posix() for path in (ROOT / 'configs/domino').glob('*.py')} <= names
    assert {
        'quickstart/domino_sub_toydrive.py',
        'domino/camvid/small_vpd_sub_camvid.py',
        'toy/vpd_fishertune_toydrive.py',
    } <= names
    assert {'baselines/fpn_r50_cityscapes.py', 'fishertune/fisher_vpd_domino_sub_cityscapes.py'} <= names
    for path in paths:
        cfg = Config.fromfile(path)
        length, warmup = cfg.train_cfg.max_iters, cfg.param_scheduler[0].end - 1
        assert warmup == (1500 if length == 80000 else length // 8 if length == 120 else length // 10), path
        rates = intended_rates(cfg.optim_wrapper)
        found = simulated(tuple(rates.items()), json.dumps([dict(part) for part in cfg.param_scheduler]), length)
        for iteration in (0, warmup // 2, warmup - 1, warmup, length // 2, length - 1):
            expected = [rate * published_factor(iteration, warmup, length) for rate in rates.values()]
            assert found[iteration].tolist() == pytest.approx(expected, rel=1e-8), (path, iteration)


def test_the_groups_of_a_built_optimizer_follow_the_published_schedule(model):
    """Through mmengine's wrapper and schedulers, every group: the U-Net at a tenth, the rest at the full rate."""
    cfg = Config.fromfile(ROOT / 'configs/domino/vpd_domino_sub_cityscapes.py')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    base = {group['name']: group['lr'] for group in wrapper.optimizer.param_groups}
    assert {round(rate / 8e-5, 9) for rate in base.values()} == {0.1, 1.0}
    schedulers = [PARAM_SCHEDULERS.build({**part, 'optimizer': wrapper}) for part in cfg.param_scheduler]
    for iteration in range(1502):
        if iteration in (0, 750, 1499, 1500, 1501):
            for group in wrapper.optimizer.param_groups:
                expected = base[group['name']] * published_factor(iteration, 1500, 80000)
                assert group['lr'] == pytest.approx(expected, rel=1e-8), (iteration, group['name'])
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize(
    ('name', 'decayed'),
    [
        # linear layers, as in VPD
        ('backbone.text_adapter.mlp.0.weight', True),
        ('backbone.unet.time_embedding.linear_1.weight', True),
        # CLIP's own training decays its positions, and no vectors
        ('domain_embedding.image_encoder.tower.vision_model.embeddings.position_embedding.weight', True),
        ('domain_embedding.image_encoder.tower.vision_model.embeddings.class_embedding', False),
        ('backbone.unet.time_embedding.linear_1.bias', False),
    ],
)
def test_what_embeds_is_decayed_like_any_matrix(model, name, decayed):
    # transformers 5 has no `vision_model` in its names
    found = by_name(model, parameter_groups(model, 1.0, 0.5))
    names = [other for other in found if other.replace('vision_model.', '') == name.replace('vision_model.', '')]
    assert len(names) == 1
    assert found[names[0]][2] == 0.5 * decayed


def test_the_default_recipe_differs_from_vpds_code_on_128_norms_and_the_decay_of_vectors(root):
    """The counts that docs/papers.md states, of vpd_cityscapes."""
    cfg = Config.fromfile(root / 'configs/domino/vpd_cityscapes.py').model
    cfg.backbone.class_embeddings = dict(provider='hash', classes='CityscapesDataset', dim=768)
    with torch.device('meta'):
        model = MODELS.build(cfg)
    ours, theirs = (by_name(model, parameter_groups(model, 1.0, 0.5, legacy_norm_lr=legacy)) for legacy in (False, True))
    rates = [name for name in ours if ours[name][1] != theirs[name][1]]
    decays = [name for name in ours if ours[name][2] != theirs[name][2]]
    assert (len(rates), len(decays)) == (128, 299)


def test_a_run_resumed_from_the_former_schedule_keeps_it():
    """Schedulers of a checkpoint bring their begin and end along."""

    def build(warmup: int, begin: int, end: int):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        parts = [dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=warmup)]
        parts += [dict(type='PolyLR', power=1.0, by_epoch=False, begin=begin, end=end)]
        return optimizer, [PARAM_SCHEDULERS.build({**part, 'optimizer': optimizer}) for part in parts]

    def walk(optimizer, schedulers, steps):
        for _ in range(steps):
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        return optimizer.param_groups[0]['lr']

    former, resumed = build(15, 15, 800), build(16, 0, 801)
    walk(*former, 100)
    resumed[0].load_state_dict(former[0].state_dict())
    for new, old in zip(resumed[1], former[1], strict=True):
        new.load_state_dict(old.state_dict())
    assert walk(*resumed, 300) == pytest.approx(walk(*former, 300), rel=1e-12)
