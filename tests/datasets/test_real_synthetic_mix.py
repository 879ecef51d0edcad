"""RealSyntheticMix and EpochIndexSampler: ratio, determinism, ranks, epochs, shared labels, failures."""

import argparse
import itertools
import logging

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmseg.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader

from mmseg_dafm.core.config_file import ConfigOptions
from mmseg_dafm.datasets import EpochIndexSampler, epoch_index_sampler, real_synthetic_mix, synthetic_variants
from mmseg_dafm.datasets.synthetic_variants import find_variants, named_roots
from mmseg_dafm.experiments.suites import run_config as suite_config
from mmseg_dafm.experiments.suites.plan import Cell, config_options
from mmseg_dafm.experiments.suites.suite_load import load_suite

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]
REAL, NIGHT, SNOW = 10, 100, 200
REAL_SET = dict(type='CamVidDataset', img_suffix='_left.png', seg_map_suffix='_ids.png', domain='real')
NUMBERS = itertools.count()


@pytest.fixture
def folders(tmp_path):
    """Six real images of 16 x 32, all but one with a night variant, two with a snow variant, at half the size.

    Image and label of layout i hold the value i, so that each sample tells where it comes from.
    """
    for i in range(6):
        stem = f'town_{i:06d}'
        files = [(f'img_dir/{stem}_left.png', REAL + i, 1), (f'ann_dir/{stem}_ids.png', i, 1)]
        files += [(f'night/town/{stem}.png', NIGHT + i, 2)] if i != 4 else []
        files += [(f'snow/{stem}.png', SNOW + i, 2)] if i < 2 else []
        for name, value, shrink in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (16 // shrink, 32 // shrink)
            cv2.imwrite(str(path), np.full(shape if 'ann_dir' in name else (*shape, 3), value, np.uint8))
    return tmp_path


def build(folders, pipeline=LOAD, **kwargs):
    real = dict(REAL_SET, data_root=str(folders), pipeline=pipeline)
    roots = dict(night=str(folders / 'night'), snow=str(folders / 'snow'))
    return DATASETS.build(dict(type='RealSyntheticMix', real=real, synthetic_roots=roots, **kwargs))


def value(sample):
    return int(sample['inputs'][0, 0, 0])


def layout(sample):
    return int(sample['data_samples'].gt_sem_seg.data[0, 0, 0])


def test_ratio_zero_and_one_are_exact_for_every_layout_and_epoch(folders):
    real, synthetic = build(folders, ratio=0), build(folders, ratio=1)
    for index in range(60):
        assert value(real[index]) == REAL + index % 6
        assert value(synthetic[index]) >= NIGHT


def test_ratio_zero_does_not_read_the_folders(folders):
    real = build(folders, ratio=1.0).real
    mix = DATASETS.get('RealSyntheticMix')(real, synthetic_roots='/nowhere', ratio=0)
    assert len(mix) == 6


@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.75])
def test_share_of_synthetic_samples_is_the_ratio(folders, ratio):
    mix = build(folders, ratio=ratio)
    draws = 6000
    synthetic = sum(mix.get_data_info(i)['domain'] != 'real' for i in range(draws))
    # Five standard deviations of a binomial draw.
    assert abs(synthetic / draws - ratio) < 5 * np.sqrt(ratio * (1 - ratio) / draws)


def test_synthetic_image_has_the_label_and_the_size_of_its_layout(folders):
    mix = build(folders, ratio=1)
    seen = set()
    for index in range(200):
        sample = mix[index]
        base = {'night': NIGHT, 'snow': SNOW}[sample['data_samples'].domain]
        assert value(sample) == base + layout(sample)
        assert sample['inputs'].shape == (3, 16, 32)
        assert sample['data_samples'].ori_shape == (16, 32)
        if index % 6 != 4:
            assert layout(sample) == index % 6
        seen.add((sample['data_samples'].domain, layout(sample)))
    assert seen == {('night', i) for i in (0, 1, 2, 3, 5)} | {('snow', 0), ('snow', 1)}


def test_layout_without_variant_falls_back_to_all_others(folders):
    mix = build(folders, ratio=1)
    assert {layout(mix[6 * epoch + 4]) for epoch in range(80)} == {0, 1, 2, 3, 5}


def test_choice_depends_on_seed_epoch_and_index_alone(folders):
    mix, again, other = build(folders, seed=1), build(folders, seed=1), build(folders, seed=2)

    def choices(data, indices):
        return {i: data.get_data_info(i)['img_path'] for i in indices}

    assert choices(mix, range(120)) == choices(again, reversed(range(120)))
    assert choices(mix, range(120)) != choices(other, range(120))
    epochs = [[choices(mix, [6 * e + i])[6 * e + i] for i in range(6)] for e in range(12)]
    assert len({tuple(epoch) for epoch in epochs}) > 6


def test_workers_see_the_same_choices(folders):
    mix = build(folders)
    sampler = EpochIndexSampler(mix, seed=5)
    indices = list(itertools.islice(iter(sampler), 24))
    loader = DataLoader(mix, batch_size=2, sampler=sampler, num_workers=2, collate_fn=pseudo_collate)
    pairs = list(zip(indices[::2], indices[1::2], strict=True))
    # The sampler never ends: zip stops with the pairs.
    for pair, batch in zip(pairs, loader, strict=False):
        assert [int(image[0, 0, 0]) for image in batch['inputs']] == [value(mix[i]) for i in pair]


def test_augmentation_sees_the_matched_size(folders):
    """A crop of the full size keeps everything: image and label are equally large when the crop comes."""
    pipeline = [*LOAD[:2], dict(type='RandomCrop', crop_size=(16, 32)), LOAD[2]]
    mix = build(folders, pipeline=pipeline, ratio=1)
    assert mix[0]['inputs'].shape[1:] == mix[0]['data_samples'].gt_sem_seg.shape == (16, 32)


def test_folders_take_their_names_as_domains(folders):
    assert named_roots([str(folders / 'night'), str(folders / 'snow') + '/']) == {
        'night': str(folders / 'night'),
        'snow': str(folders / 'snow') + '/',
    }
    with pytest.raises(ValueError, match='equal folder names'):
        named_roots(['a/night', 'b/night'])
    with pytest.raises(ValueError, match='synthetic_roots is empty'):
        named_roots({})


def test_nothing_matches_names_counts_and_examples(folders):
    with pytest.raises(ValueError, match=r"none of the 5 synthetic .*town/town_000000.* 2 real images .*'x', 'y'"):
        find_variants(['x', 'y'], dict(night=str(folders / 'night')))
    with pytest.raises(ValueError, match=r'RealSyntheticMix: the folder /nowhere does not exist'):
        find_variants(['x'], dict(night='/nowhere'))


@pytest.fixture
def repeated(tmp_path):
    """Two sequences with equal file names, each image and label of its own value; synthetic images of both by night."""
    for s in (1, 2):
        for i in range(3):
            for folder, fill in (('img_dir', REAL + 3 * s + i), ('ann_dir', 3 * s + i), ('night', NIGHT + 3 * s + i)):
                path = tmp_path / folder / f'seq{s}/{i:05d}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (16, 32) if folder == 'ann_dir' else (16, 32, 3)
                cv2.imwrite(str(path), np.full(shape, fill, np.uint8))
    return tmp_path


def build_repeated(root, synthetic='night', **kwargs):
    real = dict(type='CamVidDataset', data_root=str(root), img_suffix='.png', pipeline=LOAD, domain='real')
    real.update(kwargs.pop('real', {}))
    roots = {'night': str(root / synthetic)}
    return DATASETS.build(dict(type='RealSyntheticMix', real=real, synthetic_roots=roots, ratio=1, **kwargs))


def test_equal_names_in_several_folders_keep_their_labels(repeated):
    mix = build_repeated(repeated)
    assert sorted(mix.variants) == list(range(6))
    for index in range(120):
        sample = mix[index]
        assert value(sample) == NIGHT + layout(sample)


def test_the_folders_of_a_narrower_set_count(repeated, said):
    """The other sequence's images have names of this one's, and are no variants of them."""
    mix = build_repeated(repeated, real=dict(sequences=['seq2']))
    assert all(value(mix[i]) == NIGHT + layout(mix[i]) for i in range(30))
    prefix = dict(img_path='img_dir/seq2', seg_map_path='ann_dir/seq2')
    flat = build_repeated(repeated, real=dict(data_prefix=prefix), synthetic='night/seq2')
    assert all(value(flat[i]) == NIGHT + layout(flat[i]) for i in range(30))
    assert any('3 synthetic images, such as seq1/00000, share the file name' in text for text, _ in said)


def test_ambiguous_pairs_are_refused(repeated):
    with pytest.raises(ValueError, match=r'night/seq1/00000\.png fits 2 real images, seq1/00000 and seq2/00000'):
        build_repeated(repeated, synthetic='night/seq1')
    prefix = dict(img_path='img_dir/seq2', seg_map_path='ann_dir/seq2')
    with pytest.raises(ValueError, match=r'night/seq1/00000\.png and .*seq2/00000\.png both fit the real image 00000'):
        build_repeated(repeated, real=dict(data_prefix=prefix))


@pytest.fixture
def said(monkeypatch):
    """(line, level) of what is logged."""
    lines = []
    for module in (real_synthetic_mix, synthetic_variants):
        monkeypatch.setattr(module, 'print_log', lambda text, logger, level: lines.append((text, level)))
    return lines


def test_few_layouts_with_synthetic_images_are_told_and_refused_on_request(folders, said):
    build(folders)
    ((text, level),) = said
    assert '5 of 6 layouts have synthetic images (night 5, snow 2); they make up 50% of the samples: 83.3% of the lay' in text
    assert level == logging.WARNING
    with pytest.raises(ValueError, match=r'5 of 6 layouts .* 83\.3% of the layouts, below min_share=0\.9'):
        build(folders, min_share=0.9)
    with pytest.raises(ValueError, match='min_share must lie between 0 and 1'):
        build(folders, min_share=90)
    (folders / 'night/town/town_000004.png').write_bytes((folders / 'night/town/town_000003.png').read_bytes())
    build(folders)
    assert said[-1][1] == logging.INFO
    assert '6 of 6 layouts have synthetic images (night 6, snow 2)' in said[-1][0]


def test_a_real_image_is_not_stretched_to_its_label(folders):
    cv2.imwrite(str(folders / 'ann_dir/town_000005_ids.png'), np.zeros((8, 16), np.uint8))
    with pytest.raises(ValueError, match=r'town_000005_ids\.png is 16 x 8 .* image .*town_000005_left\.png is 32 x 16'):
        build(folders, ratio=0)[5]


class NoModel(BaseModel):
    """What a runner needs besides the data."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


def loader_of_suite(root, folders, work, seed, rank_seeds=False):
    """The training data that the suite of Table 3 starts with a seed, on tiny folders, as mmengine's runner builds it."""
    suite = load_suite(root / 'configs/suites/domino_table3.py')
    cell = Cell('vpd_mix_50_50', seed)
    cfg = Config.fromfile(suite_config.find_config(suite.run(cell.run).config))
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=ConfigOptions)
    cfg.merge_from_dict(parser.parse_args(['--options', *config_options(suite, cell, work)]).options)
    data = cfg.train_dataloader
    data.dataset.real = dict(REAL_SET, data_root=str(folders), pipeline=LOAD)
    data.dataset.synthetic_roots = dict(night=str(folders / 'night'), snow=str(folders / 'snow'))
    runner = Runner(
        model=NoModel(),
        work_dir=str(work),
        train_dataloader=dict(data, num_workers=0, persistent_workers=False),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        randomness=dict(cfg.randomness, diff_rank_seed=rank_seeds),
        default_scope='mmseg',
        experiment_name=f'mix_{seed}_{next(NUMBERS)}',
    )
    return runner.build_dataloader(dict(data, num_workers=0, persistent_workers=False), seed=runner.seed)


def draws(mix):
    return [mix.get_data_info(i)['img_path'] for i in range(60)]


def test_the_seeds_of_a_suite_draw_different_mixes(root, folders, tmp_path):
    first, again, other = (loader_of_suite(root, folders, tmp_path / 'work', seed).dataset for seed in (0, 0, 1))
    assert (first.seed, again.seed, other.seed) == (0, 0, 1)
    assert draws(first) == draws(again)
    assert draws(first) != draws(other)
    # numbers drawn since the start, by the layers of a network for instance, do not matter
    torch.manual_seed(1)
    torch.rand(7)
    assert draws(build(folders)) == draws(other) == draws(build(folders, seed=1))


def test_ranks_with_seeds_of_their_own_share_the_mixes_choice(root, folders, tmp_path, monkeypatch):
    """mmengine's ``diff_rank_seed`` adds the rank to the seed; the mix takes rank 0's."""
    monkeypatch.setattr('mmengine.runner.utils.get_rank', lambda: 1)
    sent = []

    def broadcast(data, src):
        sent.append(int(data))
        data.fill_(5)

    monkeypatch.setattr(real_synthetic_mix, 'broadcast', broadcast)
    mix = loader_of_suite(root, folders, tmp_path / 'work', 5, rank_seeds=True).dataset
    assert sent == [6]
    assert draws(mix) == draws(build(folders, seed=5))


def test_failures(folders):
    with pytest.raises(ValueError, match=r'ratio must lie between 0 and 1, got 1\.5'):
        build(folders, ratio=1.5)
    with pytest.raises(ValueError, match='seed must be 0 or more'):
        build(folders, seed=-1)
    with pytest.raises(ValueError, match='no LoadAnnotations'):
        build(folders, pipeline=LOAD[:1])
    with pytest.raises(IndexError, match='must be 0 or more, got -1'):
        build(folders)[-1]
    with pytest.raises(TypeError, match='must be a BaseSegDataset, got list'):
        DATASETS.get('RealSyntheticMix')([1, 2], synthetic_roots='x')


def test_each_epoch_is_a_permutation_and_epochs_differ():
    stream = iter(EpochIndexSampler(range(7), seed=3))
    epochs = [list(itertools.islice(stream, 7)) for _ in range(4)]
    for e, epoch in enumerate(epochs):
        assert sorted(epoch) == list(range(7 * e, 7 * e + 7))
    orders = [tuple(i % 7 for i in epoch) for epoch in epochs]
    assert len(set(orders)) == 4


def test_without_shuffle_the_stream_counts():
    assert list(itertools.islice(iter(EpochIndexSampler(range(3), shuffle=False)), 8)) == list(range(8))


@pytest.mark.parametrize(('size', 'world'), [(8, 2), (7, 2), (5, 3)])
def test_ranks_interleave_to_the_single_stream(monkeypatch, size, world):
    alone = list(itertools.islice(iter(EpochIndexSampler(range(size), seed=1)), 6 * world))
    parts = []
    for rank in range(world):
        monkeypatch.setattr(epoch_index_sampler, 'get_dist_info', lambda rank=rank: (rank, world))
        parts.append(list(itertools.islice(iter(EpochIndexSampler(range(size), seed=1)), 6)))
    assert [i for group in zip(*parts, strict=True) for i in group] == alone
    assert not set(parts[0]) & set(parts[1])


@pytest.mark.parametrize('world', [1, 2])
def test_skip_equals_drawing_and_dropping(monkeypatch, world):
    monkeypatch.setattr(epoch_index_sampler, 'get_dist_info', lambda: (world - 1, world))
    for count in (0, 1, 6, 7, 20):
        plain, skipped = EpochIndexSampler(range(7), seed=2), EpochIndexSampler(range(7), seed=2)
        skipped.skip(count)
        assert list(itertools.islice(iter(skipped), 9)) == list(itertools.islice(iter(plain), count, count + 9))
    with pytest.raises(ValueError, match='num_samples must be 0 or more'):
        plain.skip(-1)


def test_sampler_is_registered_and_refuses_an_empty_set():
    sampler = DATA_SAMPLERS.build(dict(type='EpochIndexSampler', dataset=range(3)))
    assert len(sampler) == 3
    with pytest.raises(ValueError, match='the data set is empty'):
        EpochIndexSampler([])
