"""RealSyntheticMix: real training images and synthetic variants of them in a fixed ratio."""

import logging
import os
import os.path as osp
from collections.abc import Mapping, Sequence

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dist import broadcast
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from mmseg_dafm.core.image_files import refuse_damaged
from mmseg_dafm.datasets.synthetic_variants import describe_coverage, find_variants, named_roots


class MatchLabelSize(BaseTransform):
    """Resize a synthetic ``img`` (H', W', 3) to the height and width of ``gt_seg_map`` (H, W); real images pass unchanged.

    ``RealSyntheticMix`` puts it right after the labels are loaded, before anything crops: generators often work at
    half the camera's resolution, and the augmentation must treat real and synthetic samples alike.
    """

    def transform(self, results: dict) -> dict:
        """Resize a synthetic image where its size differs from the label's."""
        height, width = results['gt_seg_map'].shape[:2]
        if results.get('synthetic') and results['img'].shape[:2] != (height, width):
            results['img'] = mmcv.imresize(results['img'], (width, height), interpolation='bilinear')
            results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


# Below this share of layouts with synthetic images, a few images stand for all.
USUAL_SHARE = 0.9


def seed_of_run() -> int:
    """The seed that mmengine's runner gave this process (``randomness.seed``), that of rank 0 on all ranks.

    Data sets are built in the main process, so workers, whose seeds differ, get it with the data set.
    """
    # set by torch.manual_seed; numbers that were drawn since do not change it
    seed = torch.tensor(torch.initial_seed() % 2**62)
    # with diff_rank_seed, each rank has its own
    broadcast(seed, src=0)
    return int(seed)


@DATASETS.register_module()
class RealSyntheticMix(Dataset):
    """Real and synthetic images of the same layouts; a sample is synthetic with probability ``ratio``, whatever the set sizes.

    A synthetic image shares the path below its folder, and so the label, of a real one (:func:`find_variants`). It is brought
    to the size of that label before any augmentation. The set is as long as the real one. An index ``epoch * N + i`` (see
    ``EpochIndexSampler``) draws layout ``i`` from a stream of its own for (seed, epoch, i), so the choice depends neither on
    workers nor on ranks, and changes from epoch to epoch; plain indices below N always give the choice of epoch 0. A layout
    without a synthetic variant is replaced by a random one that has one, which keeps the ratio exact.

    Args:
        real: config of (or) a :class:`mmseg.datasets.BaseSegDataset`; its pipeline serves both kinds of images.
        synthetic_roots: domain -> folder, or folders named after their domains, searched with sub-folders.
        ratio: probability of a synthetic sample, 0 to 1; at 0 the folders are not read.
        seed: seed of the choice, 0 or more; None takes the seed of the run (``randomness.seed``), the same on all ranks and in
            all workers. A run that is to be resumed with the same choices needs one of the two.
        img_suffix: what a synthetic file name has after the stem of the real one.
        min_share: least share of the layouts that must have a synthetic image, 0 to 1. Below 0.9 there is a warning anyway.

    Raises:
        ValueError: ``ratio`` or ``min_share`` is out of range, a folder is missing, nothing matches or a match is ambiguous,
            fewer layouts than ``min_share`` have a synthetic image, or the pipeline loads no labels.
        TypeError: ``real`` is no data set of files.

    Source: Domino, table 3. Deviation: the paper does not say whether its ratios are of samples or of set sizes; here
    they are of samples.
    """

    def __init__(
        self,
        real: Mapping | BaseSegDataset,
        synthetic_roots: str | Sequence[str] | Mapping[str, str],
        ratio: float = 0.5,
        seed: int | None = None,
        img_suffix: str = '.png',
        min_share: float = 0.0,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f'RealSyntheticMix: ratio must lie between 0 and 1, got {ratio}.')
        if not 0 <= min_share <= 1:
            raise ValueError(f'RealSyntheticMix: min_share must lie between 0 and 1, got {min_share}.')
        if seed is not None and seed < 0:
            raise ValueError(f'RealSyntheticMix: seed must be 0 or more, got {seed}.')
        self.real = DATASETS.build(real) if isinstance(real, Mapping) else real
        if not isinstance(self.real, BaseSegDataset):
            raise TypeError(f'RealSyntheticMix: real must be a BaseSegDataset, got {type(self.real).__name__}.')
        self.ratio, self.seed = ratio, seed_of_run() if seed is None else seed
        self.min_share = min_share
        self.roots = named_roots(synthetic_roots)
        self.img_suffix = img_suffix
        self.variants: dict[int, list[tuple[str, str]]] = {}
        self.with_variants = np.zeros(0, np.int64)
        self._match_sizes()
        self._fully_initialized = False
        self.full_init()

    def _match_sizes(self) -> None:
        transforms = self.real.pipeline.transforms
        places = [i for i, transform in enumerate(transforms) if isinstance(transform, LoadAnnotations)]
        if not places:
            raise ValueError('RealSyntheticMix: the pipeline of real has no LoadAnnotations, so no label can be shared.')
        transforms.insert(places[0] + 1, MatchLabelSize())

    def full_init(self) -> None:
        """List the real images and find the synthetic ones that belong to them."""
        if self._fully_initialized:
            return
        self.real.full_init()
        if self.ratio > 0:
            folder, cut = self.real.data_prefix['img_path'], len(self.real.img_suffix)
            paths = [self.real.get_data_info(i)['img_path'][:-cut] for i in range(len(self.real))]
            names = [osp.relpath(path, folder).replace(os.sep, '/') for path in paths]
            self.variants = find_variants(names, self.roots, self.img_suffix)
            self.with_variants = np.array(sorted(self.variants), np.int64)
            self._check_coverage()
        self._fully_initialized = True

    def _check_coverage(self) -> None:
        """Say how many layouts have synthetic images, and warn or refuse where they are few."""
        share, sentence = describe_coverage(self.variants, list(self.roots), len(self.real), self.ratio)
        if share < self.min_share:
            raise ValueError(f'{sentence}: {share:.1%} of the layouts, below min_share={self.min_share:g}; make the others.')
        few = share < USUAL_SHARE
        hint = f': {share:.1%} of the layouts, so the same few images come again and again; make the missing ones' * few
        print_log(sentence + hint, 'current', logging.WARNING if few else logging.INFO)

    @property
    def metainfo(self) -> dict:
        """Meta information of the real set."""
        return self.real.metainfo

    def __len__(self) -> int:
        return len(self.real)

    def get_data_info(self, index: int) -> dict:
        """Data info of the image that an index stands for.

        Args:
            index: ``epoch * N + i``, 0 or more.

        Raises:
            IndexError: ``index`` is negative.
        """
        if index < 0:
            raise IndexError(f'RealSyntheticMix: the index must be 0 or more, got {index}.')
        epoch, i = divmod(int(index), len(self))
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch, i])))
        if rng.random() >= self.ratio:
            return self.real.get_data_info(i)
        if i not in self.variants:
            i = int(rng.choice(self.with_variants))
        variants = self.variants[i]
        domain, path = variants[rng.integers(len(variants))]
        return {**self.real.get_data_info(i), 'img_path': path, 'domain': domain, 'synthetic': True}

    def __getitem__(self, index: int) -> dict:
        info = self.get_data_info(index)
        files = (info['img_path'], info.get('seg_map_path'))
        refuse_damaged(files)
        try:
            data = self.real.pipeline(info)
        except Exception:
            refuse_damaged(files, thoroughly=True)
            raise
        if data is None:
            raise RuntimeError(f'RealSyntheticMix: the pipeline dropped sample {index}; use transforms that keep all samples.')
        return data
