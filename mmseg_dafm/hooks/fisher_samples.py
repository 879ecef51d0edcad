"""Samples and per-image losses for Fisher estimation."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmseg_dafm.core.random_state import seed_all
from mmseg_dafm.datasets.target_batches import distinct_images, whole_epoch
from mmseg_dafm.fishertune.squared_gradients import SOURCES, Group, draw_labels
from mmseg_dafm.models.segmentors.wiring import head_losses_per_image


class SeededSamples(Dataset):
    """Samples in a seeded order; a sample's number seeds its augmentation.

    Args:
        dataset: A training set.
        seed: Seeds the order and the augmentations.
        part: (i, n): the i-th of n disjoint parts of the set.

    Raises:
        ValueError: If the part is empty.
    """

    def __init__(self, dataset: Dataset, seed: int, part: tuple[int, int] = (0, 1)) -> None:
        self.dataset, self.seed = dataset, seed
        indices = distinct_images(dataset)
        places = np.random.default_rng([seed, len(indices)]).permutation(len(indices)).tolist()[part[0] :: part[1]]
        self.order = [indices[place] for place in places]
        if not self.order:
            raise ValueError(f'the training set of {len(indices)} images has no part {part[0]} of {part[1]}.')

    def __getitem__(self, number: int) -> Any:
        seed_all(self.seed, number)
        # after one epoch images repeat, with other augmentations
        return self.dataset[self.order[number % len(self.order)]]


def sample_source(
    source: dict | DataLoader, seed: int, part: tuple[int, int] = (0, 1), wanted: Mapping[str, int] | None = None
) -> Callable[[Sequence[Group]], Iterable[Sequence[Any]]]:
    """Make the source of samples that :class:`mmseg_dafm.fishertune.estimate.DomainFisherEstimator` reads.

    Args:
        source: A dataloader config, or a loader, whose dataset and workers are used.
        seed: Seeds the order and the augmentations.
        part: (i, n): the i-th of n disjoint parts of the set.
        wanted: Option -> number of images; a number above the size of the set gives a warning.
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
                f'estimation.{name}={count}, but there are {len(samples.order)} training images. Images repeat with other '
                'augmentations, so the estimate rests on fewer independent images.', 'current', logging.WARNING,
            )  # fmt: skip

    def read(groups: Sequence[Group]) -> Iterable[Sequence[Any]]:
        return DataLoader(samples, batch_sampler=[ids for _, ids in groups], collate_fn=list, **workers)

    return read


@contextmanager
def _of_this_process(model: nn.Module) -> Iterator[None]:
    """Inside, losses are not averaged over processes."""
    joined = [module for module in model.modules() if getattr(module, 'average_over_ranks', False)]
    for module in joined:
        module.average_over_ranks = False
    try:
        yield
    finally:
        for module in joined:
            module.average_over_ranks = True


class SampleLosses:
    """Per-image training losses of a batch, each as in a batch of one.

    A call uses the samples' own labels; :meth:`label` replaces them.

    Segmentors run the backbone on the whole batch and the heads on one image at a time. Some losses mix the images of a batch
    (mask classification divides by the batch's number of masks), so heads need single images. The backbone takes most of the
    time and stays batched.

    Args:
        model: An mmengine model (unwrapped).
        label_source: ``'gt'``: annotations (empirical Fisher); ``'sample'``: labels drawn from the model's own prediction (true
            Fisher); ``'argmax'``: its prediction. Ignored pixels stay ignored.
        amp: Dtype of mixed precision; None: float32. Gradients are always squared in float32.

    Raises:
        ValueError: If the label source is unknown, or needs predictions that the model does not give.
    """

    def __init__(self, model: nn.Module, label_source: str = 'gt', amp: torch.dtype | None = None) -> None:
        if label_source not in SOURCES:
            raise ValueError(f'label_source={label_source!r} is unknown: use one of {SOURCES}.')
        if label_source != 'gt' and not hasattr(model, 'encode_decode'):
            raise ValueError(f'label_source={label_source!r} needs a segmentor, got {type(model).__name__}: use "gt".')
        self.model, self.label_source, self.amp = model, label_source, amp

    def __call__(self, samples: Sequence[Any], seeds: Sequence[int]) -> Tensor:
        """Losses (B,)."""
        with self._passes(seeds[0]):
            # a loss that samples points uses the same points for x and x'
            found = self._per_image(self._preprocess(samples), len(samples), lambda i: torch.manual_seed(seeds[i]))
        return torch.stack([self.model.parse_losses(losses)[0] for losses in found])

    @torch.no_grad()
    def label(self, samples: Sequence[Any], seeds: Sequence[int]) -> Sequence[Any]:
        """Replace the samples' labels by those of ``label_source``, from the model's current predictions.

        Call it once per sample, on clean features and unperturbed weights, so that x and x' share their labels.

        Args:
            samples: Training samples; they are not changed.
            seeds: One per sample.

        Raises:
            ValueError: If the head's output is not a distribution over classes.
        """
        if self.label_source == 'gt':
            return samples
        with self._passes(seeds[0]):
            data = self._preprocess(samples)
            predict = getattr(self.model, 'whole_logits', self.model.encode_decode)
            logits = predict(data['inputs'], [sample.metainfo for sample in data['data_samples']]).float()
        if logits.shape[1] == 1:
            raise ValueError(f'label_source={self.label_source!r} is not defined for a head with out_channels=1: use "gt".')
        scores = logits if getattr(self.model.decode_head, 'predicts_scores', False) else logits.softmax(1)
        labels = scores.argmax(1) if self.label_source == 'argmax' else draw_labels(scores, seeds)
        ignore = getattr(self.model.decode_head, 'ignore_index', 255)
        found = []
        for sample, drawn in zip(samples, labels, strict=True):
            given = sample['data_samples'].gt_sem_seg.data
            # the preprocessor pads at the bottom and on the right
            drawn = drawn[None, : given.shape[-2], : given.shape[-1]].to(given)
            annotated = sample['data_samples'].clone()
            annotated.gt_sem_seg = PixelData(data=torch.where(given == ignore, given, drawn))
            found.append({**sample, 'data_samples': annotated})
        return found

    def _preprocess(self, samples: Sequence[Any]) -> Any:
        # samples are dicts in mmseg, tuples of tensors in plain mmengine models
        collate = pseudo_collate if isinstance(samples[0], dict) else default_collate
        return self.model.data_preprocessor(collate(list(samples)), True)

    @contextmanager
    def _passes(self, seed: int) -> Iterator[None]:
        """Set the precision, and seed backbones that are random in test mode: the same draws for x and x'."""
        torch.manual_seed(seed)
        device = next(self.model.parameters()).device
        with _of_this_process(self.model), torch.autocast(device.type, dtype=self.amp, enabled=self.amp is not None):
            yield

    def _per_image(self, data: Any, count: int, before: Callable[[int], None]) -> list[dict]:
        """One dictionary of losses per image."""
        model = self.model
        if isinstance(data, dict) and hasattr(model, 'loss_per_image'):
            return model.loss_per_image(data['inputs'], data['data_samples'], before)
        if isinstance(data, dict) and isinstance(model, EncoderDecoder) and type(model).loss is EncoderDecoder.loss:
            return head_losses_per_image(model, model.extract_feat(data['inputs']), data['data_samples'], before)
        # a model with its own loss method runs on one image at a time
        found = []
        for i in range(count):
            before(i)
            if isinstance(data, dict):
                found.append(model(**{key: part[i : i + 1] for key, part in data.items()}, mode='loss'))
            else:
                found.append(model(*(part[i : i + 1] for part in data), mode='loss'))
        return found
