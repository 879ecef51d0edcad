"""ExactResumeHook: a resumed run equals an uninterrupted one."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmseg_dafm.core.random_state import seed_all

# Random streams of a run's seed: one for samples, one for iterations.
SAMPLES, ITERATIONS = 1, 2


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seed each iteration and each sample, so that a resumed run equals an uninterrupted one bit for bit.

    - Before iteration i, the generators of torch, CUDA, NumPy and Python are seeded with (seed, rank, i). All dropout and noise
      of the iteration follows from it. So checkpoints need no random state, and a validation in between changes nothing.
    - The augmentation of the n-th sample of the run follows from (seed, n), whichever worker loads it.
    - A resumed run continues at the right sample and does not load the earlier images.

    Runs are equal bit for bit if the device's kernels are deterministic, as on a CPU. The number of workers does not matter;
    the number of ranks does. All three points hold in loops that count iterations (``IterBasedTrainLoop``), only the first in
    loops that count epochs.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Replace the loop's batches by seeded batches that start at the loop's iteration."""
        loop = runner.train_loop
        if can_be_seeded(loop):
            # A resumed loop calls skip_iter where it exists; mmengine 0.10 calls next() once per finished iteration.
            skipped = 0 if hasattr(loop.dataloader_iterator, 'skip_iter') else loop.iter
            loop.dataloader_iterator = SeededBatches(loop.dataloader, runner.seed, loop.iter, skipped)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for this iteration."""
        seed_all(runner.seed, ITERATIONS, runner.rank, runner.iter)


def can_be_seeded(loop: Any) -> bool:
    """Whether a loop counts iterations and reads its data set by index and in batches."""
    loader = getattr(loop, 'dataloader', None)
    if not hasattr(loop, 'dataloader_iterator') or not isinstance(loader, DataLoader):
        return False
    return loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset)


class SeededDataset(Dataset):
    """Data set with keys (number, index): loads sample ``index`` with augmentation seeded by (seed, number)."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        number, index = key
        seed_all(self.seed, SAMPLES, number)
        return self.dataset[index]


class NumberedBatches:
    """A loader's batches as lists of (number, index), epoch after epoch; numbers count the samples of all ranks.

    Args:
        loader: The loader, whose batch sampler is used.
        start: Number of batches to skip at the beginning.
    """

    def __init__(self, loader: DataLoader, start: int) -> None:
        self.loader, self.start = loader, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return islice(self._all(), self.start, None)

    def _all(self) -> Iterator[list[tuple[int, int]]]:
        rank, ranks = get_dist_info()
        sampler = getattr(self.loader.batch_sampler, 'sampler', self.loader.sampler)
        if hasattr(sampler, '_indices_of_rank'):
            # Start InfiniteSampler's generator anew: the classic loop's workers have already read from it.
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
    """Endless iterator for ``IterBasedTrainLoop``: a loader's batches from an iteration on.

    Args:
        loader: The loop's loader; its data set, sampler and workers are used.
        seed: Seed of the augmentations.
        start: Number of iterations done before.
        skipped: Number of first ``next`` calls that return None: a resumed loop discards their results.
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
    """Copy a loader (data set, order, workers) with seeded samples, starting at batch ``start``."""
    same = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'multiprocessing_context', 'generator')
    options = {name: getattr(loader, name) for name in same}
    if loader.num_workers:
        options.update(prefetch_factor=loader.prefetch_factor)
    return DataLoader(SeededDataset(loader.dataset, seed), batch_sampler=NumberedBatches(loader, start), **options)
