"""Runs that go on after an interruption exactly as if there had been none."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmseg_dafm.core.random_state import seed_all

# Streams of a run's seed, so that no two uses of randomness share one.
SAMPLES, ITERATIONS = 1, 2


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Draw all randomness from the seed and a number, so that a resumed run equals an uninterrupted one to the bit.

    - Dropout, noise and whatever else the model draws in iteration i follow from (seed, rank, i): the generators of torch,
      CUDA, NumPy and Python are seeded before each iteration. A checkpoint's iteration therefore *is* its random state, on
      every rank, and the checkpoint need not hold any. A validation in between changes nothing.
    - The augmentation of the n-th sample of the run follows from (seed, n), whichever worker loads it.
    - The data go on at the right sample, and the images before it are not loaded again.

    Equality to the bit holds where the device's kernels are deterministic, as on a CPU. Other numbers of workers give the
    same run; other numbers of ranks do not. For loops that count iterations (``IterBasedTrainLoop``); in loops that count
    epochs only the first point holds.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Replace the loop's batches by seeded ones from the loop's iteration on."""
        loop = runner.train_loop
        if can_be_seeded(loop):
            # mmengine's maintained loop asks its iterator to skip; the classic one takes what is to be skipped from it.
            skipped = 0 if hasattr(loop.dataloader_iterator, 'skip_iter') else loop.iter
            loop.dataloader_iterator = SeededBatches(loop.dataloader, runner.seed, loop.iter, skipped)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random numbers of this iteration."""
        seed_all(runner.seed, ITERATIONS, runner.rank, runner.iter)


def can_be_seeded(loop: Any) -> bool:
    """Whether a training loop counts iterations and its data set is read by index, in batches."""
    loader = getattr(loop, 'dataloader', None)
    if not hasattr(loop, 'dataloader_iterator') or not isinstance(loader, DataLoader):
        return False
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


class SeededDataset(Dataset):
    """A data set whose random augmentation of a sample follows from (seed, number); indices are (number, index)."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        number, index = key
        seed_all(self.seed, SAMPLES, number)
        return self.dataset[index]


class NumberedBatches:
    """The batches of a loader without end, as lists of (number, index); numbers count the samples of all ranks.

    Args:
        loader: The loader; its own iteration is not used.
        start: Batches that are left out at the beginning.
    """

    def __init__(self, loader: DataLoader, start: int) -> None:
        self.loader, self.start = loader, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return islice(self._all(), self.start, None)

    def _all(self) -> Iterator[list[tuple[int, int]]]:
        rank, ranks = get_dist_info()
        sampler = getattr(self.loader.batch_sampler, 'sampler', self.loader.sampler)
        if hasattr(sampler, '_indices_of_rank'):
            # InfiniteSampler is one running generator, which the classic loop's workers have begun to read.
            sampler.indices = sampler._indices_of_rank()
        number = 0
        for epoch in count():
            if epoch and hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            begin = number
            for batch in self.loader.batch_sampler:
                yield [((number + place) * ranks + rank, index) for place, index in enumerate(batch)]
                number += len(batch)
            if number == begin:
                raise ValueError('train_dataloader gives no batch: the data set is smaller than a batch and drop_last is set.')


class SeededBatches:
    """What ``IterBasedTrainLoop`` iterates: a loader's batches from an iteration on, without end.

    Args:
        loader: The loop's loader; its data set, sampler and workers are used.
        seed: Seed of the augmentations.
        start: Iterations that were done before.
        skipped: How many of the first calls of ``next`` only skip: a loop that is resumed discards what they return.
    """

    def __init__(self, loader: DataLoader, seed: int, start: int, skipped: int = 0) -> None:
        self.loader, self.seed, self.start, self.skipped = loader, seed, start, skipped
        self.batches: Iterator | None = None

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self.skipped:
            self.skipped -= 1
            return None
        if self.batches is None:
            self.batches = iter(seeded_loader(self.loader, self.seed, self.start))
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """Do nothing: the batches begin at ``start``."""


def seeded_loader(loader: DataLoader, seed: int, start: int) -> DataLoader:
    """A loader with the same data set, order and workers, whose samples are seeded and which begins at batch ``start``."""
    same = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'multiprocessing_context', 'generator')
    options = {name: getattr(loader, name) for name in same}
    if loader.num_workers:
        options.update(prefetch_factor=loader.prefetch_factor)
    return DataLoader(SeededDataset(loader.dataset, seed), batch_sampler=NumberedBatches(loader, start), **options)
