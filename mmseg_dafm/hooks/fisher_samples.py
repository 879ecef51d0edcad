"""Training images for the estimation of Fisher information, the same for every number of processes and workers."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmseg_dafm.core.random_state import seed_all
from mmseg_dafm.datasets.target_batches import whole_epoch
from mmseg_dafm.fishertune.sharing import Group


class SeededSamples(Dataset):
    """Samples whose random augmentation follows from their number.

    Args:
        dataset: A training set.
        seed: Of the order and of the augmentations.
        part: (i, n): the i-th of n disjoint parts of the set.

    Raises:
        ValueError: If the part is empty.
    """

    def __init__(self, dataset: Dataset, seed: int, part: tuple[int, int] = (0, 1)) -> None:
        self.dataset, self.seed = dataset, seed
        self.order = np.random.default_rng([seed, len(dataset)]).permutation(len(dataset)).tolist()[part[0] :: part[1]]
        if not self.order:
            raise ValueError(f'the training set of {len(dataset)} images has no part {part[0]} of {part[1]}.')

    def __getitem__(self, number: int) -> Any:
        seed_all(self.seed, number)
        # beyond one epoch the images come again, with other augmentations
        return self.dataset[self.order[number % len(self.order)]]


def sample_source(
    source: dict | DataLoader, seed: int, part: tuple[int, int] = (0, 1), wanted: Mapping[str, int] | None = None
) -> Callable[[Sequence[Group]], Iterable[Sequence[Any]]]:
    """Make the source of samples that :class:`mmseg_dafm.fishertune.estimate.DomainFisherEstimator` reads.

    Args:
        source: A dataloader config, or a loader that was built already, whose dataset and workers are then used.
        seed: Of the order and of the augmentations.
        part: (i, n): the i-th of n disjoint parts of the set.
        wanted: Options and their numbers of images; more than there are is a warning.
    """
    if isinstance(source, DataLoader):
        dataset, workers = source.dataset, dict(num_workers=source.num_workers, worker_init_fn=source.worker_init_fn)
    else:
        built = Runner.build_dataloader(whole_epoch(source, shuffle=False))
        dataset, workers = built.dataset, dict(num_workers=built.num_workers, worker_init_fn=built.worker_init_fn)
    samples = SeededSamples(dataset, seed, part)
    for name, count in (wanted or {}).items():
        if count > len(samples.order):
            print_log(
                f'estimation.{name}={count}, but there are {len(samples.order)} training images: images come again, with other '
                'augmentations only. The estimate holds less than its number of images says.', 'current', logging.WARNING,
            )  # fmt: skip

    def read(groups: Sequence[Group]) -> Iterable[Sequence[Any]]:
        return DataLoader(samples, batch_sampler=[ids for _, ids in groups], collate_fn=list, **workers)

    return read
