"""Options of the command line for sets that take the place of a config's own."""

import pytest
from mmengine.config import Config

from mmseg_dafm.datasets.targets import apply_options, select_targets, select_test_split, split_options


@pytest.fixture
def selected(root):
    """Select sets for a config of two of its own, with options, as tools/test.py does."""

    def select(options, *names):
        cfg = Config.fromfile(root / 'configs/_base_/datasets/cityscapes_to_acdc_512x512.py')
        early, late = split_options(options)
        cfg.merge_from_dict(early)
        select_targets(cfg, names)
        apply_options(cfg, late, '--targets')
        return cfg

    return select


def test_an_option_reaches_every_set_or_the_one_at_its_place(selected):
    cfg = selected({'test_dataloader.dataset.drop_unlabelled': True}, 'bdd100k', 'mapillary')
    assert [part.drop_unlabelled for part in cfg.test_dataloader.dataset.datasets] == [True, True]
    assert 'drop_unlabelled' not in cfg.test_dataloader.dataset
    cfg = selected(
        {'test_dataloader.dataset.datasets.1.drop_unlabelled': True, 'test_dataloader.dataset.datasets.0.data_root': 'there'},
        'cityscapes',
        'bdd100k',
    )
    cityscapes, bdd = cfg.test_dataloader.dataset.datasets
    assert (cityscapes.data_root, cityscapes.get('drop_unlabelled'), bdd.drop_unlabelled) == ('there', None, True)
    assert bdd.data_root != 'there'
    # a part of a part; the rest of it stays
    cfg = selected({'test_dataloader.dataset.data_prefix.img_path': 'mine'}, 'cityscapes')
    assert cfg.test_dataloader.dataset.datasets[0].data_prefix == dict(img_path='mine', seg_map_path='gtFine/val')


def test_the_pipeline_and_the_loader_are_the_configs_own(selected):
    options = {'test_dataloader.dataset.pipeline.0.imdecode_backend': 'pillow', 'test_dataloader.num_workers': 7}
    cfg = selected(options, 'bdd100k', 'mapillary')
    assert cfg.test_dataloader.dataset.pipeline[0].imdecode_backend == 'pillow'
    assert cfg.test_dataloader.num_workers == 7


def test_options_of_the_metric(selected):
    cfg = selected({'test_evaluator.ignore_index': 254}, 'bdd100k')
    assert cfg.test_evaluator == dict(type='DomainIoUMetric', ignore_index=254)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('test_dataloader.dataset.half', "TaggedCityscapesDataset, which takes no 'half': write .*PLACE"),
        ('test_dataloader.dataset.datasets.0.pipeline', "takes no 'pipeline'"),
        ('test_dataloader.dataset.datasets.2.data_root', r'tests the sets 0 \(TaggedCityscapesDataset\), 1 \(TaggedBDD100K'),
        ('test_dataloader.dataset.datasets.x.data_root', 'PLACE.KEY'),
        ('test_dataloader.dataset.datasets', 'PLACE.KEY'),
        ('test_dataloader.dataset', "takes no ''"),
        ('test_dataloader.dataset.typo', "takes no 'typo'"),
        ('test_evaluator.iou_metrics', "with DomainIoUMetric, which takes no 'iou_metrics': leave it out"),
    ],
)
def test_options_that_cannot_apply_are_refused(selected, key, message):
    with pytest.raises(ValueError, match=rf'^--cfg-options {key}: --targets .*{message}'):
        selected({key: True}, 'cityscapes', 'bdd100k')


def test_a_submission_has_no_metric(root, tmp_path):
    cfg = Config.fromfile(root / 'configs/_base_/datasets/cityscapes_to_acdc_512x512.py')
    select_test_split(cfg, 'acdc', str(tmp_path))
    apply_options(cfg, {'test_dataloader.dataset.data_root': 'there'}, '--submission')
    assert cfg.test_dataloader.dataset.datasets[0].data_root == 'there'
    with pytest.raises(ValueError, match='--cfg-options test_evaluator.output_dir: --submission predicts without scores'):
        apply_options(cfg, {'test_evaluator.output_dir': 'x'}, '--submission')
