"""The held-out part of the training set: whole groups, no image on both sides, the test data untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmseg.registry import DATASETS

from mmseg_dafm.experiments.sweep.split import chosen_indices, hold_out, split_groups


@given(st.lists(st.sampled_from('abcdefgh'), min_size=2, max_size=80), st.floats(0.05, 0.95), st.integers(0, 5))
def test_groups_are_whole_and_the_share_is_near(groups, fraction, seed):
    if len(set(groups)) < 2:
        with pytest.raises(ValueError, match='needs at least two groups'):
            split_groups(groups, fraction, seed)
        return
    held = split_groups(groups, fraction, seed)
    assert held
    assert held < set(groups)
    assert held == split_groups(groups[::-1], fraction, seed), 'the order of the images does not matter'
    count = sum(name in held for name in groups)
    largest = max(map(groups.count, groups))
    if count > largest:
        assert count <= fraction * len(groups) + largest


def test_single_images_are_held_out_at_the_share_and_the_seed_matters():
    images = [str(i) for i in range(100)]
    assert len(split_groups(images, 0.2)) == 20
    assert split_groups(images, 0.2, 0) != split_groups(images, 0.2, 1)
    for fraction in (0, 1, -0.1):
        with pytest.raises(ValueError, match='must lie between 0 and 1'):
            split_groups(images, fraction)


@pytest.mark.slow
@pytest.mark.parametrize('indices', [None, 3, -3, [4, 1], 99])
def test_chosen_indices_are_mmengines(indices):
    dataset = DATASETS.build(dict(type='ToyDriveDataset', length=7, pipeline=[], indices=indices))
    everything = DATASETS.build(dict(type='ToyDriveDataset', length=7, pipeline=[]))
    expected = [everything.get_data_info(i)['img_path'] for i in chosen_indices(7, indices)]
    assert [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))] == expected


def config(train, **changes) -> Config:
    test = dict(type='ToyDriveDataset', length=5, seed=9, pipeline=[])
    return Config(dict(train_dataloader=dict(dataset=train), val_dataloader=dict(batch_size=1, dataset=test),
                       test_pipeline=[dict(type='PackSegInputs')], **changes))  # fmt: skip


def paths(dataset) -> list[str]:
    built = DATASETS.build(dataset)
    return [built.get_data_info(i)['img_path'] for i in range(len(built))]


@pytest.mark.slow
def test_train_keeps_the_rest_and_the_held_out_gets_the_test_pipeline():
    leaf = dict(type='ToyDriveDataset', length=40, seed=0, indices=20, pipeline=[dict(type='RandomFlip', prob=0.5)])
    cfg = config(leaf)
    before = paths(leaf)
    assert hold_out(cfg, 0.25) == dict(train=15, held_out=5, groups=None)
    kept, held = paths(cfg.train_dataloader.dataset), paths(cfg.val_dataloader.dataset)
    assert sorted(kept + held) == sorted(before)
    assert not set(kept) & set(held)
    assert cfg.train_dataloader.dataset.pipeline == leaf['pipeline']
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline
    assert cfg.val_dataloader.dataset.test_mode is True
    again = config(leaf)
    hold_out(again, 0.25)
    assert again.pretty_text == cfg.pretty_text


@pytest.mark.slow
def test_an_image_of_two_leaves_is_on_one_side_and_tested_once():
    leaf = dict(type='ToyDriveDataset', length=30, seed=0, pipeline=[])
    longer = dict(leaf, length=50)
    cfg = config(dict(type='ConcatDataset', datasets=[leaf, longer]))
    counts = hold_out(cfg, 0.3)
    kept = [path for child in cfg.train_dataloader.dataset.datasets for path in paths(child)]
    held = paths(cfg.val_dataloader.dataset)
    assert not set(kept) & set(held)
    assert len(held) == len(set(held)) == counts['held_out'] == 15
    assert set(kept) | set(held) == set(paths(longer))
    assert cfg.val_dataloader.dataset.type == 'DomainConcatDataset'
    assert len(DATASETS.build(cfg.val_dataloader.dataset)) == 15


@pytest.mark.slow
def test_recordings_stay_together():
    leaf = dict(type='ToyDriveDataset', length=40, conditions=('clear', 'fog'), pipeline=[])
    cfg = config(leaf)
    pattern = r'/(clear|fog)/' if '/clear/' in paths(leaf)[0] else r'(clear|fog)'
    counts = hold_out(cfg, 0.2, group_by=pattern)
    assert counts['groups'] in (['clear'], ['fog'])
    assert {path.count('fog') for path in paths(cfg.train_dataloader.dataset)} != {
        path.count('fog') for path in paths(cfg.val_dataloader.dataset)
    }
    with pytest.raises(ValueError, match="--group-by 'walk' does not occur in the image path"):
        hold_out(config(leaf), group_by='walk')
    with pytest.raises(ValueError, match='needs at least two groups of images, but all 40 are one'):
        hold_out(config(leaf), group_by='toydrive')


def test_boston_is_held_out_by_album(shared):
    data = dict(type='LabelMeFacadeDataset', data_root=str(shared / 'data/labelmefacade'), sequences=['boston'], pipeline=[])
    albums = ['05june05_static_street_boston', 'static_boston_street_april']
    cfg = config(dict(data, albums=albums))
    assert hold_out(cfg, group_by=r'/([^/]+)__') == dict(train=97, held_out=51, groups=[albums[1]])
