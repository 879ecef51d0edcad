"""Foggy Zurich, Foggy Driving, Dark Zurich and Nighttime Driving on tiny folders: layouts, splits, missing parts."""

import numpy as np
import pytest
from tiny_sets import (
    DARK_ZURICH,
    FOGGY_DRIVING,
    FOGGY_ZURICH,
    NIGHTTIME_DRIVING,
    build,
    ids,
    picture,
    write,
    write_foggy_zurich,
    write_pairs,
)

from mmseg_dafm.datasets.classes import gtav_table, label_id_table

IMAGES_ONLY = [dict(type='LoadImageFromFile'), dict(type='PackDomainInputs')]
NIGHT = {
    'dark_zurich': ('TaggedDarkZurichDataset', DARK_ZURICH),
    'nighttime_driving': ('TaggedNighttimeDrivingDataset', NIGHTTIME_DRIVING),
}


@pytest.mark.parametrize('name', NIGHT)
def test_sets_by_night(tmp_path, name):
    kind, pair = NIGHT[name]
    with pytest.raises(ValueError, match=rf'{kind}: the folder .*night does not exist \(expected layout: '):
        build(type=kind, data_root=str(tmp_path))
    write_pairs(tmp_path, pair, 'ab')
    data = build(type=kind, data_root=str(tmp_path))
    assert len(data) == 2
    np.testing.assert_array_equal(data[1]['data_samples'].gt_sem_seg.data[0], ids(19))
    assert data[0]['data_samples'].domain == name
    (tmp_path / pair[1].format('b')).unlink()
    with pytest.raises(ValueError, match=rf'{kind}: 1 of 2 images have no label file, the first is .*b_gt.*: complete'):
        build(type=kind, data_root=str(tmp_path))
    assert len(build(type=kind, data_root=str(tmp_path), drop_unlabelled=True)) == 1
    write(tmp_path / pair[1].format('b'), label_id_table()[ids(19)])
    with pytest.raises(ValueError, match=rf'{kind}: the label file .*b_gt.* holds the ids .*33'):
        build(type=kind, data_root=str(tmp_path))


def test_dark_zurichs_test_split_has_images_only(tmp_path):
    write(tmp_path / 'rgb_anon/test/night/GOPR0364/a_rgb_anon.png', picture())
    data = build(type='TaggedDarkZurichDataset', data_root=str(tmp_path), split='test', test_mode=True, pipeline=IMAGES_ONLY)
    assert 'gt_sem_seg' not in data[0]['data_samples']
    assert data[0]['data_samples'].domain == 'dark_zurich'
    with pytest.raises(ValueError, match="TaggedDarkZurichDataset: the test split has no public labels; .*or take 'val'"):
        build(type='TaggedDarkZurichDataset', data_root=str(tmp_path), split='test')
    with pytest.raises(ValueError, match=r"TaggedDarkZurichDataset: split must be one of \('val', 'test'\), got 'train'"):
        build(type='TaggedDarkZurichDataset', data_root=str(tmp_path), split='train')


def test_foggy_zurich_takes_what_its_list_names(tmp_path):
    write_foggy_zurich(tmp_path, 'ba')
    data = build(type='FoggyZurichDataset', data_root=str(tmp_path))
    assert [data[i]['data_samples'].img_path[-5:] for i in range(len(data))] == ['b.png', 'a.png']
    np.testing.assert_array_equal(data[0]['data_samples'].gt_sem_seg.data[0], ids(19))
    assert data[0]['data_samples'].domain == 'foggy_zurich'
    (tmp_path / FOGGY_ZURICH[1].format('a')).unlink()
    with pytest.raises(ValueError, match='1 of 2 images have no label file, the first is .*a.png: complete the labels'):
        build(type='FoggyZurichDataset', data_root=str(tmp_path))
    (tmp_path / FOGGY_ZURICH[0].format('a')).unlink()
    with pytest.raises(ValueError, match=r'1 of the 2 images in .*RGB_testv2_filenames.txt do not exist, the first is .*a\.png'):
        build(type='FoggyZurichDataset', data_root=str(tmp_path))
    with pytest.raises(ValueError, match=r'the list of images .*RGB_testv1_filenames.txt does not exist .*unpack lists_'):
        build(type='FoggyZurichDataset', data_root=str(tmp_path), split='testv1')


def test_foggy_zurichs_fog_without_labels(tmp_path):
    write_foggy_zurich(tmp_path, 'cd', split='medium')
    data = build(type='FoggyZurichDataset', data_root=str(tmp_path), split='medium', test_mode=True, pipeline=IMAGES_ONLY)
    assert len(data) == 2
    assert 'gt_sem_seg' not in data[0]['data_samples']
    with pytest.raises(ValueError, match="the light split has no public labels; .*or take 'testv1' or 'testv2'"):
        build(type='FoggyZurichDataset', data_root=str(tmp_path), split='light')


@pytest.fixture
def foggy_driving(tmp_path):
    write_pairs(tmp_path, FOGGY_DRIVING['test'], 'a')
    write_pairs(tmp_path, FOGGY_DRIVING['test_extra'], 'bc', 20, 12)
    return tmp_path


def test_foggy_driving_joins_fine_and_coarse_labels(foggy_driving):
    data = build(type='FoggyDrivingDataset', data_root=str(foggy_driving))
    shapes = [tuple(data[i]['data_samples'].gt_sem_seg.shape) for i in range(len(data))]
    assert shapes == [(12, 20), (20, 12), (20, 12)]
    np.testing.assert_array_equal(data[2]['data_samples'].gt_sem_seg.data[0], ids(19, 20, 12))
    assert {data[i]['data_samples'].domain for i in range(3)} == {'foggy_driving'}
    assert len(build(type='FoggyDrivingDataset', data_root=str(foggy_driving), splits='test_extra')) == 2
    for splits in (['val'], []):
        with pytest.raises(ValueError, match=r"split must be one of \('test', 'test_extra'\)"):
            build(type='FoggyDrivingDataset', data_root=str(foggy_driving), splits=splits)


def test_foggy_driving_names_the_missing_split(tmp_path):
    write_pairs(tmp_path, FOGGY_DRIVING['test'], 'a')
    with pytest.raises(ValueError, match=r'FoggyDrivingDataset: the folder .*leftImg8bit/test_extra/ does not exist'):
        build(type='FoggyDrivingDataset', data_root=str(tmp_path))


def test_label_ids_become_train_ids(run, foggy_driving):
    """As it may be downloaded: label ids alone; the labels of train_extra, which has no images here, are not touched."""
    old = label_id_table()[ids(19)]
    for path in foggy_driving.rglob('*_labelTrainIds.png'):
        path.unlink()
    for _, label in FOGGY_DRIVING.values():
        for name in 'abc':
            path = foggy_driving / label.format(name).replace('labelTrainIds', 'labelIds')
            write(path, old if '/test/' in path.as_posix() else old.T)
    with pytest.raises(ValueError, match=r'3 of 3 images have no label file, .*dataset_converters/cityscapes\.py ROOT'):
        build(type='FoggyDrivingDataset', data_root=str(foggy_driving))
    done = run('cityscapes', foggy_driving)
    assert done.returncode == 0, done.stderr
    assert '3 of 3 images have labels' in done.stdout
    data = build(type='FoggyDrivingDataset', data_root=str(foggy_driving))
    np.testing.assert_array_equal(data[0]['data_samples'].gt_sem_seg.data[0], ids(19))
    np.testing.assert_array_equal(data[1]['data_samples'].gt_sem_seg.data[0], gtav_table()[old.T])
    assert 'holds no image in leftImg8bit/' in run('cityscapes', foggy_driving / 'gtFine').stderr


def test_cityscapes_itself_is_converted(run, tmp_path):
    stem = 'val/aachen/aachen_000000_000019'
    write(tmp_path / f'leftImg8bit/{stem}_leftImg8bit.png', picture())
    write(tmp_path / f'gtFine/{stem}_gtFine_labelIds.png', ids(34))
    assert run('cityscapes', tmp_path).returncode == 0
    prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    data = build(type='TaggedCityscapesDataset', data_root=str(tmp_path), data_prefix=prefix)
    np.testing.assert_array_equal(data[0]['data_samples'].gt_sem_seg.data[0], gtav_table()[ids(34)])
