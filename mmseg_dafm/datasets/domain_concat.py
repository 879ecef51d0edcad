"""Several data sets one after the other, with one pipeline for all."""

from collections.abc import Mapping, Sequence

from mmengine.dataset import ConcatDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class DomainConcatDataset(ConcatDataset):
    """mmengine's ``ConcatDataset`` with the pipeline in the place where mmseg's tools look for it.

    ``MMSegInferencer`` reads ``test_dataloader.dataset.pipeline`` and mmseg's ``tools/test.py --tta`` replaces it; a plain
    ``ConcatDataset`` has no such key. The length is the sum of the sets' lengths, the order is theirs, and each sample
    keeps the domain that its set gives it.

    Args:
        datasets: configs of the sets; all have the same classes. A ``pipeline`` of their own is replaced.
        pipeline: transforms of every set.
        **kwargs: arguments of :class:`mmengine.dataset.ConcatDataset`.

    Raises:
        ValueError: ``datasets`` is empty, or mmengine finds that the sets' meta information differs.
        TypeError: one of ``datasets`` is no config.
    """

    def __init__(self, datasets: Sequence[Mapping], pipeline: Sequence[Mapping], **kwargs) -> None:
        if not datasets:
            raise ValueError('DomainConcatDataset: datasets is empty; give one config per domain or data set.')
        for index, dataset in enumerate(datasets):
            if not isinstance(dataset, Mapping):
                kind = type(dataset).__name__
                raise TypeError(f'DomainConcatDataset: datasets[{index}] must be a config, a dict with type, got {kind}.')
        super().__init__([dict(dataset, pipeline=pipeline) for dataset in datasets], **kwargs)
