"""tools/train.py and an adapter: what would freeze it is refused in one sentence, what slows it down is warned of."""

from logging import WARNING
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny import run_main

from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.models.adapters import adapter as config_check
from mmseg_dafm.models.adapters.adapter import check_adapter_config

ROOT = Path(__file__).resolve().parents[2]
GTAV = ROOT / 'configs/fishertune/gtav'
SHIPPED = sorted((ROOT / 'configs/baselines').rglob('*.py'))
RATE = 'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult'


@pytest.fixture
def said(monkeypatch):
    """Warnings of the current logger."""
    lines = []
    monkeypatch.setattr(config_check, 'print_log', lambda line, *where: where == ('current', WARNING) and lines.append(line))
    return lines


def with_adapter(kind: str, **options) -> Config:
    cfg = Config.fromfile(GTAV / 'dinov2_l_full_gtav.py')
    cfg.merge_from_dict({'model.backbone.adapter.type': kind, **options})
    return cfg


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('freeze', 'would be frozen by model.backbone.frozen=True: set model.backbone.frozen=False'),
        ('fishertune', r'would stay frozen under FisherTuneHook: take the config without FisherTune \(such as \*_full_\*.py\)'),
    ],
)
def test_what_would_freeze_the_adapter_ends_train_py_in_one_sentence(name, text, monkeypatch):
    config = f'dinov2_l_{name}_gtav.py'
    # the tool sets it; this process must not keep it
    monkeypatch.setenv('LOCAL_RANK', '0')
    with pytest.raises(SystemExit, match=rf"^error: model.backbone.adapter.type='LoRA' in \S+{config} {text}[^\n]*\.$"):
        run_main(ROOT / 'tools/train.py', monkeypatch, GTAV / config, '--cfg-options', 'model.backbone.adapter.type=LoRA')


def test_a_frozen_config_takes_an_adapter_as_the_sentence_says(said):
    cfg = Config.fromfile(GTAV / 'dinov2_l_freeze_gtav.py')
    cfg.merge_from_dict({'model.backbone.frozen': False, 'model.backbone.adapter.type': 'LoRA', RATE: 0.5})
    check_adapter_config(cfg)
    assert said == []


@pytest.mark.parametrize(('kind', 'shipped'), [('LoRA', 0.5), ('VPT', 1.0), ('Rein', 1.0)])
def test_a_tenth_of_the_rate_is_warned_of_in_training_alone(kind, shipped, said):
    cfg = with_adapter(kind)
    with pytest.raises(FileNotFoundError):
        check_config(cfg, ('train_dataloader',))
    (line,) = said
    assert line.startswith(
        f'{RATE}=0.1 in {GTAV}/dinov2_l_full_gtav.py lets the {kind} of model.backbone.adapter learn at 0.1 of'
    )
    assert f': set it to {shipped}, as configs/baselines/adapters do (LoRA 0.5, others 1.0).' in line
    said.clear()
    with pytest.raises(FileNotFoundError):
        check_config(cfg, ('test_dataloader',))
    check_adapter_config(with_adapter(kind, **{RATE: shipped}))
    assert said == []


def test_the_rate_is_that_of_the_longest_key_in_the_parameters_name(said):
    for kind, key, warned in (('LoRA', 'qkv.lora_A', False), ('VPT', 'qkv.lora_A', True), ('VPT', 'backbone.adapter', False)):
        cfg = with_adapter(kind)
        cfg.optim_wrapper.paramwise_cfg.custom_keys[key] = dict(lr_mult=1.0)
        said.clear()
        check_adapter_config(cfg)
        assert bool(said) == warned, (kind, key)


def test_no_shipped_config_is_warned_of_and_one_without_adapter_passes(said):
    assert len(SHIPPED) > 30
    for path in SHIPPED:
        check_adapter_config(Config.fromfile(path))
    check_adapter_config(Config.fromfile(GTAV / 'dinov2_l_freeze_gtav.py'))
    check_adapter_config(Config(dict(model=dict(type='X'))))
    assert said == []
