"""CamVid, the six street classes, Cityscapes and ACDC: folders, ids, domains and failures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.classes import SOURCE_NUM_IDS, SOURCE_TO_STREET, STREET_CLASSES, street_label_map

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]


def write_pair(image: Path, label: Path, ids: np.ndarray) -> None:
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.full((*ids.shape, 3), 90, np.uint8))
    cv2.imwrite(str(label), ids.astype(np.uint8))


def all_ids(count: int) -> np.ndarray:
    """An (8, 16) label that holds every id below ``count`` and 255."""
    flat = np.full(128, 255)
    flat[: count * 4] = np.repeat(np.arange(count), 4)
    return flat.reshape(8, 16)


@pytest.fixture
def streets(tmp_path):
    """Two sequences, one of whose names begins with the other's."""
    for sequence in ('day_1', 'day_10'):
        for i in range(3):
            stem = f'{sequence}/{sequence}_{i}'
            write_pair(tmp_path / f'img_dir/{stem}.jpg', tmp_path / f'ann_dir/{stem}.png', all_ids(11))
    (tmp_path / 'splits').mkdir()
    (tmp_path / 'splits/train.txt').write_text('day_1/day_1_0\nday_1/day_1_2\nday_10/day_10_1\n')
    return tmp_path


def build(**kwargs):
    return DATASETS.build(dict(pipeline=LOAD, **kwargs))


def test_sequences_and_lists_select_together(streets):
    assert len(build(type='CamVidDataset', data_root=str(streets))) == 6
    assert len(build(type='CamVidDataset', data_root=str(streets), sequences=['day_1'])) == 3
    both = build(type='CamVidDataset', data_root=str(streets), ann_file='splits/train.txt', sequences=['day_1'])
    assert [Path(both.get_data_info(i)['img_path']).stem for i in range(len(both))] == ['day_1_0', 'day_1_2']


def test_domain_reaches_the_sample_and_only_when_given(streets):
    tagged = build(type='CamVidDataset', data_root=str(streets), domain='dusk')[0]['data_samples']
    assert tagged.domain == 'dusk'
    assert 'domain' not in build(type='CamVidDataset', data_root=str(streets))[0]['data_samples']


@pytest.mark.parametrize('source', ['camvid', 'labelmefacade', 'cityscapes'])
def test_street_labels_equal_a_pixelwise_mapping(tmp_path, source):
    ids = all_ids(SOURCE_NUM_IDS[source])
    write_pair(tmp_path / 'img_dir/a/x.jpg', tmp_path / 'ann_dir/a/x.png', ids)
    label = build(type='StreetSixDataset', source=source, data_root=str(tmp_path))[0]['data_samples'].gt_sem_seg.data[0]
    expected = [[SOURCE_TO_STREET[source].get(int(i), 255) for i in row] for row in ids]
    assert label.tolist() == expected


def test_street_maps_name_the_classes_that_the_sets_name():
    """The ids are tied to names that are written down elsewhere: mmseg's Cityscapes and our CamVid."""
    same = {'tree': 'vegetation', 'sidewalk': 'pavement'}
    for source, data_set in (('camvid', 'CamVidDataset'), ('cityscapes', 'CityscapesDataset')):
        names = DATASETS.get(data_set).METAINFO['classes']
        for old, new in SOURCE_TO_STREET[source].items():
            assert STREET_CLASSES[new] == same.get(names[old], names[old])
        shared = {i for i, name in enumerate(names) if same.get(name, name) in STREET_CLASSES}
        assert shared == set(SOURCE_TO_STREET[source])


def test_street_sets_of_different_sources_join(tmp_path):
    parts = []
    for source in SOURCE_NUM_IDS:
        root = tmp_path / source
        write_pair(root / 'img_dir/a/x.jpg', root / 'ann_dir/a/x.png', all_ids(SOURCE_NUM_IDS[source]))
        parts.append(dict(type='StreetSixDataset', source=source, data_root=str(root), domain=source, pipeline=LOAD))
    parts.append(dict(type='ToyDriveDataset', length=1, pipeline=LOAD))
    joined = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    assert [joined[i]['data_samples'].domain for i in range(4)] == [*SOURCE_NUM_IDS, 'clear']


def test_fewer_street_classes_map_through_both_maps(tmp_path):
    ids = all_ids(11)
    write_pair(tmp_path / 'img_dir/a/x.jpg', tmp_path / 'ann_dir/a/x.png', ids)
    few = build(type='StreetSixDataset', source='camvid', data_root=str(tmp_path), metainfo=dict(classes=('car', 'sky')))
    expected = np.select([ids == 8, ids == 0], [0, 1], 255)
    np.testing.assert_array_equal(few[0]['data_samples'].gt_sem_seg.data[0].numpy(), expected)


def test_unknown_source_names_the_choices():
    with pytest.raises(ValueError, match=r"one of camvid, labelmefacade, cityscapes, got 'kitti'"):
        street_label_map('kitti')


def test_missing_folder_empty_folder_missing_sequence_and_list(streets, tmp_path):
    with pytest.raises(ValueError, match=r'CamVidDataset: the folder /nowhere/img_dir does not exist .*img_dir/<seq'):
        build(type='CamVidDataset', data_root='/nowhere')
    with pytest.raises(ValueError, match='has no sequence .*night'):
        build(type='CamVidDataset', data_root=str(streets), sequences=['night'])
    with pytest.raises(ValueError, match=r'list of images .*absent\.txt does not exist'):
        build(type='CamVidDataset', data_root=str(streets), ann_file='splits/absent.txt')
    (tmp_path / 'void/img_dir').mkdir(parents=True)
    with pytest.raises(ValueError, match=r'no image was found in .*void/img_dir'):
        build(type='CamVidDataset', data_root=str(tmp_path / 'void'))
    with pytest.raises(TypeError, match='sequences must be a list'):
        build(type='CamVidDataset', data_root=str(streets), sequences='day_1')


def test_wrong_ids_colour_labels_and_missing_labels_are_refused_when_built(tmp_path):
    wrong = np.full((8, 16), 3)
    wrong[0, :2] = 26, 33
    write_pair(tmp_path / 'img_dir/a/x.jpg', tmp_path / 'ann_dir/a/x.png', wrong)
    with pytest.raises(ValueError, match=r'x\.png holds the ids \[26, 33\], expected 0 to 10 or 255'):
        build(type='CamVidDataset', data_root=str(tmp_path))
    assert len(build(type='CamVidDataset', data_root=str(tmp_path), check_ids=0)) == 1
    cv2.imwrite(str(tmp_path / 'ann_dir/a/x.png'), np.zeros((8, 16, 3), np.uint8))
    with pytest.raises(ValueError, match='one channel of ids'):
        build(type='CamVidDataset', data_root=str(tmp_path))
    (tmp_path / 'ann_dir/a/x.png').unlink()
    with pytest.raises(ValueError, match=r'1 of 1 images have no label file, the first is .*x\.png: complete the labels'):
        build(type='CamVidDataset', data_root=str(tmp_path))


def test_street_six_checks_the_ids_of_the_source_not_the_six(tmp_path):
    write_pair(tmp_path / 'img_dir/a/x.jpg', tmp_path / 'ann_dir/a/x.png', all_ids(11))
    assert len(build(type='StreetSixDataset', source='camvid', data_root=str(tmp_path))) == 1
    with pytest.raises(ValueError, match=r'holds the ids \[8, 9, 10\], expected 0 to 7'):
        build(type='StreetSixDataset', source='labelmefacade', data_root=str(tmp_path))


def test_cityscapes_with_label_ids_instead_of_train_ids(tmp_path):
    stem = 'aachen/aachen_000000_000019'
    image = tmp_path / f'leftImg8bit/train/{stem}_leftImg8bit.png'
    label = tmp_path / f'gtFine/train/{stem}_gtFine_labelTrainIds.png'
    prefix = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
    write_pair(image, label, all_ids(19))
    good = build(type='TaggedCityscapesDataset', data_root=str(tmp_path), data_prefix=prefix)
    assert good[0]['data_samples'].domain == 'cityscapes'
    write_pair(image, label, all_ids(30))
    with pytest.raises(ValueError, match=r'TaggedCityscapesDataset: .*labelTrainIds\.png holds the ids \[19, 20'):
        build(type='TaggedCityscapesDataset', data_root=str(tmp_path), data_prefix=prefix)


@pytest.fixture
def acdc(tmp_path):
    """ACDC's layout with one image per condition and split, and clear-weather references that must not be taken."""
    for condition in ('fog', 'night', 'rain', 'snow'):
        for split in ('train', 'val', 'test', 'val_ref'):
            stem = f'{condition}/{split}/GOPR01/GOPR01_{condition}_{split}'
            image, label = tmp_path / f'rgb_anon/{stem}_rgb_anon.png', tmp_path / f'gt/{stem}_gt_labelTrainIds.png'
            write_pair(image, label, all_ids(19))
            if split == 'test':
                label.unlink()
    return tmp_path


def test_acdc_conditions_are_the_domains(acdc):
    val = build(type='ACDCDataset', data_root=str(acdc))
    assert [val[i]['data_samples'].domain for i in range(len(val))] == ['fog', 'night', 'rain', 'snow']
    assert val.metainfo['classes'] == DATASETS.get('CityscapesDataset').METAINFO['classes']
    two = build(type='ACDCDataset', data_root=str(acdc), split='train', conditions=('snow', 'fog'))
    names = [Path(two.get_data_info(i)['img_path']).name for i in range(len(two))]
    assert names == ['GOPR01_snow_train_rgb_anon.png', 'GOPR01_fog_train_rgb_anon.png']
    one = build(type='ACDCDataset', data_root=str(acdc), domain='adverse')
    assert {one[i]['data_samples'].domain for i in range(4)} == {'adverse'}


def test_acdc_joins_cityscapes(acdc):
    image = acdc / 'cs/leftImg8bit/val/a/a_leftImg8bit.png'
    write_pair(image, acdc / 'cs/gtFine/val/a/a_gtFine_labelTrainIds.png', all_ids(19))
    prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    city = dict(type='TaggedCityscapesDataset', data_root=str(acdc / 'cs'), data_prefix=prefix, pipeline=LOAD)
    parts = [city, dict(type='ACDCDataset', data_root=str(acdc), pipeline=LOAD)]
    joined = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    assert [joined[i]['data_samples'].domain for i in range(5)] == ['cityscapes', 'fog', 'night', 'rain', 'snow']


def test_acdc_test_split_has_images_only(acdc):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDomainInputs')]
    test = DATASETS.build(dict(type='ACDCDataset', data_root=str(acdc), split='test', test_mode=True, pipeline=pipeline))
    assert 'gt_sem_seg' not in test[1]['data_samples']
    assert test[1]['data_samples'].domain == 'night'
    with pytest.raises(ValueError, match='test split has no public labels'):
        build(type='ACDCDataset', data_root=str(acdc), split='test')


def test_acdc_failures_name_folder_condition_and_split(acdc):
    with pytest.raises(ValueError, match='conditions must be among .*dusk'):
        build(type='ACDCDataset', data_root=str(acdc), conditions=('dusk',))
    with pytest.raises(ValueError, match="split must be one of .*'validation'"):
        build(type='ACDCDataset', data_root=str(acdc), split='validation')
    for path in sorted((acdc / 'rgb_anon/rain/val').rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (acdc / 'rgb_anon/rain/val').rmdir()
    with pytest.raises(ValueError, match=r'the folder .*rgb_anon/rain/val/? does not exist'):
        build(type='ACDCDataset', data_root=str(acdc))


def test_real_sets(shared):
    """Counts of the real folders, and the classes that a fixed frame of each shows."""
    camvid, facade = str(shared / 'data/camvid'), str(shared / 'data/labelmefacade')
    day = build(type='CamVidDataset', data_root=camvid, sequences=['day_0016E5', 'day_0006R0'])
    train = build(
        type='StreetSixDataset',
        source='camvid',
        data_root=camvid,
        ann_file='splits/train.txt',
        sequences=['day_0016E5', 'day_0006R0'],
    )
    dusk = build(type='StreetSixDataset', source='camvid', data_root=camvid, sequences=['dusk_0001TP'])
    boston = build(type='StreetSixDataset', source='labelmefacade', data_root=facade, sequences=['boston'])
    assert [len(day), len(train), len(dusk), len(boston)] == [406, 305, 62, 252]
    label = dusk[0]['data_samples'].gt_sem_seg.data[0]
    # The sky is above the road: a wrong order of classes would turn this round.
    rows = np.arange(label.shape[0])[:, None].repeat(label.shape[1], 1)
    assert rows[label.numpy() == 4].mean() < 100 < 220 < rows[label.numpy() == 0].mean()
