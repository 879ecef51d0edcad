"""A sampler whose indices tell the epoch."""

import itertools
from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class EpochIndexSampler(Sampler):
    """Sampler that tells a data set the epoch: ``epoch * N + p``, p from a permutation of 0..N-1 in each epoch, without end.

    It is for data sets that decide anew in every epoch, such as ``RealSyntheticMix``, and for loops that count
    iterations. All ranks see one stream and take every world-size-th index of it. The permutation of an epoch depends on
    (seed, epoch) alone, so the position of a resumed run is found without replaying the stream.

    Args:
        dataset: anything with a length N.
        shuffle: permute each epoch; False keeps the order 0..N-1.
        seed: seed, 0 or more; None draws one and shares it between the ranks.

    Raises:
        ValueError: the data set is empty.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        if len(dataset) == 0:
            raise ValueError('EpochIndexSampler: the data set is empty.')
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def _stream(self, position: int) -> Iterator[int]:
        """The indices of all ranks from a position on."""
        first, offset = divmod(position, self.size)
        for epoch in itertools.count(first):
            if self.shuffle:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            else:
                order = np.arange(self.size)
            yield from (epoch * self.size + order[offset:]).tolist()
            offset = 0

    def __iter__(self) -> Iterator[int]:
        stream = self._stream(self.start * self.world_size)
        return itertools.islice(stream, self.rank, None, self.world_size)

    def skip(self, num_samples: int) -> None:
        """Start the next iteration after ``num_samples`` indices of this rank, for a resumed run.

        Raises:
            ValueError: ``num_samples`` is negative.
        """
        if num_samples < 0:
            raise ValueError(f'EpochIndexSampler: num_samples must be 0 or more, got {num_samples}.')
        self.start = num_samples

    def __len__(self) -> int:
        return self.size
