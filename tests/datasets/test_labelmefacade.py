"""LabelMeFacade by album: selections, classes, the real set, and the split of the Boston configs."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.classes import SOURCE_NUM_IDS, SOURCE_TO_STREET, STREET_CLASSES
from mmseg_dafm.datasets.street_photos import LabelMeFacadeDataset, album_of

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
PHOTOS = ('boston/walk__a', 'boston/walk__b', 'boston/walk_long__a', 'boston/drive__c', 'misc/paris__a')


@pytest.fixture
def facade(tmp_path):
    """Five photos of four albums, one of whose names begins with another's; the labels hold all eight ids and 255."""
    for stem in PHOTOS:
        for folder, suffix, content in (
            ('img_dir', '.jpg', np.full((4, 18, 3), 90, np.uint8)),
            ('ann_dir', '.png', np.repeat([[*range(8), 255]], 4, 0).repeat(2, 1).astype(np.uint8)),
        ):
            path = tmp_path / folder / f'{stem}{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content)
    return tmp_path


def build(root, **kwargs):
    return DATASETS.build(dict(type='LabelMeFacadeDataset', data_root=str(root), pipeline=LOAD, **kwargs))


def stems(dataset) -> list[str]:
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


def test_albums_are_kept_or_dropped_by_their_whole_name(facade):
    assert len(build(facade)) == 5
    assert stems(build(facade, albums=['walk'])) == ['walk__a', 'walk__b']
    assert stems(build(facade, exclude_albums=['walk', 'paris'])) == ['drive__c', 'walk_long__a']
    assert stems(build(facade, sequences=['boston'], albums=['walk', 'drive'], exclude_albums=['walk'])) == ['drive__c']


def test_kept_and_dropped_albums_are_complementary(facade):
    for names in (['walk'], ['walk_long', 'paris'], ['drive']):
        kept, rest = stems(build(facade, albums=names)), stems(build(facade, exclude_albums=names))
        assert sorted(kept + rest) == sorted(stems(build(facade)))


def test_ids_are_taken_as_they_are_stored_and_reach_the_sample_with_the_domain(facade):
    sample = build(facade, albums=['paris'], domain='misc')[0]['data_samples']
    assert sample.domain == 'misc'
    assert sample.gt_sem_seg.data[0, 0].tolist() == [*np.repeat(range(8), 2), 255, 255]


def test_the_classes_are_those_that_the_six_street_classes_take_from_the_set():
    names = LabelMeFacadeDataset.METAINFO['classes']
    assert len(names) == SOURCE_NUM_IDS['labelmefacade'] == len(LabelMeFacadeDataset.METAINFO['palette'])
    parts = dict(door='building', window='building')
    for identity, street in SOURCE_TO_STREET['labelmefacade'].items():
        assert STREET_CLASSES[street] == parts.get(names[identity], names[identity])
    assert len({tuple(colour) for colour in LabelMeFacadeDataset.METAINFO['palette']}) == 8


def test_unknown_albums_and_strings_are_refused(facade):
    with pytest.raises(ValueError, match=r"albums names \['park'\], but .*img_dir.* has the albums \['drive', 'paris', 'walk', "):
        build(facade, albums=['walk', 'park'])
    with pytest.raises(ValueError, match=r"exclude_albums names \['paris'\]"):
        build(facade, sequences=['boston'], exclude_albums=['paris'])
    with pytest.raises(TypeError, match="albums must be a list of names, got the string 'walk'"):
        build(facade, albums='walk')
    with pytest.raises(TypeError, match='exclude_albums must be a list of names'):
        build(facade, exclude_albums='walk')
    with pytest.raises(ValueError, match='no image was found'):
        build(facade, albums=['walk'], exclude_albums=['walk'])


def test_the_configs_split_no_recording_and_lose_no_photo(shared, root):
    cfg = Config.fromfile(root / 'configs/_base_/datasets/labelmefacade_boston.py')
    parts = [cfg.train_dataloader.dataset, *cfg.val_dataloader.dataset.datasets]
    data = []
    for part in parts:
        part.update(data_root=str(shared / 'data/labelmefacade'), pipeline=cfg.test_pipeline)
        data.append(DATASETS.build(part))
    assert [len(part) for part in data] == [148, 104, 137]
    assert [part.domain for part in data] == ['boston', 'boston', 'misc']
    albums = [set(map(album_of, map('{}.jpg'.format, stems(part)))) for part in data]
    assert not albums[0] & (albums[1] | albums[2])
    photos = Counter(part.get_data_info(i)['img_path'] for part in data for i in range(len(part)))
    assert len(photos) == 389
    assert set(photos.values()) == {1}
    # predictions are compared at the photo's size, and the network sees 320x240
    sample = data[1][0]
    assert min(sample['inputs'].shape[1:]) <= 240
    assert sample['data_samples'].gt_sem_seg.data.shape[1:] == sample['data_samples'].ori_shape
    # the sky is above the road: a wrong order of classes would turn this round
    label = sample['data_samples'].gt_sem_seg.data[0].numpy()
    rows = np.arange(label.shape[0])[:, None].repeat(label.shape[1], 1)
    assert rows[label == 5].mean() < rows[label == 4].mean()
