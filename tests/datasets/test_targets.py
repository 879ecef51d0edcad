"""Named sets in place of a config's own: names, groups, scales, sources, pipelines, and real samples of all of them."""

import copy

import pytest
from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS
from tiny_sets import DARK_ZURICH, FOGGY_DRIVING, NIGHTTIME_DRIVING, SYNTHIA, write_foggy_zurich, write_pairs

from mmseg_dafm.core.files import data_root, root_variable
from mmseg_dafm.datasets.targets import (
    GROUPS,
    TARGETS,
    TEST_SPLITS,
    for_domains,
    resolve,
    select_targets,
    select_test_split,
    without,
)
from mmseg_dafm.doctor.data import DATA_LAYOUTS
from mmseg_dafm.evaluation.protocol import describe_test

SIXTEENTH = dict(height=67, width=120)


@pytest.fixture
def config(root):
    return lambda name: Config.fromfile(root / f'configs/_base_/datasets/{name}.py')


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two images of every set, a sixteenth of the releases' size."""
    for name, pairs in {
        'dark_zurich': [DARK_ZURICH],
        'nighttime_driving': [NIGHTTIME_DRIVING],
        'foggy_driving': list(FOGGY_DRIVING.values()),
        'synthia': [SYNTHIA],
        'gtav': [('images/{}.png', 'labels/{}_labelTrainIds.png')],
        'bdd100k': [('images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png')],
        'mapillary': [('half/validation/images/{}.jpg', 'half/validation/train_ids/{}.png')],
        'cityscapes': [('leftImg8bit/val/aachen/{}_leftImg8bit.png', 'gtFine/val/aachen/{}_gtFine_labelTrainIds.png')],
        'acdc': [
            (f'rgb_anon/{condition}/val/G/{{}}_rgb_anon.png', f'gt/{condition}/val/G/{{}}_gt_labelTrainIds.png')
            for condition in ('fog', 'night', 'rain', 'snow')
        ],
    }.items():
        for pair in pairs:
            write_pairs(tmp_path / name, pair, 'a', **SIXTEENTH)
    write_foggy_zurich(tmp_path / 'foggy_zurich', 'a', **SIXTEENTH)
    for name in DATA_LAYOUTS:
        monkeypatch.setenv(root_variable(name), str(tmp_path / name))
    return tmp_path


def test_names_and_groups():
    assert resolve(['adverse', 'acdc_rain', 'cityscapes']) == [*GROUPS['adverse'], 'cityscapes']
    assert {name for group in GROUPS.values() for name in group} <= set(TARGETS)
    assert {target.root for target in TARGETS.values()} | {'voc'} == set(DATA_LAYOUTS)
    assert TEST_SPLITS.keys() <= TARGETS.keys()
    with pytest.raises(ValueError, match=r'--targets names kitti, dark, but the known sets are cityscapes, bdd100k.*groups cbm'):
        resolve(['kitti', 'acdc', 'dark'])
    with pytest.raises(ValueError, match='names acdc and, again, acdc_rain, acdc_snow: take acdc alone'):
        resolve(['acdc', 'adverse'])
    with pytest.raises(ValueError, match='names no set'):
        resolve([])


def test_roots_come_from_the_environment(monkeypatch):
    monkeypatch.delenv('DARK_ZURICH_ROOT', raising=False)
    assert data_root('dark_zurich') == 'data/dark_zurich'
    monkeypatch.setenv('DARK_ZURICH_ROOT', '/somewhere')
    assert data_root('dark_zurich') == '/somewhere'


def test_every_target_gives_samples_of_its_domains_at_its_scale(config, folders):
    cfg = config('gtav_to_cbm_512x512')
    names = [name for name in TARGETS if not name.startswith('acdc_')]
    select_targets(cfg, names)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    shapes = {}
    for index in range(len(data)):
        sample = data[index]
        shapes[sample['data_samples'].domain] = tuple(sample['inputs'].shape[1:])
        assert sample['data_samples'].gt_sem_seg.shape == (67, 120), 'labels keep their size'
    # 120 x 67 in 960 x 540, 1024 x 512 and 1280 x 720
    half, default, bdd = (536, 960), (512, 917), (715, 1280)
    assert shapes == {
        **dict.fromkeys(('cityscapes', 'mapillary', 'gtav', 'synthia', 'foggy_driving'), default),
        **dict.fromkeys(('fog', 'night', 'rain', 'snow', 'foggy_zurich', 'dark_zurich', 'nighttime_driving'), half),
        'bdd100k': bdd,
    }


def test_scales_of_the_config_come_first():
    pipeline = [dict(type='DomainResize', scale=(64, 32), domains=dict(fog=(20, 10)))]
    before = copy.deepcopy(pipeline)
    (node,) = for_domains(pipeline, dict(fog=(960, 540), snow=(96, 54)))
    assert node == dict(type='DomainResize', scale=(64, 32), domains=dict(fog=(20, 10), snow=(96, 54)))
    assert pipeline == before, 'a copy'


def test_a_config_without_scales_keeps_the_images_size_and_gains_the_domain(config, folders):
    cfg = config('cityscapes_768')
    kinds = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
    cfg.test_dataloader.dataset.pipeline = [dict(type=kind) for kind in kinds]
    select_targets(cfg, ['dark_zurich'])
    data = DATASETS.build(cfg.test_dataloader.dataset)
    assert data[0]['inputs'].shape == (3, 67, 120)
    assert data[0]['data_samples'].domain == 'dark_zurich'
    # BDD100K's labels are not turned, so no image is
    assert cfg.test_dataloader.dataset.pipeline[0].color_type == 'color_ignore_orientation'


def test_packed_keys_of_ones_own_gain_the_domain():
    (node,) = for_domains([dict(type='PackSegInputs', meta_keys=('img_path',))], {})
    assert node == dict(type='PackDomainInputs', meta_keys=('img_path', 'domain'))


def test_the_source_stays_if_it_is_tested(config):
    cfg = config('cityscapes_to_acdc_512x512')
    cfg.test_evaluator.target = ['fog']
    select_targets(cfg, ['cityscapes', 'dark_zurich'])
    assert cfg.test_evaluator == dict(type='DomainIoUMetric', source='cityscapes')
    select_targets(cfg, ['adverse'])
    assert cfg.test_evaluator == dict(type='DomainIoUMetric')
    for evaluator in ([dict(type='IoUMetric'), dict(type='DomainIoUMetric', source='rain')], dict(type='IoUMetric')):
        cfg.test_evaluator = evaluator
        select_targets(cfg, ['acdc'])
        kept = dict(source='rain') if isinstance(evaluator, list) else {}
        assert cfg.test_evaluator == dict(type='DomainIoUMetric', **kept)


def test_tta_has_the_same_scales(config, folders):
    cfg = config('gtav_to_cbm_512x512')
    select_targets(cfg, ['foggy_zurich'])
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline = cfg.tta_pipeline
    heights = {view.shape[1] for view in DATASETS.build(dataset)[0]['inputs']}
    assert heights == {402, 536, 670}


def test_the_base_config_of_the_adverse_sets_is_the_group(config, folders):
    """The config and --targets adverse test the same images at the same sizes."""
    base, selected = config('cityscapes_to_adverse_512x512'), config('cityscapes_to_acdc_bdd_512x512')
    select_targets(selected, ['adverse'])
    assert base.test_evaluator == selected.test_evaluator
    found = []
    for cfg in (base, selected):
        data = DATASETS.build(cfg.test_dataloader.dataset)
        samples = [data[index] for index in range(len(data))]
        found.append([(s['data_samples'].img_path, s['data_samples'].domain, s['inputs'].shape) for s in samples])
    assert found[0] == found[1]
    assert len(found[0]) == 7
    stamp = describe_test(selected.to_dict())
    assert 'dark_zurich (960, 540)' in stamp['scales']


def test_other_classes_and_pipelines_are_refused(config):
    with pytest.raises(
        ValueError, match=r'--targets needs a config for the 19 classes .*toydrive\.py tests ToyDriveDataset with'
    ):
        select_targets(config('toydrive'), ['adverse'])
    cfg = config('cityscapes_768')
    cfg.test_dataloader.dataset.metainfo = dict(classes=('road', 'sky'))
    with pytest.raises(ValueError, match='tests TaggedCityscapesDataset with 2 others'):
        select_targets(cfg, ['adverse'])
    cfg = config('cityscapes_768')
    own = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=[own, {**own, 'pipeline': own.pipeline[:1]}])
    with pytest.raises(ValueError, match=r'--targets needs one pipeline for all test sets, and .*768\.py has 2: give them one'):
        select_targets(cfg, ['adverse'])


def test_a_test_split_is_predicted_without_labels(config, tmp_path):
    cfg = config('cityscapes_to_acdc_512x512')
    select_test_split(cfg, 'acdc', str(tmp_path))
    assert 'LoadAnnotations' not in str(cfg.test_dataloader.dataset.pipeline) + str(cfg.tta_pipeline)
    # an empty list would leave no view at all
    assert all(cfg.tta_pipeline[-1].transforms)
    assert cfg.test_evaluator == dict(type='IoUMetric', format_only=True, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match='--submission names bdd100k, but the known servers are those of acdc, cityscapes'):
        select_test_split(cfg, 'bdd100k', str(tmp_path))


def test_transforms_are_taken_out_wherever_they_are():
    a, b = dict(type='A'), dict(type='B')
    nested = [a, dict(type='TestTimeAug', transforms=[[a, b], [b], [[b], a]])]
    assert without(nested, 'B') == [a, dict(type='TestTimeAug', transforms=[[a], [a]])]
