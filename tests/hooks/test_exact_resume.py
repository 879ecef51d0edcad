"""A resumed run equals an uninterrupted one to the bit: augmentation, dropout, data order, with and without workers."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmseg_dafm.hooks.exact_resume import SeededBatches

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/quickstart/domino_sub_toydrive.py'


class Draws(Dataset):
    """Each sample is its index and one number of every generator; counts what it has loaded."""

    def __init__(self):
        self.loaded = 0

    def __len__(self):
        return 7

    def __getitem__(self, index):
        self.loaded += 1
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


def batches(start, skipped=0, workers=0, sampler=InfiniteSampler, count=6, seed=3):
    dataset = Draws()
    loader = DataLoader(
        dataset, batch_size=2, num_workers=workers, collate_fn=list, sampler=sampler(dataset, shuffle=True, seed=0)
    )
    found = SeededBatches(loader, seed, start, skipped)
    for _ in range(skipped):
        assert next(found) is None
    torch.manual_seed(start)
    return [next(found) for _ in range(count)], dataset


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_batches_from_an_iteration_on_are_those_of_a_whole_run(sampler):
    whole, _ = batches(0, sampler=sampler, count=10)
    assert len({tuple(sample[1:] for sample in batch) for batch in whole}) == 10, 'no two batches are augmented alike'
    later, dataset = batches(4, sampler=sampler)
    assert later == whole[4:]
    assert dataset.loaded == sum(map(len, later)), 'what was done before is not loaded again'
    assert batches(4, skipped=4, sampler=sampler)[0] == whole[4:], 'the classic loop skips by itself'
    assert batches(4, workers=2, sampler=sampler)[0] == whole[4:], 'workers change nothing'
    assert batches(0, sampler=sampler, seed=4)[0] != whole[:6]


def test_a_generator_that_workers_have_begun_to_read_starts_anew():
    """Classic mmengine starts its workers before any hook is called."""
    dataset = Draws()
    loader = DataLoader(dataset, batch_size=2, collate_fn=list, sampler=InfiniteSampler(dataset, seed=0))
    next(iter(loader))
    assert next(SeededBatches(loader, 3, 0)) == batches(0)[0][0]


def test_a_set_smaller_than_a_batch_is_refused():
    dataset = Draws()
    loader = DataLoader(dataset, batch_size=8, drop_last=True, collate_fn=list, sampler=DefaultSampler(dataset))
    with pytest.raises(ValueError, match='gives no batch'):
        next(SeededBatches(loader, 0, 0))


def quickstart(work_dir, iterations, workers, **options):
    """The quickstart at small size, whose W and U-Net draw dropout and whose images are flipped."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir), 'experiment_name': f'{work_dir.name}_{iterations}_{workers}', 'log_level': 'WARNING',
            'visualizer.name': f'{work_dir.name}_{iterations}_{workers}', 'train_cfg.max_iters': iterations,
            'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2, 'default_hooks.checkpoint.max_keep_ckpts': 9,
            'train_dataloader.num_workers': workers, 'val_dataloader.dataset.length': 5, 'test_dataloader.dataset.length': 5,
            **options,
        }
    )  # fmt: skip
    runner = Runner.from_cfg(cfg)
    assert 'ExactResumeHook' in [type(hook).__name__ for hook in runner.hooks], 'of the runtime that every config inherits'
    runner.train()
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_the_quickstart_resumed_at_half_way_is_the_uninterrupted_run_to_the_bit(tmp_path, workers):
    whole = quickstart(tmp_path / 'whole', 4, workers)
    half = quickstart(tmp_path / 'parts', 2, workers)
    torch.manual_seed(123)
    resumed = quickstart(tmp_path / 'parts', 4, workers, resume=True)
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert any(not torch.equal(whole[name], half[name]) for name in whole), 'the second half changed something'


@pytest.mark.slow
def test_two_ranks_go_on_as_if_they_had_not_stopped(tmp_path):
    options = ['train_cfg.val_begin=9', 'default_hooks.checkpoint.interval=2', 'default_hooks.checkpoint.max_keep_ckpts=9']

    def train(folder, iterations, *more):
        command = [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc-per-node',
            '2',
            ROOT / 'tools/train.py',
        ]
        command += [CONFIG, '--launcher', 'pytorch', '--work-dir', tmp_path / folder, *more, '--cfg-options', *options]
        command += [f'train_cfg.max_iters={iterations}']
        environment = os.environ | {'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
        done = subprocess.run([*map(str, command)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return torch.load(tmp_path / folder / f'iter_{iterations}.pth', weights_only=False)['state_dict']

    whole = train('whole', 4)
    train('parts', 2)
    resumed = train('parts', 4, '--resume')
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
