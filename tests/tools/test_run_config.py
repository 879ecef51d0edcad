"""What the command line does to a config, and what is refused before a run."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmseg_dafm.core import run_config
from mmseg_dafm.doctor.config_check import check_config, missing_files
from mmseg_dafm.models.heads.config_check import check_head_config


def config(**fields) -> Config:
    return Config(fields, cfg_text='#', filename='some.py')


def test_work_dir_is_argument_then_config_then_name():
    cfg = config()
    run_config.set_work_dir(cfg, 'configs/a/run.py', 'chosen')
    assert cfg.work_dir == 'chosen'
    run_config.set_work_dir(cfg, 'configs/a/run.py')
    assert cfg.work_dir == 'chosen'
    cfg = config()
    run_config.set_work_dir(cfg, 'configs/a/run.py')
    assert cfg.work_dir == 'work_dirs/run'


def test_resume_prefers_the_work_dir_over_load_from(tmp_path):
    torch.save({}, tmp_path / 'iter_7.pth')
    # where the folder was before somebody moved it
    (tmp_path / 'last_checkpoint').write_text('/scratch/run/iter_7.pth')
    cfg = config(work_dir=str(tmp_path), load_from='pretrained.pth')
    run_config.set_resume(cfg, True)
    assert cfg.resume is True
    assert cfg.load_from == str(tmp_path / 'iter_7.pth')


@pytest.mark.parametrize('exists', [True, False])
def test_resume_in_an_empty_work_dir_starts_from_load_from(tmp_path, exists):
    cfg = config(work_dir=str(tmp_path if exists else tmp_path / 'none'), load_from='pretrained.pth')
    run_config.set_resume(cfg, True)
    assert cfg.resume is False
    assert cfg.load_from == 'pretrained.pth'


def test_no_resume_overrides_the_config(tmp_path):
    cfg = config(work_dir=str(tmp_path), resume=True)
    run_config.set_resume(cfg, False)
    assert cfg.resume is False


@pytest.mark.parametrize(
    ('bf16', 'dtype', 'loss_scale'), [(True, 'bfloat16', 1.0), (False, 'float16', 'dynamic')], ids=['bf16', 'fp16']
)
@pytest.mark.parametrize('wrapper', [{}, {'type': 'OptimWrapper'}], ids=['no type', 'type'])
def test_amp_picks_the_wrapper_and_dtype(monkeypatch, bf16, dtype, loss_scale, wrapper):
    monkeypatch.setattr(run_config, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: bf16)
    cfg = config(optim_wrapper=wrapper | {'optimizer': {'type': 'SGD', 'lr': 0.1}})
    run_config.enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert (cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == (dtype, loss_scale)


def test_amp_leaves_an_amp_wrapper_and_refuses_an_unknown_one(monkeypatch):
    monkeypatch.setattr(run_config, 'get_device', lambda: 'cuda')
    cfg = config(optim_wrapper={'type': 'AmpOptimWrapper', 'dtype': 'float16'})
    run_config.enable_amp(cfg)
    assert cfg.optim_wrapper == {'type': 'AmpOptimWrapper', 'dtype': 'float16'}
    with pytest.raises(ValueError, match=r"no mixed precision version of optim_wrapper.type='StrangeOptimWrapper'"):
        run_config.enable_amp(config(optim_wrapper={'type': 'StrangeOptimWrapper'}))


def test_amp_is_refused_on_cpu(monkeypatch):
    monkeypatch.setattr(run_config, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match="--amp needs a GPU, but the device is 'cpu'"):
        run_config.enable_amp(config(optim_wrapper={}))


@pytest.mark.parametrize('cuda', [True, False])
def test_sync_bn_and_nccl_are_replaced_without_cuda_only(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    model = {
        'neck': {'norm_cfg': {'type': 'SyncBN'}},
        'heads': [{'norm_cfg': {'type': 'DominoNorm', 'stats': 'SyncBN'}}],
    }
    cfg = config(model=model, launcher='pytorch', env_cfg={'dist_cfg': {'backend': 'nccl', 'timeout': 5}})
    run_config.adapt_to_device(cfg)
    expected = ('SyncBN', 'nccl') if cuda else ('BN', 'gloo')
    assert cfg.model.neck.norm_cfg.type == cfg.model.heads[0].norm_cfg.stats == expected[0]
    assert cfg.env_cfg.dist_cfg == {'backend': expected[1], 'timeout': 5}
    assert ('model_wrapper_cfg' in cfg) is not cuda


def test_slurm_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='--launcher slurm needs CUDA devices'):
        run_config.adapt_to_device(config(model={}, launcher='slurm'))


def leaf(name, **fields):
    return {'type': 'BaseSegDataset', 'ann_file': name, 'pipeline': [{'type': 'LoadImageFromFile'}]} | fields


def test_every_leaf_dataset_is_visited():
    tree = {
        'type': 'ConcatDataset',
        'datasets': [leaf('a'), {'type': 'RepeatDataset', 'dataset': leaf('b'), 'times': 2}],
        'extra': {'type': 'Mix', 'real': leaf('c'), 'synthetic': leaf('d')},
    }
    names = []
    run_config.for_each_dataset(Config(tree), lambda dataset: names.append(dataset['ann_file']))
    assert sorted(names) == ['a', 'b', 'c', 'd']


def test_tta_wraps_the_model_and_sets_every_pipeline():
    pipeline = [{'type': 'TestTimeAug'}]
    cfg = config(
        model={'type': 'EncoderDecoder'},
        tta_pipeline=pipeline,
        test_dataloader={'dataset': {'type': 'ConcatDataset', 'datasets': [leaf('a'), leaf('b')]}},
    )
    run_config.enable_tta(cfg)
    assert cfg.model == {'type': 'SegTTAModel', 'module': {'type': 'EncoderDecoder'}}
    assert [dataset.pipeline for dataset in cfg.test_dataloader.dataset.datasets] == [pipeline, pipeline]


def test_tta_sets_the_pipeline_that_rules_its_parts():
    pipeline = [{'type': 'TestTimeAug'}]
    joined = {'type': 'DomainConcatDataset', 'pipeline': [{'type': 'Resize'}], 'datasets': [leaf('a'), leaf('b')]}
    cfg = config(model={'type': 'EncoderDecoder'}, tta_pipeline=pipeline, test_dataloader={'dataset': joined})
    run_config.enable_tta(cfg)
    assert cfg.test_dataloader.dataset.pipeline == pipeline
    assert run_config.pipelines(cfg.test_dataloader.dataset) == [pipeline]


def test_data_inside_a_joined_set_is_looked_for():
    part = {'type': 'BaseSegDataset', 'data_root': 'no/where'}
    joined = {'type': 'DomainConcatDataset', 'pipeline': [{'type': 'LoadImageFromFile'}], 'datasets': [part]}
    (missing,) = missing_files(config(test_dataloader={'dataset': joined}))
    assert "test_dataloader: BaseSegDataset has data_root='no/where'" in missing.what


def test_tta_without_pipeline_is_refused():
    with pytest.raises(ValueError, match='--tta needs tta_pipeline, which some.py does not define'):
        run_config.enable_tta(config(model={}))


def test_drawing_needs_hook_and_visualizer():
    with pytest.raises(ValueError, match='--show and --show-dir need default_hooks.visualization'):
        run_config.enable_drawing(config(default_hooks={}), True, None, 1)


def test_missing_files_are_named_with_key_and_remedy(tmp_path):
    (tmp_path / 'data' / 'images').mkdir(parents=True)
    good = leaf('a', data_root=str(tmp_path / 'data'), data_prefix={'img_path': 'images'})
    cfg = config(
        train_dataloader={'dataset': good | {'data_prefix': {'img_path': 'images', 'seg_map_path': 'labels'}}},
        val_dataloader={'dataset': {'type': 'ConcatDataset', 'datasets': [good, leaf('b', data_root='no/where')]}},
        model={
            'type': 'X',
            'class_embeddings': {'path': 'none.safetensors', 'classes': 'CityscapesDataset'},
            'descriptions': {'path': 'data/domains_weather8.safetensors'},
            'backbone': {'unet': {'pretrained': '/no/model'}, 'hub': {'pretrained': 'owner/name', 'model': 'ViT-L-14'}},
            'vit': [{'weights': 'no/dinov2.pth'}, {'weights': 'timm'}],
            'latents': {'pretrained': {'vae': 'no/vae.pth', 'unet': 'owner/name'}},
            'neck': {'init_cfg': {'checkpoint': 'torchvision://resnet50'}},
            'heads': [{'init_cfg': {'type': 'Pretrained', 'checkpoint': './no.pth'}}],
        },
        load_from='no_checkpoint.pth',
    )
    found = '\n'.join(map(str, missing_files(cfg)))
    assert len(found.splitlines()) == 9
    assert f"train_dataloader: BaseSegDataset has data_prefix.seg_map_path='labels', but {tmp_path}" in found
    assert "val_dataloader: BaseSegDataset has data_root='no/where', which is not a folder" in found
    assert 'model.class_embeddings.path names none.safetensors' in found
    assert 'python tools/embed_text.py --dataset CityscapesDataset --out none.safetensors' in found
    assert 'model.backbone.unet.pretrained names /no/model' in found
    assert 'python tools/embed_text.py --domains weather8 --out data/domains_weather8.safetensors' in found
    assert 'model.vit[0].weights names no/dinov2.pth' in found
    assert 'model.latents.pretrained.vae names no/vae.pth' in found
    assert 'model.heads[0].init_cfg.checkpoint names ./no.pth' in found
    assert 'load_from names no_checkpoint.pth' in found
    with pytest.raises(FileNotFoundError, match='val_dataloader'):
        check_config(cfg)
    assert 'val_dataloader' not in '\n'.join(map(str, missing_files(cfg, ('train_dataloader',))))


def test_a_folder_missing_from_two_loaders_is_named_once():
    loader = {'dataset': leaf('a', data_root='no/where')}
    (missing,) = missing_files(config(train_dataloader=loader, test_dataloader=loader))
    assert missing.what.startswith("train_dataloader, test_dataloader: BaseSegDataset has data_root='no/where'")


def test_a_complete_config_has_nothing_missing(tmp_path):
    for folder, shape in (('images', (4, 4, 3)), ('labels', (4, 4))):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / folder / 'x.png')
    prefix = {'img_path': 'images', 'seg_map_path': 'labels'}
    dataset = {'type': 'BaseSegDataset', 'data_root': str(tmp_path), 'data_prefix': prefix, 'img_suffix': '.png'}
    cfg = config(train_dataloader={'dataset': dataset}, model={'type': 'X'}, load_from=None)
    check_config(cfg)
    assert list(missing_files(cfg)) == []


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'train_cfg.max_iters': -3}, r'train_cfg.max_iters=-3 must be a whole number of 1 or more'),
        ({'train_dataloader.batch_size': 4.5}, r'train_dataloader.batch_size=4.5 must be a whole number'),
        ({'test_dataloader.batch_size': 0}, r'test_dataloader.batch_size=0 must be'),
        ({'randomness.seed': -1}, r'randomness.seed=-1 must be a whole number from 0'),
        ({'model.data_preprocessor.std': [0, 0, 0]}, r'model.data_preprocessor.std=\[0, 0, 0\] must be .* above 0'),
        ({'optim_wrapper.optimizer.lr': 'abc'}, r"optim_wrapper.optimizer.lr='abc' must be a number of 0 or more"),
        ({'optim_wrapper.optimizer.weight_decay': -1}, r'optim_wrapper.optimizer.weight_decay=-1 must be a number'),
        (
            {'param_scheduler': [dict(type='PolyLR', eta_min='1e')]},
            r"param_scheduler.0.eta_min='1e'",
        ),
        ({'model.data_preprocessor.mean': [0, 0]}, r'model.data_preprocessor.mean=\[0, 0\] must be one number or three'),
    ],
)
def test_numbers_with_which_a_run_does_nothing_are_refused(root, options, words):
    from mmseg_dafm.doctor.config_check import check_numbers

    cfg = Config.fromfile(root / 'configs/toy/resnet_toydrive.py')
    check_numbers(cfg)
    cfg.merge_from_dict(options)
    with pytest.raises(ValueError, match=words):
        check_numbers(cfg)


LOSS = dict(type='CrossEntropyLoss')
HEADS = [
    (dict(ignore_index=3), r'model.decode_head.ignore_index=3 is one of the classes 0 to 5'),
    (dict(loss_decode=[LOSS, dict(type='DiceLoss', ignore_index=2)]), r'loss_decode of DiceLoss: ignore_index=2 is one of'),
    (
        dict(loss_decode=dict(type='DiceLoss', ignore_index=254)),
        r'DiceLoss: ignore_index=254, and .*head.ignore_index=255',
    ),
    (dict(loss_decode=dict(LOSS, class_weight=[1.0, 2.0])), r'CrossEntropyLoss: class_weight has 2 numbers, .*num_classes=6'),
    (dict(in_index=4), r'decode_head.in_index=4: model.backbone gives 4 maps, 0 to 3'),
    (dict(in_index=[0, -5], in_channels=[8, 8]), r'decode_head.in_index=\[0, -5\]: model.backbone gives 4 maps'),
    (dict(in_index=[0, 1], in_channels=[8]), r'in_index=\[0, 1\] and in_channels=\[8\] differ in length'),
]


@pytest.mark.parametrize(('options', 'words'), HEADS)
def test_heads_that_leave_a_class_out_or_do_not_fit_are_refused(root, options, words):
    cfg = Config.fromfile(root / 'configs/toy/resnet_toydrive.py')
    check_head_config(cfg)
    cfg.model.decode_head.update(options)
    for wrapped in (cfg, dict(model=dict(type='SegTTAModel', module=cfg.model))):
        with pytest.raises(ValueError, match=words):
            check_head_config(wrapped)
    with pytest.raises(ValueError, match=words):
        check_config(cfg)


def test_heads_with_lists_that_fit_pass():
    head = dict(num_classes=3, ignore_index=None, loss_decode=dict(LOSS, class_weight=[1.0] * 3), in_index=7)
    check_head_config(dict(model=dict(backbone=dict(type='CGNet'), decode_head=head)))
    # a neck makes maps of its own
    check_head_config(dict(model=dict(backbone=dict(type='ResNet', out_indices=(3,)), neck=dict(type='FPN'), decode_head=head)))
