"""FisherTune's configs: the grid is complete, each with the light head too; which weights train, at which rate and decay."""

import itertools
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmseg_dafm.fishertune.candidates import block_paths, find_candidates, parameter_count
from mmseg_dafm.fishertune.criteria import CRITERIA
from mmseg_dafm.optim.fisher_wrapper import SelectedWeights
from tests.configs.test_configs import build

FOLDER = Path(__file__).resolve().parents[2] / 'configs/fishertune'
BACKBONES = ('dinov2_l', 'eva02_l', 'clip_l', 'sam_h', 'mae_l')
METHODS = ('fishertune', 'full', 'freeze')
WRAPPER = 'FisherTuneOptimWrapperConstructor'


def test_the_grid_is_complete():
    for data in ('gtav', 'cityscapes'):
        names = {path.name for path in (FOLDER / data).glob('*.py')}
        grid = {f'{backbone}_{method}_{data}.py' for backbone, method in itertools.product(BACKBONES, METHODS)}
        more = {f'dinov3_l_fishertune_{data}.py'} | ({'dinov2_l_fishertune_amp_gtav.py'} if data == 'gtav' else set())
        assert names == grid | more
    criteria = {Config.fromfile(path).custom_hooks[0].criterion for path in (FOLDER / 'ablations').glob('*.py')}
    assert criteria == {'random', 'random_q', 'random_k', 'random_v', 'F', 'dF'}
    assert criteria < set(CRITERIA)


@pytest.mark.parametrize('path', sorted((FOLDER / 'ablations').glob('*.py')), ids=lambda path: path.stem)
def test_an_ablation_changes_the_criterion_alone(path):
    backbone = re.match(r'[a-z0-9]+_l', path.stem)[0]
    cfg, base = Config.fromfile(path), Config.fromfile(FOLDER / f'cityscapes/{backbone}_fishertune_cityscapes.py')
    assert cfg.custom_hooks[0].criterion.lower() in path.stem
    assert base.custom_hooks[0].criterion == 'rank'
    cfg.custom_hooks[0].criterion = 'rank'
    assert cfg.to_dict() == base.to_dict()


@pytest.mark.parametrize('data', ['gtav', 'cityscapes'])
@pytest.mark.parametrize('backbone', BACKBONES)
def test_methods_differ_in_what_trains_alone(backbone, data):
    tuned, full, freeze = (Config.fromfile(FOLDER / data / f'{backbone}_{method}_{data}.py').to_dict() for method in METHODS)
    assert freeze['model']['backbone'].pop('frozen')
    assert freeze == full
    assert tuned.pop('custom_hooks')[0]['warmup_iters'] == 4000
    tuned.pop('estimation'), tuned.pop('growth')
    assert tuned['optim_wrapper'].pop('constructor') == WRAPPER
    assert tuned['optim_wrapper'].pop('type') == 'FisherTuneOptimWrapper'
    assert full['optim_wrapper'].pop('type') == 'OptimWrapper'
    assert tuned == full


@pytest.mark.parametrize('backbone', [*BACKBONES, 'dinov3_l'])
def test_the_light_head_is_one_variable(backbone, tmp_path, monkeypatch):
    path = FOLDER / f'gtav/{backbone}_fishertune_gtav.py'
    assert Config.fromfile(path).model.decode_head.type == 'HFMask2FormerHead'
    monkeypatch.setenv('VFM_HEAD', 'fpn')
    model = build(Config.fromfile(path), tmp_path)
    assert type(model.decode_head).__name__ == 'FPNHead'
    monkeypatch.setenv('VFM_HEAD', 'upernet')
    with pytest.raises(FileNotFoundError, match='vfm_upernet'):
        Config.fromfile(path)


def rates(model, wrapper) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of each parameter, relative to the base's."""
    optimizer = wrapper.optimizer
    base, decay = 1e-4, 0.05
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if id(parameter) in names:
                found[names[id(parameter)]] = round(group['lr'] / base, 6), round(group['weight_decay'] / decay, 6)
    return found


@pytest.mark.parametrize('backbone', ['dinov2_l', 'eva02_l', 'clip_l'])
def test_full_tuning_decays_no_norm_and_slows_the_backbone(backbone, tmp_path):
    cfg = Config.fromfile(FOLDER / f'gtav/{backbone}_full_gtav.py')
    model = build(cfg, tmp_path)
    found = rates(model, build_optim_wrapper(model, cfg.optim_wrapper))
    assert found.keys() == {name for name, _ in model.named_parameters()}
    kinds = dict(model.named_modules())
    for name, (rate, decay) in found.items():
        assert rate == (0.1 if name.startswith('backbone.') else 1.0), name
        norm = isinstance(kinds[name.rpartition('.')[0]], torch.nn.LayerNorm | torch.nn.GroupNorm)
        free = norm or 'level_embed' in name or 'queries_' in name
        assert decay == (0.0 if free else 1.0), name
    assert sum('queries_' in name or 'level_embed' in name for name in found) == 4


def test_fishertune_gives_the_optimizer_the_head_and_no_dense_weight(tmp_path):
    cfg = Config.fromfile(FOLDER / 'gtav/dinov2_l_fishertune_gtav.py')
    model = build(cfg, tmp_path)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, SelectedWeights)
    found = rates(model, wrapper)
    assert {name.split('.')[0] for name in found} == {'decode_head'}
    # 5 % of the paper's count, which holds a norm and a mask token more
    assert round(0.05 * wrapper.backbone_parameters / 1e6, 2) == 15.21


def test_the_unet_of_vpd_is_the_backbone_and_the_rest_keeps_learning(tmp_path):
    cfg = Config.fromfile(FOLDER / 'fisher_vpd_domino_sub_cityscapes.py')
    model = build(cfg, tmp_path)
    unet = model.backbone.unet
    candidates = find_candidates(unet)
    assert {candidate.kind for candidate in candidates} == {'q', 'k', 'v', 'ffn'}
    tails = {candidate.parameter.split('transformer_blocks.0.')[1] for candidate in candidates}
    attention = {f'attn{i}.to_{part}.weight' for i in (1, 2) for part in 'qkv'}
    assert tails == {*attention, 'ff.net.0.proj.weight', 'ff.net.2.weight'}
    assert len({candidate.path for candidate in candidates}) == 16
    # CLIP's image tower in domain_embedding and the VAE have transformers, too
    assert all(name.split('.')[0] in ('down_blocks', 'mid_block', 'up_blocks') for name in {c.parameter for c in candidates})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert wrapper.backbone_parameters == parameter_count(unet)
    trained = set(rates(model, wrapper))
    expected = {name for name, value in model.named_parameters() if value.requires_grad and not name.startswith('backbone.unet.')}
    assert trained == expected
    assert any(name.startswith('backbone.text_adapter.') for name in trained)
    assert any(name.startswith('domain_embedding.image_encoder.') for name in trained)
    assert not any(name.startswith('backbone.latents.') for name in trained)
    # the shift is put where the walk of the U-Net calls whole transformers
    paths = block_paths(candidates)
    positions = cfg.custom_hooks[0].estimation.shift.positions
    assert [paths[0 if position == 'embedding' else position].split('.')[:2] for position in positions] == [
        ['down_blocks', '0']
    ] * 2
    assert 0 not in model.backbone.map_levels
