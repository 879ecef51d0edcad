"""Configs are read as they are meant: values of the environment, homes, options that somebody reads."""

import argparse
import os
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_dafm.core.config_file import ConfigOptions, arguments, check_arguments, load_config, stored_config
from mmseg_dafm.core.files import data_root

ROOT = Path(__file__).resolve().parents[2]
GTAV = ROOT / 'configs/_base_/datasets/gtav_to_cbm_512x512.py'
QUICKSTART = ROOT / 'configs/quickstart/domino_sub_toydrive.py'


def written(folder: Path, text: str) -> Path:
    path = folder / 'some.py'
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    'value', [r'D:\data\new', r'\\nas\share', "/o'neil", '/a "b"', '/data/a b', '/données', 'a\nb', r'\1', r'\g<0>', '/plain/']
)
def test_values_of_the_environment_arrive_as_they_are(monkeypatch, value):
    monkeypatch.setenv('GTAV_ROOT', value)
    assert load_config(GTAV).train_dataloader.dataset.data_root == value
    assert Config.fromfile(GTAV).train_dataloader.dataset.data_root == value, 'wherever the package was imported before'


def test_values_that_are_no_text_and_defaults_are_read_as_mmengine_does(monkeypatch, tmp_path):
    path = written(tmp_path, "a = {{'$NUMBER_OF_THINGS:80'}}\nb = '{{$NOT_SET:x/y}}/z'\nc = '{{ $NUMBER_OF_THINGS: 3 }}'\n")
    monkeypatch.setenv('NUMBER_OF_THINGS', '81')
    cfg = load_config(path)
    assert (cfg.a, cfg.b, cfg.c) == (81, 'x/y/z', '81')
    with pytest.raises(ValueError, match='cannot be read: KeyError: .*the environment variable NOT_SET is not set'):
        load_config(written(tmp_path, "a = '{{$NOT_SET:}}'\n"))


def test_a_home_is_expanded_alike_in_configs_data_sets_and_the_doctor(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('GTAV_ROOT', '~/gtav')
    cfg = load_config(GTAV, {'model.init_cfg': dict(type='Pretrained', checkpoint='~/a.pth')})
    assert cfg.train_dataloader.dataset.data_root == data_root('gtav') == str(tmp_path / 'gtav')
    assert cfg.model.init_cfg.checkpoint == str(tmp_path / 'a.pth')
    from mmseg.registry import DATASETS

    with pytest.raises(ValueError, match=f'the folder {tmp_path}/gtav/images does not exist'):
        DATASETS.build(dict(type='GTAVDataset', data_root='~/gtav'))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('modell.backbone.fuse', "--cfg-options modell.backbone.fuse: nobody reads the key 'modell'. Did you mean 'model'?"),
        ('optim_wraper.type', "Did you mean 'optim_wrapper'?"),
        ('xyzzy', "--cfg-options xyzzy: nobody reads the key 'xyzzy'."),
    ],
)
def test_options_that_nobody_reads_are_refused_with_the_nearest_key(option, message):
    with pytest.raises(ValueError) as caught:
        load_config(QUICKSTART, {option: 'add'})
    assert str(caught.value).endswith(message)


def test_options_of_known_keys_and_of_values_that_only_code_reads_are_merged(tmp_path):
    cfg = load_config(QUICKSTART, {'auto_scale_lr.enable': True, 'model.backbone.fuse': 'add'})
    assert (cfg.auto_scale_lr.enable, cfg.model.backbone.fuse) == (True, 'add')
    path = written(tmp_path, 'for_a_hook_of_mine = 1\n')
    assert load_config(path, {'for_a_hook_of_mine': 2}).for_a_hook_of_mine == 2


@pytest.mark.parametrize('option', ['dataset_type', 'train_pipeline.3.prob', 'test_pipeline.0.type', 'conditions'])
def test_options_of_variables_that_the_config_has_copied_are_refused(option):
    """mmengine merges options when the config has been executed: the value would stay as it was, without a word."""
    with pytest.raises(ValueError, match='whose value the config has already copied, so this changes nothing'):
        load_config(QUICKSTART, {option: 1})
    assert load_config(QUICKSTART, {'test_pipeline.0.type': 'X'}, frozenset(('test_pipeline',))).test_pipeline[0].type == 'X'


def test_a_misspelt_key_of_the_file_is_refused_but_not_a_variable_that_the_file_uses(tmp_path):
    with pytest.raises(ValueError, match=r"some.py: nobody reads the key 'custom_hook'\. Did you mean 'custom_hooks'\?"):
        load_config(written(tmp_path, 'custom_hook = []\n'))
    load_config(written(tmp_path, 'custom_hook = dict(type=1)\ncustom_hooks = [custom_hook]\nauthor = 1\n'))


@pytest.mark.parametrize('text', ['a = (\n', 'a = 1 / 0\n', "_base_ = 'none.py'\n", 'raise OSError'])
def test_configs_that_cannot_be_read_end_in_one_sentence(tmp_path, text):
    with pytest.raises(ValueError, match='config .*some.py cannot be read: ') as caught:
        load_config(written(tmp_path, text))
    assert '\n' not in str(caught.value)
    with pytest.raises(FileNotFoundError, match='config none.py does not exist'):
        load_config('none.py')


def test_a_checkpoints_own_config_takes_options_too():
    meta = dict(cfg=Config.fromfile(QUICKSTART).pretty_text)
    assert stored_config(meta, 'a.pth', {'model.backbone.fuse': 'add'}).model.backbone.fuse == 'add'
    with pytest.raises(ValueError, match='checkpoint a.pth holds no config: name the config file'):
        stored_config({}, 'a.pth')


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.fuze', "model.backbone.fuze: VPDBackbone takes no argument 'fuze'. Did you mean 'fuse'?"),
        ('train_dataloader.dataset.lenght', "ToyDriveDataset takes no argument 'lenght'. Did you mean 'length'?"),
        ('val_evaluator.sorce', "DomainIoUMetric takes no argument 'sorce'. Did you mean 'source'?"),
        ('default_hooks.logger.intervall', "LoggerHook takes no argument 'intervall'. Did you mean 'interval'?"),
        ('optim_wrapper.optimizer.weight_decy', "AdamW takes no argument 'weight_decy'. Did you mean 'weight_decay'?"),
        ('default_hooks.checkpoint.intervals', "CheckpointHook takes no argument 'intervals'. Did you mean 'interval'?"),
        ('optim_wrapper.clip_gard', "OptimWrapper takes no argument 'clip_gard'. Did you mean 'clip_grad'?"),
        ('param_scheduler.1.eta_mn', "PolyLR takes no argument 'eta_mn'. Did you mean 'eta_min'?"),
        ('train_dataloader.dataset.pipeline.3.probe', "RandomFlip takes no argument 'probe'. Did you mean 'prob'?"),
    ],
)
def test_a_misspelt_argument_is_named_with_its_class_and_the_nearest(option, message):
    with pytest.raises(ValueError) as caught:
        check_arguments(load_config(QUICKSTART, {option: 1}))
    assert str(caught.value).endswith(message)


def test_arguments_that_a_class_passes_on_elsewhere_cannot_be_told():
    from mmseg.registry import DATASETS, MODELS

    assert arguments(MODELS.get('VFMBackbone')) is None, 'its other arguments are those of timm'
    assert {'data_root', 'split', 'domain'} <= arguments(DATASETS.get('BaseSegDataset')) | {'split', 'domain'}
    assert 'num_classes' in arguments(MODELS.get('FCNHead')), 'of its parent'


@pytest.mark.slow
def test_no_shipped_config_is_refused():
    paths = [path for path in sorted((ROOT / 'configs').rglob('*.py')) if not {'_base_', 'suites'} & set(path.parts)]
    assert len(paths) > 100
    for path in paths:
        check_arguments(load_config(path))


def test_the_environment_is_left_alone(monkeypatch):
    monkeypatch.setenv('GTAV_ROOT', r'D:\x')
    load_config(GTAV)
    assert os.environ['GTAV_ROOT'] == r'D:\x'


def read_options(*options) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


def test_options_may_hold_dicts_and_suites_placeholders():
    given = read_options(
        "custom_hooks=[{'type': 'EMAHook', 'size': (1, 2), 'a': [3]}]", 'a=[1,(2,3)]', 'b=x=y', 'c={run:A}/{seed}', 'd={}'
    )
    hooks = [{'type': 'EMAHook', 'size': (1, 2), 'a': [3]}]
    assert given == {'custom_hooks': hooks, 'a': [1, (2, 3)], 'b': 'x=y', 'c': '{run:A}/{seed}', 'd': {}}


@pytest.mark.parametrize(
    'option', ['a', 'a=[1,2', "a=[{'type': 'X', 'size': (1, 2)]", 'a=[{type:X,size:(1,2)}]', 'a=[(1,2),b:(1,2)}']
)
def test_options_that_cannot_be_read_are_one_sentence(option, capsys):
    with pytest.raises(SystemExit, match='1'):
        read_options(option)
    assert re.match('error: --cfg-options .*(KEY=VALUE|the value cannot be read)', capsys.readouterr().err)
