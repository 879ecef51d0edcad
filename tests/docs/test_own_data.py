"""docs/own_data.md: its files, saved as printed, train and test on drawn images of three classes; only the networks are small."""

import json
import sys

import numpy as np
import pytest
import torch
from mmseg.registry import DATASETS, MODELS
from PIL import Image

from mmseg_dafm.core.config_file import load_config
from mmseg_dafm.models.domain.embedding_file import build_bank, save_embeddings
from tests.docs.snippets import block_with, save
from tests.models_common import CLIP, UNET, VAE
from tests.tools.tiny import run_main

FILES = ('my_streets', 'my_data', 'my_fishertune', 'my_daft', 'my_domino')
CLASSES = ('background', 'road', 'car')
# small networks, on top of the printed configs
SMALL = dict(
    my_fishertune=dict(
        model=dict(
            backbone=dict(
                model_name='vit_tiny_patch16_224', pretrained=False, weights=None, embed_dim=32, depth=4, num_heads=2,
                out_indices=(0, 1, 2, 3), img_size=64,
            ),
            neck=dict(neck=dict(out_channels=16)), decode_head=dict(in_channels=[16] * 4, channels=16),
        ),
    ),
    my_daft=dict(
        model=dict(
            backbone=dict(base_channels=8, init_cfg=dict(checkpoint='resnet.pth')),
            decode_head=dict(in_channels=256, channels=16, c1_in_channels=32, c1_channels=8),
        ),
    ),
    my_domino=dict(
        model=dict(
            backbone=dict(architecture=dict(unet=UNET, vae=VAE), pretrained=None),
            neck=dict(out_channels=16), decode_head=dict(in_channels=[16] * 4, channels=16),
            domain_embedding=dict(image_encoder=dict(model='tiny', config=CLIP, pretrained=None, image_size=32)),
        ),
    ),
)  # fmt: skip
# a short run on small images
SHORT = {
    'model.data_preprocessor.size': '(64,64)',
    'train_dataloader.dataset.pipeline.3.scale': '(96,64)',
    'train_dataloader.dataset.pipeline.4.crop_size': '(64,64)',
    'train_dataloader.batch_size': 2,
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.persistent_workers': False for part in ('train', 'val', 'test')},
}
TWO_ITERATIONS = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2}
SHORT_FISHERTUNE = {
    'custom_hooks.0.warmup_iters': 1, 'custom_hooks.0.interval': 1, 'custom_hooks.0.estimation.images': 2,
    'custom_hooks.0.estimation.bank_images': 2, 'custom_hooks.0.estimation.batch_size': 1,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, root, monkeypatch):
    """The current folder, which stands for the project's: the printed files and a few drawn images."""
    page, rng = root / 'docs/own_data.md', np.random.default_rng(0)
    for name in FILES:
        save(tmp_path, root, f'{name}.py', block_with(page, f'# {name}.py\n'))
    for name, small in SMALL.items():
        lines = [f'{key} = {value!r}' for key, value in small.items()]
        (tmp_path / f'small_{name}.py').write_text('\n'.join([f"_base_ = '{name}.py'", *lines]))
    for part in ('train', 'day', 'night'):
        for kind in ('images', 'labels'):
            (tmp_path / 'data/my_streets' / kind / part).mkdir(parents=True)
        for index in range(4):
            label = np.zeros((64, 96), np.uint8)
            label[24:], label[40:56, 16:48], label[:4] = 1, 2, 255
            image = np.choose(label % 255, [40, 120, 220])[..., None] + rng.integers(0, 30, (64, 96, 3))
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / f'data/my_streets/images/{part}/{index}.jpg')
            Image.fromarray(label).save(tmp_path / f'data/my_streets/labels/{part}/{index}.png')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop('my_streets', None)
    DATASETS.module_dict.pop('MyStreets', None)


def options(*changes: dict) -> list[str]:
    return ['--cfg-options', *(f'{key}={value}' for part in (SHORT, *changes) for key, value in part.items())]


@pytest.mark.slow
def test_fishertune_trains_tests_and_paints(folder, root, monkeypatch):
    tools, config = root / 'tools', 'small_my_fishertune.py'
    run_main(tools / 'train.py', monkeypatch, config, *options(TWO_ITERATIONS, SHORT_FISHERTUNE))
    work_dir = folder / 'work_dirs/small_my_fishertune'
    assert (work_dir / 'fisher_selection.json').is_file()
    assert set(json.loads((work_dir / 'domain_iou.json').read_text())['summary']['domains']) == {'day', 'night'}
    checkpoint = work_dir / 'iter_2.pth'
    run_main(tools / 'test.py', monkeypatch, config, checkpoint, *options())
    assert '| night |' in (work_dir / 'domain_iou_iter_2.md').read_text()
    run_main(tools / 'demo.py', monkeypatch, 'data/my_streets/images/night', checkpoint, '--out', 'out', '--device', 'cpu')
    assert len(list((folder / 'out').iterdir())) == 4


@pytest.mark.slow
def test_daft_trains(folder, root, monkeypatch):
    cfg = load_config('small_my_daft.py')
    backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None, 'norm_cfg': dict(type='BN')})
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    torch.save(backbone.state_dict(), folder / 'resnet.pth')
    run_main(root / 'tools/train.py', monkeypatch, 'small_my_daft.py', *options(TWO_ITERATIONS))
    assert (folder / 'work_dirs/small_my_daft/daft_converted.pth').is_file()


@pytest.mark.slow
def test_domino_trains_with_the_embeddings_of_the_classes(folder, root, monkeypatch):
    (folder / 'data/embeddings').mkdir()
    save_embeddings('data/embeddings/my_streets.safetensors', build_bank(dict(provider='hash', classes=CLASSES, dim=16)))
    domains = build_bank(dict(provider='hash', classes='weather8', dim=16, projected_dim=12))
    save_embeddings('data/embeddings/domains_weather8.safetensors', domains)
    steps = {'train_dataloader.dataset.pipeline.1.size': 32, 'val_dataloader.dataset.pipeline.1.size': 32}
    steps['test_dataloader.dataset.pipeline.1.size'] = 32
    run_main(root / 'tools/train.py', monkeypatch, 'small_my_domino.py', *options(TWO_ITERATIONS, steps))
    assert list((folder / 'work_dirs/small_my_domino').glob('best_mIoU.day_iter_2*.pth'))


@pytest.mark.parametrize('accumulated', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_dry_run_keeps_nothing(folder, root, monkeypatch, capsys, accumulated):
    run_main(
        root / 'tools/train.py',
        monkeypatch,
        'small_my_fishertune.py',
        '--dry-run',
        *options({'optim_wrapper.accumulative_counts': accumulated}),
    )
    assert 'dry run passed' in capsys.readouterr().out
    assert not (folder / 'work_dirs').exists()


def test_a_fourth_class_in_a_label_is_refused(folder, root, monkeypatch):
    Image.fromarray(np.full((64, 96), 3, np.uint8)).save(folder / 'data/my_streets/labels/train/0.png')
    with pytest.raises(SystemExit, match=r'MyStreets.*0\.png.*3'):
        run_main(root / 'tools/train.py', monkeypatch, 'small_my_fishertune.py', *options(TWO_ITERATIONS, SHORT_FISHERTUNE))
