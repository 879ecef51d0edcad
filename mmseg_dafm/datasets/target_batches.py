"""A data loader of our own over the training set, and the forward pass that batch norm is estimated with."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from mmengine.dataset import ClassBalancedDataset, DefaultSampler, RepeatDataset
from mmengine.runner import Runner
from mmseg.datasets import MultiImageMixDataset
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from mmseg_dafm.core.tool_output import track

FORWARDS = ('auto', 'extract_feat', 'tensor', 'loss')
# parts that extract_feat runs; everything else needs the heads to run, too
FEATURE_PARTS = ('backbone', 'neck')


def distinct_images(dataset: Dataset) -> list[int]:
    """Indices that give every image of a data set once, however often its wrappers repeat it.

    Looked through are mmengine's RepeatDataset, ClassBalancedDataset and ConcatDataset, and mmseg's MultiImageMixDataset, in any
    nesting.
    """
    if isinstance(dataset, RepeatDataset | MultiImageMixDataset):
        # both count the images of the set inside from 0 on
        return distinct_images(dataset.dataset)
    if isinstance(dataset, ClassBalancedDataset):
        first = {inner: index for index, inner in reversed(list(enumerate(dataset.repeat_indices)))}
        return [first[inner] for inner in distinct_images(dataset.dataset) if inner in first]
    if isinstance(dataset, ConcatDataset):
        starts = [0, *dataset.cumulative_sizes]
        parts = zip(starts, dataset.datasets, strict=False)
        return [start + index for start, part in parts for index in distinct_images(part)]
    return list(range(len(dataset)))


class DistinctSampler(DefaultSampler):
    """An epoch of the distinct images of a data set, shared out among ranks; an epoch of a RepeatDataset is many of them.

    Args:
        dataset: As the loader has it.
        **options: Of mmengine's DefaultSampler, such as ``shuffle`` and ``seed``.
    """

    def __init__(self, dataset: Dataset, **options) -> None:
        self.indices = distinct_images(dataset)
        super().__init__(self.indices, **options)

    def __iter__(self) -> Iterator[int]:
        return (self.indices[number] for number in super().__iter__())


def build_target_loader(source: dict | DataLoader, seed: int) -> DataLoader:
    """Build a loader of the training set that shares nothing with the loader of the training loop.

    Its batches have the size and the pipeline of training; an epoch is every distinct image once, shuffled, the smaller last
    batch left out. Repetitions do not count, be they of a RepeatDataset or of a sampler.
    (mmengine's InfiniteSampler is one generator: a second iterator over the training loop's own loader ends the first.)

    Args:
        source: A dataloader config, or a loader that was built already, whose dataset is then shared.
        seed: Of the order of images, equal on all ranks.

    Raises:
        ValueError: If the training set has fewer images than one batch per rank.
    """
    if isinstance(source, DataLoader):
        sampler = DistinctSampler(source.dataset, shuffle=True, seed=seed)
        workers = dict(num_workers=source.num_workers, collate_fn=source.collate_fn, worker_init_fn=source.worker_init_fn)
        size = source.batch_size or source.batch_sampler.batch_size
        loader = DataLoader(source.dataset, batch_size=size, sampler=sampler, drop_last=True, **workers)
    else:
        loader = Runner.build_dataloader(whole_epoch(source, shuffle=True, drop_last=True), seed=seed)
    if not len(loader):
        raise ValueError(
            f'the training set gives no full batch: {len(loader.sampler)} images per rank, batch_size={loader.batch_size}; '
            'lower train_dataloader.batch_size.'
        )
    return loader


def whole_epoch(source: dict, shuffle: bool, **changes) -> dict:
    """A copy of a training loader's config that gives every distinct image once, whatever the training samples."""
    cfg = copy.deepcopy(source)
    for key in ('num_batch_per_epoch', 'batch_sampler'):
        cfg.pop(key, None)
    cfg.update(sampler=dict(type=DistinctSampler, shuffle=shuffle), persistent_workers=False, **changes)
    return cfg


def model_forward(model: nn.Module, modules: Sequence[str] | None, kind: str = 'auto') -> Callable[[Any], Any]:
    """Preprocess a batch as in training and run the model on it.

    Training's preprocessing pads to the crop size, and the padding is part of what batch norm sees.

    Args:
        model: An mmengine model (unwrapped).
        modules: The parts that must run.
        kind: ``'extract_feat'`` (backbone and neck), ``'tensor'``, ``'loss'`` (all heads), or ``'auto'``: the first that
            runs the parts, and that the model has.

    Raises:
        ValueError: Unknown kind, or no ``extract_feat``.
    """
    if kind not in FORWARDS:
        raise ValueError(f'forward={kind!r} is unknown: use one of {FORWARDS}.')
    features_do = modules is not None and all(part.split('.')[0] in FEATURE_PARTS for part in modules)
    if kind == 'auto':
        segmentor = hasattr(model, 'extract_feat')
        kind = 'extract_feat' if segmentor and features_do and not takes_domain(model) else 'loss' if segmentor else 'tensor'
    if kind == 'extract_feat' and not hasattr(model, 'extract_feat'):
        raise ValueError(f"forward='extract_feat': {type(model).__name__} has no such method; use 'tensor' or 'loss'.")

    def forward(batch: Any) -> Any:
        data = model.data_preprocessor(batch, True)
        if kind == 'extract_feat':
            return model.extract_feat(data['inputs'] if isinstance(data, dict) else data[0])
        return model(**data, mode=kind) if isinstance(data, dict) else model(*data, mode=kind)

    return forward


def takes_domain(model: nn.Module) -> bool:
    """Whether the features depend on Domino's W, which ``extract_feat`` alone does not compute."""
    return getattr(model, 'domain_embedding', None) is not None


class TrackedBatches:
    """Batches of a loader that report their progress while they are iterated.

    Args:
        loader: Anything with a length.
        limit: Number of batches that will be taken at most; None for all.
        say: Takes a line for the log; None reports nothing, as on all ranks but the first.
    """

    def __init__(self, loader: Iterable, limit: int | None, say: Callable[[str], None] | None) -> None:
        self.loader, self.say = loader, say
        self.total = len(loader) if limit is None else min(limit, len(loader))

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator:
        batches = islice(self.loader, self.total)
        if self.say is None:
            return batches
        return track(batches, self.total, 'batch norm statistics', self.say)
