"""CheckLabels: ids, size and channels of every label; labels and images that are missing; lists of images in any form."""

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, TRANSFORMS
from tiny_sets import LOAD, build, ids, picture, write

from mmseg_dafm.datasets.config_check import check_batches, check_data_sets
from mmseg_dafm.doctor.config_check import check_config

CITYSCAPES = ('leftImg8bit/train/aa/aa_{}_leftImg8bit.png', 'gtFine/train/aa/aa_{}_gtFine_labelTrainIds.png')
PREFIX = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
CROP = [*LOAD[:2], dict(type='RandomCrop', crop_size=(8, 8)), LOAD[2]]
RESIZED = [LOAD[0], dict(type='Resize', scale=(40, 24), keep_ratio=True), *LOAD[1:]]
TTA = [LOAD[0], dict(type='TestTimeAug', transforms=[[dict(type='Resize', scale=(40, 24))], [LOAD[1]], [LOAD[2]]])]


@pytest.fixture
def gtav(tmp_path):
    """Six pairs: more than the label files that are read when the set is built."""
    for i in range(6):
        write(tmp_path / f'images/{i}.png', picture())
        write(tmp_path / f'labels/{i}_labelTrainIds.png', ids(19))
    return tmp_path


def wrong_labels():
    found = ids(19)
    found[0, :2] = 26, 255
    return {
        'ids': (found, r'5_labelTrainIds\.png holds the ids \[26\], expected 0 to 18 or 255'),
        'larger': (ids(19, 14, 24), r'5_labelTrainIds\.png is 24 x 14 .* image .*images/5\.png is 20 x 12'),
        'smaller': (ids(19, 12, 18), r'5_labelTrainIds\.png is 18 x 12 .* image .*images/5\.png is 20 x 12'),
        'colours': (picture(), r'5_labelTrainIds\.png has shape \(12, 20, 3\), expected one channel'),
    }


@pytest.mark.parametrize('pipeline', [LOAD, CROP, RESIZED, TTA], ids=['plain', 'crop', 'resized', 'tta'])
@pytest.mark.parametrize('kind', wrong_labels())
def test_a_late_wrong_label_is_named_by_our_sets_whatever_the_pipeline(gtav, kind, pipeline):
    label, message = wrong_labels()[kind]
    good = build(type='GTAVDataset', data_root=str(gtav), pipeline=pipeline)
    assert all(good[i] is not None for i in range(6))
    write(gtav / 'labels/5_labelTrainIds.png', label)
    data = build(type='GTAVDataset', data_root=str(gtav), pipeline=pipeline)
    with pytest.raises(ValueError, match=f'GTAVDataset: the label file .*{message}'):
        data[5]
    if kind != 'colours':
        with pytest.raises(ValueError, match=r'python tools/dataset_converters/gtav\.py'):
            data[5]


def test_one_line_checks_a_users_own_set(tmp_path):
    write(tmp_path / 'i/a.png', picture())
    write(tmp_path / 'l/a.png', ids(5))
    config = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        img_suffix='.png',
        data_prefix=dict(img_path='i', seg_map_path='l'),
        metainfo=dict(classes=tuple('abcd')),
    )
    check = dict(type='CheckLabels', num_classes=4)
    data = DATASETS.build(dict(config, pipeline=[*LOAD[:2], check, LOAD[2]]))
    with pytest.raises(ValueError, match=r'l/a\.png holds the ids \[4\], expected 0 to 3'):
        data[0]
    # 0 is ignored, so that 1 to 4 are the classes
    shifted = DATASETS.build(dict(config, reduce_zero_label=True, pipeline=[*LOAD[:2], check, LOAD[2]]))
    assert set(np.unique(shifted[0]['data_samples'].gt_sem_seg.data)) == {0, 1, 2, 3, 255}
    write(tmp_path / 'l/a.png', ids(6))
    with pytest.raises(ValueError, match=r'holds the ids \[5\], expected 0 to 4'):
        shifted[0]


def test_ignored_ids_pass_and_the_label_stays():
    check = TRANSFORMS.build(dict(type='CheckLabels', num_classes=2, ignore_index=7))
    label = np.array([[0, 1, 7, 255]], np.uint8)
    results = dict(gt_seg_map=label.copy(), seg_map_path='x.png', ori_shape=(1, 4))
    np.testing.assert_array_equal(check(results)['gt_seg_map'], label)
    with pytest.raises(ValueError, match=r'\[2\]'):
        check(dict(results, gt_seg_map=label % 5))
    with pytest.raises(ValueError, match='put LoadAnnotations first'):
        check(dict(img_path='y.png', seg_map_path='l.png'))
    assert check(dict(img_path='y.png')) == dict(img_path='y.png')
    with pytest.raises(ValueError, match='num_classes must be a positive integer'):
        TRANSFORMS.build(dict(type='CheckLabels', num_classes=0))


@pytest.fixture
def cityscapes(tmp_path):
    for i in range(6):
        write(tmp_path / CITYSCAPES[0].format(i), picture())
        write(tmp_path / CITYSCAPES[1].format(i), ids(19))
    return tmp_path


def test_a_missing_label_is_refused_when_the_set_is_built(cityscapes):
    config = dict(type='TaggedCityscapesDataset', data_root=str(cityscapes), data_prefix=PREFIX)
    (cityscapes / CITYSCAPES[1].format(4)).unlink()
    with pytest.raises(ValueError, match=r'1 of 6 .*aa_4_gtFine.*tools/dataset_converters/cityscapes\.py ROOT, or set drop_unl'):
        build(**config)
    assert len(build(**config, drop_unlabelled=True)) == 5
    # nobody asks for labels
    assert len(build(**config, pipeline=[LOAD[0], LOAD[2]])) == 6


def test_acdc_asks_for_every_label(tmp_path):
    stem = 'fog/val/GOPR0475/G_{}'
    for i in range(6):
        write(tmp_path / f'rgb_anon/{stem.format(i)}_rgb_anon.png', picture())
        if i != 4:
            write(tmp_path / f'gt/{stem.format(i)}_gt_labelTrainIds.png', ids(19))
    with pytest.raises(ValueError, match='ACDCDataset: 1 of 6 images have no label file, .*G_4_gt'):
        build(type='ACDCDataset', data_root=str(tmp_path), conditions=['fog'])


LISTS = {
    'plain': b'aa/aa_0\naa/aa_1\n',
    'blank lines': b'aa/aa_0\r\n\r\naa/aa_1\r\n\r\n',
    'suffix': b'aa/aa_0_leftImg8bit.png\naa/aa_1_leftImg8bit.png\n',
    'byte order mark': b'\xef\xbb\xbfaa/aa_0\naa/aa_1\n',
    'backslash': b'aa\\aa_0\naa\\aa_1\n',
}


@pytest.mark.parametrize('form', LISTS)
def test_lists_of_images_in_any_form(cityscapes, form):
    (cityscapes / 'list.txt').write_bytes(LISTS[form])
    data = build(type='TaggedCityscapesDataset', data_root=str(cityscapes), data_prefix=PREFIX, ann_file='list.txt')
    found = [data.get_data_info(i) for i in range(len(data))]
    assert [info['img_path'] for info in found] == [str(cityscapes / CITYSCAPES[0].format(i)) for i in range(2)]
    assert [info['seg_map_path'] for info in found] == [str(cityscapes / CITYSCAPES[1].format(i)) for i in range(2)]
    assert data[1]['inputs'].shape == (3, 12, 20)


def test_a_list_that_names_no_image_is_named(cityscapes):
    (cityscapes / 'list.txt').write_text('aa/aa_0\naa/aa_1.png\n')
    with pytest.raises(ValueError, match=r"ann_file=.*list\.txt lists 1 of 2 images that do not exist, .*'_leftImg8bit\.png'"):
        build(type='TaggedCityscapesDataset', data_root=str(cityscapes), data_prefix=PREFIX, ann_file='list.txt')


@pytest.fixture
def own(tmp_path):
    """A user's own folder in mmseg's plain data set, and the config that tests it."""
    for i in range(4):
        write(tmp_path / f'i/{i}.png', picture())
        write(tmp_path / f'l/{i}.png', ids(4))
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        img_suffix='.png',
        data_prefix=dict(img_path='i', seg_map_path='l'),
        metainfo=dict(classes=tuple('abcd')),
        pipeline=LOAD,
    )
    repeated = dict(type='RepeatDataset', times=2, dataset=dataset)
    return Config(
        dict(train_dataloader=dict(batch_size=2, dataset=repeated), test_dataloader=dict(batch_size=2, dataset=dataset))
    )


SPOILS = {
    'missing label': (lambda root, data: (root / 'l/3.png').unlink(), r'1 of 4 images have no label file, .*l/3\.png'),
    'suffix': (lambda root, data: data.update(seg_map_suffix='_id.png'), r"4 of 4 .* seg_map_suffix='_id\.png'"),
    'colours': (lambda root, data: write(root / 'l/0.png', picture()), r'l/0\.png has shape \(12, 20, 3\), expected one channel'),
    'ids': (lambda root, data: write(root / 'l/2.png', ids(7)), r'l/2\.png holds the ids \[4, 5, 6\], expected 0 to 3'),
    '16 bits': (lambda root, data: write(root / 'l/0.png', np.full((12, 20), 256, np.uint16)), r'l/0\.png holds the ids \[256\]'),
    'no image': (lambda root, data: data.update(img_suffix='.bmp'), r'no image was found in .*/i: '),
    'blank line': (lambda root, data: write_list(root, data, '0\n\n1\n'), r'ann_file=.*list\.txt lists 1 of 3 images'),
    'no list': (lambda root, data: data.update(ann_file='absent.txt'), r'absent\.txt'),
}


def write_list(root, data, text):
    (root / 'list.txt').write_text(text)
    data.update(ann_file='list.txt')


@pytest.mark.parametrize('kind', SPOILS)
@pytest.mark.parametrize('key', ['train_dataloader', 'test_dataloader'])
def test_a_users_set_is_checked_before_the_run(own, tmp_path, kind, key):
    check_config(own, ['train_dataloader', 'test_dataloader'][key == 'test_dataloader' :])
    spoil, message = SPOILS[kind]
    data = own[key].dataset
    spoil(tmp_path, data.get('dataset') or data)
    with pytest.raises(ValueError, match=message):
        check_data_sets(own, [key])


def test_our_sets_speak_in_one_sentence_through_every_wrapper(gtav):
    (gtav / 'labels/5_labelTrainIds.png').unlink()
    gta = dict(type='GTAVDataset', data_root=str(gtav), pipeline=LOAD)
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[gta]))))
    with pytest.raises(ValueError, match=r'^train_dataloader: GTAVDataset: 1 of 6 images have no label file'):
        check_data_sets(cfg, ['train_dataloader'])


def test_images_of_several_sizes_in_a_batch_are_told_at_the_start(own, tmp_path):
    test, data = ['test_dataloader'], own.test_dataloader
    check_data_sets(own, test)
    write(tmp_path / 'i/3.png', picture(18, 22))
    write(tmp_path / 'l/3.png', ids(4, 18, 22))
    message = (
        r'^test_dataloader\.batch_size=2: .*i/2\.png \(12 x 20\) and .*i/3\.png \(18 x 22\) .* set test_dataloader\.batch_size=1'
    )
    with pytest.raises(ValueError, match=message):
        check_data_sets(own, test)
    # training crops, and batches of one image, take any sizes
    check_data_sets(own, ['train_dataloader'])
    data.batch_size = 1
    check_data_sets(own, test)
    # sizes that come in batches of their own are no problem, unless processes take turns
    data.batch_size = 2
    write(tmp_path / 'i/2.png', picture(18, 22))
    write(tmp_path / 'l/2.png', ids(4, 18, 22))
    check_data_sets(own, test)
    with pytest.raises(ValueError, match='come into one batch'):
        check_batches(DATASETS.build(data.dataset), 2, 'test_dataloader', world=2)
    # the pipeline makes them equal
    data.batch_size = 4
    data.dataset.pipeline = [LOAD[0], dict(type='Resize', scale=(16, 16), keep_ratio=False), *LOAD[1:]]
    check_data_sets(own, test)
    data.dataset.pipeline[1].keep_ratio = True
    with pytest.raises(ValueError, match='come into one batch'):
        check_data_sets(own, test)


def test_images_of_one_row_keep_their_label(gtav):
    write(gtav / 'images/0.png', picture(1, 20))
    write(gtav / 'labels/0_labelTrainIds.png', ids(19, 1, 20))
    assert build(type='GTAVDataset', data_root=str(gtav))[0]['data_samples'].gt_sem_seg.shape == (1, 20)


IGNORED = [
    (dict(), {}, None),
    (dict(ignore_index=3), {}, r'train_dataloader: GTAVDataset.ignore_index=3 is one of the classes 0 to 18'),
    (dict(ignore_index=254), {}, r'decode_head.ignore_index=255, and train_dataloader: GTAVDataset marks .* with 254'),
    (
        dict(),
        {'model.decode_head.ignore_index': 254},
        r'head.ignore_index=254, and train_dataloader: GTAVDataset .* with 255',
    ),
    (dict(ignore_index=254, reduce_zero_label=True), {'model.decode_head.ignore_index': 254}, r'with 255 \(reduce_zero_label'),
    (dict(), {'model.data_preprocessor.seg_pad_val': 0}, r'data_preprocessor.seg_pad_val=0 is one of the classes'),
    (dict(), {'val_evaluator.ignore_index': 3}, r'val_evaluator.ignore_index=3 is one of the classes'),
    (dict(), {'val_evaluator.ignore_index': 254}, r'val_evaluator.ignore_index=254, and val_dataloader: GTAVDataset'),
    (
        dict(pipeline=[LOAD[0], dict(type='LoadAnnotations', reduce_zero_label=True), LOAD[2]]),
        {},
        r'reduce_zero_label=False, and Load',
    ),
]


@pytest.mark.parametrize(('options', 'changes', 'words'), IGNORED)
def test_ignored_pixels_of_data_heads_padding_and_metric_are_the_same(gtav, options, changes, words):
    loader = dict(dataset=dict(type='GTAVDataset', data_root=str(gtav), pipeline=LOAD) | options)
    model = dict(decode_head=dict(num_classes=19), data_preprocessor=dict(size=(8, 8)))
    cfg = Config(dict(model=model, train_dataloader=loader, val_dataloader=loader, val_evaluator=dict(type='IoUMetric')))
    cfg.merge_from_dict(changes)
    if words is None:
        check_data_sets(cfg, ('train_dataloader', 'val_dataloader'))
        return
    with pytest.raises(ValueError, match=words):
        check_data_sets(cfg, ('train_dataloader', 'val_dataloader'))
