"""DomainIoUMetric: domains, equality with mmseg's metric, files, and real runs."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine import dist as mm_dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

import mmseg_dafm  # noqa: F401  (the spawned ranks register by this import)
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.evaluation.label_maps import common_root, file_name

NUMBERS = itertools.count()
CLASSES = ('road', 'pavement', 'building')


def make(**kwargs):
    metric = METRICS.build(dict(type='DomainIoUMetric', **kwargs))
    metric.dataset_meta = dict(classes=CLASSES)
    return metric


def images(count=7):
    """Samples of two domains as the evaluator hands them over."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for i in range(count):
        label = torch.randint(0, 3, (1, 9, 11), generator=generator)
        prediction = torch.where(torch.rand(label.shape, generator=generator) < 0.6, label, 1)
        label[:, 0] = 255
        samples.append(
            dict(
                domain='fog' if i % 3 == 0 else 'night',
                img_path=f'data/{i}.png',
                pred_sem_seg=dict(data=prediction),
                gt_sem_seg=dict(data=label),
            )
        )
    return samples


def reference(samples):
    """mIoU by mmseg's own metric."""
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return {key: pytest.approx(float(v), abs=0.011) for key, v in metric.evaluate(len(samples)).items()}


@pytest.fixture(autouse=True)
def hub():
    """A message hub of its own, as every runner has."""
    return MessageHub.get_instance(f'test_domain_iou_{next(NUMBERS)}')


@pytest.mark.parametrize('batch', [1, 3, 7])
def test_pooled_and_per_domain_scores_equal_mmsegs_for_any_batch_size(tmp_path, batch):
    samples = images()
    metric = make(out_dir=str(tmp_path))
    for start in range(0, 7, batch):
        metric.process({}, samples[start : start + batch])
    result = metric.evaluate(7)
    assert {key: result[key] for key in ('mIoU', 'mAcc', 'aAcc')} == reference(samples)
    for domain in ('fog', 'night'):
        assert result[f'mIoU.{domain}'] == reference([s for s in samples if s['domain'] == domain])['mIoU']


def test_order_of_images_does_not_change_the_files(tmp_path):
    texts = []
    for samples in (images(), images()[::-1]):
        metric = make(out_dir=str(tmp_path), source='fog')
        metric.process({}, samples)
        metric.evaluate(7)
        texts.append([(tmp_path / f'domain_iou.{ending}').read_text() for ending in ('json', 'csv', 'md')])
    assert texts[0] == texts[1]


def test_domain_from_sample_then_rules_then_all():
    metric = make(rules=dict(cityscapes='leftImg8bit', night='/night/'))
    assert metric.domain_of(dict(domain='rain', img_path='a/night/b.png')) == 'rain'
    assert metric.domain_of(dict(img_path='a/night/b.png')) == 'night'
    assert metric.domain_of(dict(domain=None, img_path='cs/leftImg8bit/night/b.png')) == 'cityscapes'
    assert metric.domain_of(dict(img_path='elsewhere.png')) == 'all'
    assert metric.domain_of(dict()) == 'all'


def test_failures_name_the_image_and_the_remedy():
    metric = make()
    sample = images(1)[0]
    with pytest.raises(ValueError, match=r'data/0\.png has no label; add LoadAnnotations'):
        metric.process({}, [{k: v for k, v in sample.items() if k != 'gt_sem_seg'}])
    sample['gt_sem_seg']['data'][0, 3, 3] = 9
    with pytest.raises(ValueError, match=r'data/0\.png: the label holds ids from 0 to 9'):
        metric.process({}, [sample])
    with pytest.raises(ValueError, match="must not be called 'mean'"):
        make(source='mean')
    with pytest.raises(ValueError, match="must not be called 'target'"):
        metric.domain_of(dict(domain='target'))
    with pytest.raises(ValueError, match="a domain must not be called 'all': the row of all images has that name"):
        metric.domain_of(dict(domain='all'))
    with pytest.raises(ValueError, match="must not be called 'all'"):
        make(rules=dict(all='images'))
    with pytest.raises(TypeError, match="target must be a list of domains, got the string 'fog'"):
        make(target='fog')
    with pytest.raises(TypeError, match='rules must map'):
        make(rules=['fog'])


def test_missing_source_is_nan_and_does_not_stop_the_run(tmp_path):
    metric = make(source='clear', out_dir=str(tmp_path))
    metric.process({}, images())
    scores = metric.evaluate(7)
    assert all(math.isnan(scores[key]) for key in ('mIoU%', 'mIoU.target', 'mIoU.mean'))
    assert json.loads((tmp_path / 'domain_iou.json').read_text())['summary']['missing'] == ['clear']


def test_without_any_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = make()
    metric.process({}, images())
    assert metric.evaluate(7)['mIoU'] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('training', [False, True])
def test_tables_go_to_the_work_folder_wherever_the_checkpoint_lies(tmp_path, hub, training):
    """load_from is the tested checkpoint in a test, but only the start of a training; its folder may not be ours."""
    cfg = (
        f"load_from = '{tmp_path}/weights/best.pth'\nwork_dir = '{tmp_path}/work'\ntest_dataloader = dict(dataset=dict(type='A'))"
    )
    hub.update_info('cfg', cfg)
    if training:
        hub.update_info('max_iters', 10)
    metric = make()
    metric.process({}, images())
    metric.evaluate(7)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*.*')}
    stem = 'work/domain_iou' if training else 'work/domain_iou_best'
    assert written == {f'{stem}.{ending}' for ending in ('json', 'csv', 'md')}


def test_two_checkpoints_keep_two_tables(tmp_path, hub):
    for name in ('iter_1', 'iter_2'):
        hub.update_info('cfg', f"work_dir = '{tmp_path}'\nload_from = '{name}.pth'\ntest_dataloader = dict(dataset=dict())")
        metric = make()
        metric.process({}, images())
        metric.evaluate(7)
    assert {path.name for path in tmp_path.glob('*.md')} == {'domain_iou_iter_1.md', 'domain_iou_iter_2.md'}


def test_augmented_and_plain_tests_of_one_checkpoint_keep_two_tables(tmp_path, hub):
    for pipeline in ([dict(type='LoadImageFromFile')], [dict(type='TestTimeAug', transforms=[])]):
        dataset = dict(type='ToyDriveDataset', pipeline=pipeline)
        hub.update_info('cfg', f"work_dir = '{tmp_path}'\nload_from = 'iter_1.pth'\ntest_dataloader = dict(dataset={dataset})")
        metric = make()
        metric.process({}, images())
        metric.evaluate(7)
    for stem, augmented in (('domain_iou_iter_1', False), ('domain_iou_iter_1_tta', True)):
        assert json.loads((tmp_path / f'{stem}.json').read_text())['protocol']['tta'] is augmented
    assert len(list(tmp_path.iterdir())) == 6


def one_rank(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    metric = make(out_dir=f'{folder}/tables', collect_dir=f'{folder}/parts')
    # As DefaultSampler deals them: rank 1 receives a repeated image at the end.
    dealt = (images() + images()[:1])[rank::2]
    metric.process({}, dealt)
    result = metric.evaluate(7)
    Path(f'{folder}/rank{rank}.json').write_text(json.dumps(result))
    mm_dist.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    alone = make(out_dir=str(tmp_path / 'alone'))
    alone.process({}, images())
    expected = alone.evaluate(7)
    mp.spawn(one_rank, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert json.loads((tmp_path / f'rank{rank}.json').read_text()) == expected
    for ending in ('json', 'csv', 'md'):
        name = f'domain_iou.{ending}'
        assert (tmp_path / 'tables' / name).read_text() == (tmp_path / 'alone' / name).read_text()


def runner_config(root, tmp_path):
    """A tiny network on ToyDrive, trained for two iterations and validated once."""
    cfg = Config.fromfile(root / 'configs/_base_/datasets/toydrive.py')
    cfg.train_dataloader.batch_size = 2
    cfg.val_dataloader.dataset.length = cfg.test_dataloader.dataset.length = 5
    cfg.val_dataloader.batch_size = cfg.test_dataloader.batch_size = 2
    head = dict(type='FCNHead', in_channels=64, in_index=2, channels=8, num_convs=1, num_classes=6)
    cfg.model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=cfg.crop_size, mean=[127.5] * 3, std=[127.5] * 3),
        backbone=dict(type='CGNet', num_channels=(4, 8, 32), num_blocks=(1, 1)),
        decode_head=dict(norm_cfg=dict(type='BN'), **head),
        test_cfg=dict(mode='whole'),
    )
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.val_cfg, cfg.test_cfg = dict(), dict()
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
    cfg.default_hooks = dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
        visualization=dict(type='SegVisualizationHook', draw=True, interval=1),
    )
    cfg.visualizer = dict(type='SegLocalVisualizer', name='toy', save_dir=str(tmp_path / 'work'))
    cfg.vis_backends = [dict(type='LocalVisBackend')]
    cfg.visualizer.vis_backends = cfg.vis_backends
    cfg.default_scope, cfg.work_dir, cfg.log_level = 'mmseg', str(tmp_path / 'work'), 'WARNING'
    cfg.custom_imports = dict(imports=['mmseg_dafm'])
    cfg.randomness = dict(seed=0)
    return cfg


@pytest.mark.slow
def test_train_validate_and_test_with_mmengines_runner(root, tmp_path):
    cfg = runner_config(root, tmp_path)
    Runner.from_cfg(cfg).train()
    work = tmp_path / 'work'
    validated = json.loads((work / 'domain_iou.json').read_text())
    assert validated['protocol']['checkpoint'] == 'validation during training'
    cfg.load_from = str(work / 'iter_2.pth')
    tested = Runner.from_cfg(cfg).test()
    assert {'mIoU', 'aAcc', 'mAcc', 'mIoU.mean', 'mIoU.target', 'mIoU%', 'mIoU.fog', 'mIoU.clear'} <= set(tested)
    content = json.loads((work / 'domain_iou_iter_2.json').read_text())
    assert content['summary'] == validated['summary']
    assert content['protocol']['checkpoint'] == 'iter_2.pth'
    assert content['protocol']['mode'] == 'whole'
    assert content['protocol']['data'] == ['ToyDriveDataset(clear+fog+night+rain+snow)']
    assert content['summary']['domains']['snow']['images'] == 1
    # mmseg's own hook reads the drawn images by their addresses; one picture per image, none overwritten.
    assert len(list(work.rglob('*snow*.png'))) >= 1
    assert '| checkpoint | iter_2.pth |' in (work / 'domain_iou_iter_2.md').read_text()


MISSPELT = [
    (dict(source='cler'), r"evaluator.source names 'cler', .* \(there are clear, fog, .*snow\)\. Did you mean 'clear'\?"),
    (dict(source='clear', target=['fog', 'hail']), "evaluator.target names 'hail'"),
]


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'message'), MISSPELT)
def test_domains_that_no_image_has_are_refused_before_the_first_iteration(root, tmp_path, options, message):
    cfg = runner_config(root, tmp_path)
    cfg.val_evaluator = cfg.test_evaluator = dict(type='DomainIoUMetric', **options)
    for stage in ('val', 'test'):
        with pytest.raises(ValueError, match=f'{stage}_{message}'):
            check_config(cfg, (f'{stage}_dataloader',))
    # as mmseg's own tools run it
    cfg.default_hooks.known_domains = dict(type='KnownDomainsHook')
    cfg.experiment_name = f'domains-{options}'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(NoWork())
    with pytest.raises(ValueError, match=f'val_{message}'):
        runner.train()
    cfg.experiment_name += '-test'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(NoWork())
    with pytest.raises(ValueError, match=f'test_{message}'):
        runner.test()


class NoWork(Hook):
    """Fails where an iteration begins."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        pytest.fail('an iteration began')

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        pytest.fail('a batch was tested')


def test_predictions_are_written_where_mmsegs_own_test_tool_asks(tmp_path):
    from PIL import Image

    folder = tmp_path / 'predictions'
    samples = images(3)
    metric = make(out_dir=str(tmp_path), output_dir=str(folder), keep_results=True)
    metric.process({}, samples)
    for sample in samples:
        assert np.array_equal(np.array(Image.open(folder / sample['img_path'])), sample['pred_sem_seg']['data'][0].numpy())


@pytest.mark.parametrize('format_only', [False, True])
def test_label_maps_of_equal_names_lie_in_the_folders_of_their_images(tmp_path, hub, format_only):
    from PIL import Image

    sets = [dict(type='GTAVDataset', data_root=str(tmp_path / name)) for name in ('fog', 'night')]
    dataset = dict(type='DomainConcatDataset', datasets=sets, pipeline=[])
    hub.update_info('cfg', Config(dict(test_dataloader=dict(dataset=dataset))).pretty_text)
    samples = images(6)
    for i, sample in enumerate(samples):
        sample['img_path'] = str(tmp_path / ('fog', 'night')[i % 2] / f'images/{i // 2:04d}.jpg')
    metric = make(output_dir=str(tmp_path / 'out'), format_only=format_only)
    for sample in samples:
        metric.process({}, [sample])
    assert len(list((tmp_path / 'out').rglob('*.png'))) == 6
    for i, sample in enumerate(samples):
        path = tmp_path / 'out' / ('fog', 'night')[i % 2] / f'images/{i // 2:04d}.png'
        assert np.array_equal(np.array(Image.open(path)), sample['pred_sem_seg']['data'][0].numpy())
    other = dict(samples[0], img_path=samples[0]['img_path'].replace('.jpg', '.png'))
    with pytest.raises(ValueError, match=r'0000\.jpg and .*0000\.png would both be .*rename one'):
        metric.process({}, [other])
    # the ids are those of the label files, where 0 is no class
    metric.process({}, [dict(samples[1], reduce_zero_label=True)])
    path = tmp_path / 'out/night/images/0000.png'
    assert np.array_equal(np.array(Image.open(path)), samples[1]['pred_sem_seg']['data'][0].numpy() + 1)


def test_format_only_needs_no_labels_and_gives_no_scores(tmp_path):
    metric = make(output_dir=str(tmp_path), format_only=True)
    samples = [{key: value for key, value in sample.items() if key != 'gt_sem_seg'} for sample in images(3)]
    metric.process({}, samples)
    assert metric.evaluate(3) == {}
    assert [path.name for path in sorted(tmp_path.rglob('*.*'))] == ['0.png', '1.png', '2.png']
    with pytest.raises(ValueError, match='set output_dir'):
        make(format_only=True)


def test_names_of_label_maps():
    assert file_name('/data/fog/images/1.tar.jpg', '/data') == 'fog/images/1.tar.png'
    assert file_name('/elsewhere/1.jpg', '/data') == 'elsewhere/1.png'
    assert file_name('a/../b/1.jpg', None) == 'b/1.png'
    assert file_name('toydrive://0/64x128/fog/fog_000000.png', '/data') == '0/64x128/fog/fog_000000.png'
    cfg = dict(test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(type='A', data_root='x/y'))))
    assert common_root(cfg) == str(Path('x/y').absolute())
    assert common_root(cfg, 'val') is None
    # one set that names its image folder: no folders above the images
    cfg['test_dataloader']['dataset']['dataset']['data_prefix'] = dict(img_path='images/val')
    assert common_root(cfg) == str(Path('x/y/images/val').absolute())


def test_logits_of_another_number_of_classes_are_refused():
    sample = images(1)[0]
    for channels, fits in ((3, True), (1, True), (2, False), (19, False)):
        given = sample | dict(seg_logits=dict(data=torch.zeros(channels, 9, 11)))
        if fits:
            make().process({}, [given])
            continue
        with pytest.raises(ValueError, match=f'predicts {channels} classes, and the data set has 3'):
            make().process({}, [given])


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused_with_the_image(value):
    """Nan wins every argmax, so a network of nan would predict class 0 everywhere and could score 100."""
    logits = torch.zeros(3, 9, 11)
    sample = images(1)[0] | dict(seg_logits=dict(data=logits))
    make().process({}, [sample])
    logits[1, 2, 3] = value
    with pytest.raises(ValueError, match='logits of data/0.png are not finite'):
        make().process({}, [sample])


def test_scores_are_given_though_no_table_can_be_written(tmp_path):
    (tmp_path / 'tables').write_text('a file')
    metric = make(out_dir=str(tmp_path / 'tables'))
    metric.process({}, images())
    assert metric.evaluate(7)['mIoU'] > 0
