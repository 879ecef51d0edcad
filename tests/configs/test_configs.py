"""Every config: short, plain, complete; its model builds and its optimizer groups can be made. Nothing is fetched."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.apis import MMSegInferencer
from mmseg.registry import METRICS, MODELS

from mmseg_dafm.core.run_config import pipelines
from mmseg_dafm.models.backbones.vpd_backbone import VPDBackbone
from mmseg_dafm.models.domain.embedding_bank import DOMAIN_PROMPTS
from mmseg_dafm.models.domain.embedding_file import build_bank, hash_embeddings, resolve_classes, save_embeddings
from mmseg_dafm.optim.vpd_constructor import parameter_groups, role_of

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
# suites are lists of runs
CONFIGS = sorted(path for path in FOLDER.rglob('*.py') if not {'_base_', 'suites'} & {*path.parts})
WIDTH = 768  # SD-1.5's context and CLIP ViT-L/14's joint space
NEEDED = (
    'custom_imports', 'default_scope', 'test_pipeline', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'tta_pipeline',
)  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def values(node):
    """All leaves of a config."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from values(child)
    else:
        yield node


def give_embeddings(node, folder: Path) -> None:
    """Replace every embedding file in a model config by one with the same names and hash vectors."""
    if isinstance(node, list | tuple):
        for child in node:
            give_embeddings(child, folder)
    if not isinstance(node, dict):
        return
    for child in node.values():
        give_embeddings(child, folder)
    if 'path' not in node:
        return
    named = Path(node['path'])
    stem = named.stem.removeprefix('domains_')
    names = resolve_classes(node.get('row_names') or node.get('classes') or stem)
    bank = hash_embeddings(names, WIDTH, WIDTH)
    node['path'] = str(folder / named.name)
    if named.suffix == '.safetensors':
        save_embeddings(node['path'], bank)
    else:
        torch.save(bank.pooled, node['path'])


def build(cfg: Config, folder: Path) -> torch.nn.Module:
    """Build a config's model without memory for its weights."""
    model = cfg.model.to_dict()
    give_embeddings(model, folder)
    # checked against the backbone by value, which meta tensors do not have
    preprocessor = MODELS.build(model.pop('data_preprocessor'))
    with torch.device('meta'):
        return MODELS.build({**model, 'data_preprocessor': preprocessor})


def class_names(cfg: Config) -> tuple:
    """Class names of the first data set that is tested."""
    dataset = cfg.test_dataloader.dataset
    return resolve_classes((dataset.datasets[0] if 'datasets' in dataset else dataset).type)


def test_there_are_configs_and_their_presets_are_files_of_known_names():
    assert len(CONFIGS) >= 17
    files = {Path(value).name for path in CONFIGS for value in values(Config.fromfile(path).model.to_dict())
             if isinstance(value, str) and Path(value).name.startswith('domains_')}  # fmt: skip
    assert {Path(name).stem.removeprefix('domains_') for name in files} <= set(DOMAIN_PROMPTS)


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_config_is_plain_and_complete(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert re.search(r'^\s*(import|from)\s', text, re.MULTILINE) is None
    cfg = Config.fromfile(path)
    assert [key for key in NEEDED if cfg.get(key) is None] == []
    assert cfg.default_scope == 'mmseg'
    assert cfg.custom_imports.imports == ['mmseg_dafm']
    assert [value for value in values(cfg._cfg_dict.to_dict()) if isinstance(value, str) and os.path.isabs(value)] == []
    METRICS.build(cfg.test_evaluator)
    # the schedule ends with the training, or one later: mmengine arrives one iteration early, and VPD's rule does not
    assert max(part.end for part in cfg.param_scheduler) - cfg.train_cfg.max_iters in (0, 1)


@pytest.mark.parametrize('path', sorted(FOLDER.rglob('*.py')), ids=name_of)
def test_mmsegs_inferencer_and_tta_find_the_test_pipeline(path):
    cfg = Config.fromfile(path)
    if 'test_dataloader' not in cfg:
        pytest.skip('no test data')
    tested = Config.fromfile(path).test_dataloader.dataset
    # what mmseg's tools/test.py --tta does
    tested.pipeline = cfg.tta_pipeline
    assert pipelines(tested) == [cfg.tta_pipeline]
    inferencer = MMSegInferencer.__new__(MMSegInferencer)
    pipeline = inferencer._init_pipeline(cfg)
    data = pipeline(np.zeros((48, 64, 3), np.uint8))
    assert data['inputs'].shape[0] == 3


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_model_builds_and_every_trainable_parameter_is_in_one_group_by_its_role(path, tmp_path):
    cfg = Config.fromfile(path)
    model = build(cfg, tmp_path)
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    wrapper = cfg.optim_wrapper
    if 'AmpOptimWrapper' in wrapper.get('type', '') and not torch.cuda.is_available():
        # mmengine makes no such wrapper without a GPU
        wrapper = {key: value for key, value in wrapper.items() if key not in ('dtype', 'loss_scale')}
        wrapper['type'] = cfg.optim_wrapper.type.replace('Amp', '')
    # as the tools do it, optimizer included
    build_optim_wrapper(model, wrapper)
    if wrapper.get('constructor') != 'VPDOptimWrapperConstructor':
        return
    base = wrapper.optimizer
    groups = parameter_groups(model, base.lr, base.weight_decay, **wrapper.get('paramwise_cfg', {}))
    assert sum(len(group['params']) for group in groups) == len(trainable)
    assert {name for name in trainable if role_of(name) == 'other'} == set()
    assert all(group['lr'] > 0 for group in groups)
    assert not any(name.startswith('backbone.latents.') for name in trainable), 'the VAE never trains'
    if isinstance(model.backbone, VPDBackbone):
        rates = {group['name'].removesuffix(' (no decay)'): group['lr'] for group in groups}
        assert ('unet' in rates) != model.backbone.frozen
    if hasattr(model.decode_head, 'num_classes'):
        assert model.decode_head.num_classes == len(class_names(cfg))


def test_the_vpd_baseline_has_the_papers_868_million_parameters(tmp_path):
    model = build(Config.fromfile(FOLDER / 'domino/vpd_cityscapes.py'), tmp_path)
    count = sum(value.numel() for value in model.parameters() if value.requires_grad)
    output_layers = 12_164  # conv_norm_out and conv_out, which never get a gradient and are not kept
    assert count + output_layers == 868_112_343
    assert model.backbone.out_channels == (320, 659, 1299, 1280)


def test_rows_are_selected_by_name_whatever_the_default_device(tmp_path):
    bank = hash_embeddings(('a', 'b', 'c'), 4, 5)
    save_embeddings(tmp_path / 'bank.safetensors', bank)
    with torch.device('meta'):
        found = build_bank(dict(path=tmp_path / 'bank.safetensors', classes=['c', 'a', 'b']))
    assert torch.equal(found.pooled, bank.pooled.roll(1, 0))
    assert torch.equal(found.projected, bank.projected.roll(1, 0))
