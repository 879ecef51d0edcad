"""Every base config of the data sets: it parses, is short, and its parts build and run on miniature folders."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.registry import DATASETS, METRICS
from torch.utils.data import DataLoader

from mmseg_dafm.datasets import DomainTagged
from mmseg_dafm.evaluation.protocol import describe_test

CONFIGS = sorted((Path(__file__).parents[2] / 'configs/_base_/datasets').glob('*.py'))


def write(path: Path, shape: tuple, fill: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, fill, np.uint8))


@pytest.fixture
def miniature(tmp_path, monkeypatch):
    """Cityscapes, ACDC and synthetic images in their layouts, two of each, with the environment pointing at them."""
    for split in ('train', 'val'):
        for i in range(2):
            stem = f'{split}/aachen/aachen_{i:06d}_000019'
            write(tmp_path / f'cs/leftImg8bit/{stem}_leftImg8bit.png', (128, 256, 3), 80)
            write(tmp_path / f'cs/gtFine/{stem}_gtFine_labelTrainIds.png', (128, 256), 13)
    for condition in ('fog', 'night', 'rain', 'snow'):
        write(tmp_path / f'acdc/rgb_anon/{condition}/val/G/G_{condition}_rgb_anon.png', (108, 192, 3), 60)
        write(tmp_path / f'acdc/gt/{condition}/val/G/G_{condition}_gt_labelTrainIds.png', (108, 192), 2)
        write(tmp_path / f'syn/{condition}/aachen/aachen_000000_000019.png', (64, 128, 3), 200)
    for variable, folder in (('CITYSCAPES_ROOT', 'cs'), ('ACDC_ROOT', 'acdc'), ('SYNTHETIC_ROOT', 'syn')):
        monkeypatch.setenv(variable, str(tmp_path / folder))


def test_there_are_configs():
    assert len(CONFIGS) >= 5


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_is_short_and_complete(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert 'import ' not in text
    cfg = Config.fromfile(path)
    for key in ('train_pipeline', 'test_pipeline', 'tta_pipeline', 'crop_size'):
        assert key in cfg, key
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator'):
        assert key in cfg, key
    METRICS.build(cfg.test_evaluator)


def run_all_parts(cfg):
    """Build the three loaders' sets, take the first and last sample of each, and one of the TTA pipeline."""
    train = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}, seed=0)
    batch = next(iter(train))
    test = DATASETS.build(cfg.test_dataloader.dataset)
    domains = [test[i]['data_samples'].get('domain') for i in range(len(test))]
    first = cfg.test_dataloader.dataset
    first = first.datasets[0] if 'datasets' in first else first
    augmented = DATASETS.build({**first, 'pipeline': cfg.tta_pipeline})
    loader = DataLoader(augmented, batch_size=1, collate_fn=pseudo_collate)
    views = next(iter(loader))['data_samples']
    return batch, domains, views


@pytest.fixture
def targets(miniature, tmp_path, monkeypatch):
    """GTAV, BDD100K and Mapillary beside the others, in the sizes of the releases divided by 8."""
    write(tmp_path / 'gtav/images/00001.png', (132, 240, 3), 50)
    write(tmp_path / 'gtav/labels/00001_labelTrainIds.png', (132, 240), 0)
    write(tmp_path / 'bdd/images/10k/val/a.jpg', (90, 160, 3), 70)
    write(tmp_path / 'bdd/labels/sem_seg/masks/val/a.png', (90, 160), 1)
    write(tmp_path / 'map/half/validation/images/b.jpg', (150, 200, 3), 90)
    write(tmp_path / 'map/half/validation/train_ids/b.png', (150, 200), 2)
    for variable, folder in (('GTAV_ROOT', 'gtav'), ('BDD100K_ROOT', 'bdd'), ('MAPILLARY_ROOT', 'map')):
        monkeypatch.setenv(variable, str(tmp_path / folder))


ACDC = dict.fromkeys(('fog', 'night', 'rain', 'snow'), (540, 960))


@pytest.mark.parametrize(
    ('name', 'shapes', 'source'),
    [
        ('gtav_to_cbm_512x512', {'cityscapes': (512, 1024), 'bdd100k': (720, 1280), 'mapillary': (512, 683)}, 'gtav'),
        ('cityscapes_to_acdc_bdd_512x512', {'cityscapes': (512, 1024), **ACDC, 'bdd100k': (720, 1280)}, 'cityscapes'),
    ],
)
def test_generalisation_sets_are_tested_at_their_own_scales(root, targets, name, shapes, source):
    cfg = Config.fromfile(root / f'configs/_base_/datasets/{name}.py')
    batch, domains, views = run_all_parts(cfg)
    assert len(batch['inputs']) == 4
    # crops of images whose shorter side was drawn from 256 to 1024
    assert all(256 <= side <= 512 for image in batch['inputs'] for side in image.shape[1:])
    assert {sample.domain for sample in batch['data_samples']} == {source}
    test = DATASETS.build(cfg.test_dataloader.dataset)
    found = {sample['data_samples'].domain: tuple(sample['inputs'].shape[1:]) for sample in (test[i] for i in range(len(test)))}
    assert found == shapes
    assert list(dict.fromkeys(domains)) == list(shapes)
    # labels keep their size, and views are scaled from the set's own scale
    assert all(sample['data_samples'].gt_sem_seg.shape == sample['data_samples'].ori_shape for sample in test)
    assert len(views) == 6
    heights = sorted({view.shape[2] for view in run_views(cfg)})
    assert heights == [384, 512, 640]


def run_views(cfg):
    augmented = DATASETS.build({**cfg.test_dataloader.dataset.datasets[0], 'pipeline': cfg.tta_pipeline})
    return next(iter(DataLoader(augmented, batch_size=1, collate_fn=lambda items: [v[None] for v in items[0]['inputs']])))


def test_the_protocol_names_the_scale_of_each_domain(root, targets):
    cfg = Config.fromfile(root / 'configs/_base_/datasets/gtav_to_cbm_512x512.py')
    stamp = describe_test(cfg.to_dict())
    assert stamp['scales'] == ['(1024, 512)', 'bdd100k (1280, 720)']
    assert stamp['data'][1:] == ['TaggedBDD100KDataset(val)', 'TaggedMapillaryDataset(validation, half)']


@pytest.mark.parametrize('name', ['cityscapes_to_acdc_512x512', 'cityscapes_to_acdc_halfres', 'cityscapes_synthetic_mix'])
def test_cityscapes_to_acdc(root, miniature, name):
    cfg = Config.fromfile(root / f'configs/_base_/datasets/{name}.py')
    batch, domains, views = run_all_parts(cfg)
    assert batch['inputs'][0].shape[1] <= 512
    assert batch['data_samples'][0].domain_img.shape == (3, 224, 448)
    assert domains == ['cityscapes', 'cityscapes', 'fog', 'night', 'rain', 'snow']
    assert len(views) == 6
    # The label keeps the stored size whatever the image is scaled to.
    assert {tuple(view[0].gt_sem_seg.shape) for view in views} == {(128, 256)}


def test_synthetic_mix_draws_synthetic_samples_through_its_sampler(root, miniature):
    cfg = Config.fromfile(root / 'configs/_base_/datasets/cityscapes_synthetic_mix.py')
    assert cfg.train_dataloader.sampler.type == 'EpochIndexSampler'
    cfg.train_dataloader.dataset.ratio = 1.0
    loader = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}, seed=0)
    batches = iter(loader)
    domains = {sample.domain for _ in range(20) for sample in next(batches)['data_samples']}
    assert domains == {'fog', 'night', 'rain', 'snow'}


def test_toydrive(root):
    cfg = Config.fromfile(root / 'configs/_base_/datasets/toydrive.py')
    cfg.test_dataloader.dataset.length = 5
    batch, domains, views = run_all_parts(cfg)
    assert {sample.domain for sample in batch['data_samples']} == {'clear'}
    assert domains == ['clear', 'fog', 'night', 'rain', 'snow']
    assert len(views) == 2
    assert cfg.train_dataloader.dataset.seed != cfg.test_dataloader.dataset.seed


def test_camvid_streetsix(root, shared, monkeypatch):
    monkeypatch.setenv('STREET_DATA', str(shared / 'data'))
    cfg = Config.fromfile(root / 'configs/_base_/datasets/camvid_streetsix.py')
    for part in cfg.test_dataloader.dataset.datasets:
        part.indices = 1
    batch, domains, _ = run_all_parts(cfg)
    assert {sample.domain for sample in batch['data_samples']} == {'day'}
    assert domains == ['day', 'dusk', 'boston']
    # No training frame is tested.
    cfg = Config.fromfile(root / 'configs/_base_/datasets/camvid_streetsix.py')
    train, test = DATASETS.build(cfg.train_dataloader.dataset), DATASETS.build(cfg.test_dataloader.dataset)
    paths = [{data.get_data_info(i)['img_path'] for i in range(len(data))} for data in (train, test)]
    assert not paths[0] & paths[1]
    assert [len(group) for group in paths] == [305, 101 + 62 + 252]


def test_joined_sets_share_the_pipeline_and_keep_their_domains(root):
    toy = dict(type='ToyDriveDataset', test_mode=True, pipeline=[dict(type='LoadImageFromFile')])
    pipeline = Config.fromfile(root / 'configs/_base_/datasets/toydrive.py').test_pipeline
    parts = [dict(toy, length=2, conditions=('fog',)), dict(toy, length=3, conditions=('night',))]
    joined = DATASETS.build(dict(type='DomainConcatDataset', pipeline=pipeline, datasets=parts))
    assert len(joined) == 5
    assert [joined[i]['data_samples'].domain for i in range(5)] == ['fog'] * 2 + ['night'] * 3
    assert [part.test_mode for part in joined.datasets] == [True, True]
    assert parts[0]['pipeline'] == [dict(type='LoadImageFromFile')]


def test_joined_sets_are_configs():
    with pytest.raises(ValueError, match='DomainConcatDataset: datasets is empty'):
        DATASETS.build(dict(type='DomainConcatDataset', pipeline=[], datasets=[]))
    with pytest.raises(TypeError, match=r'DomainConcatDataset: datasets\[0\] must be a config, a dict with type, got str'):
        DATASETS.build(dict(type='DomainConcatDataset', pipeline=[], datasets=['ToyDriveDataset']))


def test_missing_data_root_is_one_sentence(root, monkeypatch):
    monkeypatch.setenv('CITYSCAPES_ROOT', '/nowhere/cityscapes')
    cfg = Config.fromfile(root / 'configs/_base_/datasets/cityscapes_to_acdc_512x512.py')
    with warnings.catch_warnings(), pytest.raises(ValueError, match='folder /nowhere/cityscapes/leftImg8bit/train does'):
        DATASETS.build(cfg.train_dataloader.dataset)


# Labels are read as they are stored; drawn images have no EXIF data, and labels that cannot be wrong.
LOADING = [
    path
    for path in sorted(Path(__file__).parents[2].glob('configs/**/*.py'))
    if 'LoadImageFromFile' in path.read_text() and path.stem != 'toydrive'
]


def nodes(value):
    """Every dict inside a config."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from nodes(child)


@pytest.mark.parametrize('path', LOADING, ids=lambda path: path.stem)
def test_images_keep_the_orientation_of_their_labels_and_labels_are_checked(path):
    cfg = Config.fromfile(path)
    loads = [node for node in nodes(cfg.to_dict()) if node.get('type') == 'LoadImageFromFile']
    assert loads
    assert {node.get('color_type') for node in loads} == {'color_ignore_orientation'}
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(key) or {}
        for node in nodes(dict(loader)):
            kind = DATASETS.get(node['type']) if 'type' in node and 'data_root' in node else None
            if kind is not None and not issubclass(kind, DomainTagged):
                assert 'CheckLabels' in [transform['type'] for transform in node['pipeline']], f'{key}: {node["type"]}'
