"""One loss per image from an mmengine model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from torch import Tensor, nn

from mmseg_dafm.fisher.labels import SOURCES, draw_labels


@contextmanager
def _of_this_process(model: nn.Module) -> Iterator[None]:
    """Losses that average over processes leave it inside: an image's loss has nothing to do with other processes'."""
    joined = [module for module in model.modules() if getattr(module, 'average_over_ranks', False)]
    for module in joined:
        module.average_over_ranks = False
    try:
        yield
    finally:
        for module in joined:
            module.average_over_ranks = True


class SampleLosses:
    """The training loss of each image of a batch, as if it were alone.

    Segmentors run their backbone on the whole batch and their heads on one image at a time: losses that join the images of a
    batch (mask classification divides by the batch's number of masks) stay those of single images, and the backbone's share,
    nearly all of the time, is batched.

    Args:
        model: An mmengine model (unwrapped).
        label_source: ``'gt'``: annotations (empirical Fisher); ``'sample'``: labels drawn from the model's own prediction (true
            Fisher); ``'argmax'``: its prediction. Ignored pixels stay ignored.
        amp: Type of mixed precision, None for float32. Squares are always taken in float32.

    Raises:
        ValueError: Unknown label source, or one that the model cannot give.
    """

    def __init__(self, model: nn.Module, label_source: str = 'gt', amp: torch.dtype | None = None) -> None:
        if label_source not in SOURCES:
            raise ValueError(f'label_source={label_source!r} is unknown: use one of {SOURCES}.')
        if label_source != 'gt' and not hasattr(model, 'encode_decode'):
            raise ValueError(f'label_source={label_source!r} needs a segmentor, got {type(model).__name__}: use "gt".')
        self.model, self.label_source, self.amp = model, label_source, amp

    def __call__(self, samples: Sequence[Any], seeds: Sequence[int]) -> Tensor:
        """Losses (B,)."""
        device = next(self.model.parameters()).device
        # mmengine's own examples give tuples of tensors, mmseg and its kin dicts
        collate = pseudo_collate if isinstance(samples[0], dict) else default_collate
        # the backbones at hand draw nothing in test mode; one that did would draw the same for x and x'
        torch.manual_seed(seeds[0])
        with _of_this_process(self.model), torch.autocast(device.type, dtype=self.amp, enabled=self.amp is not None):
            data = self.model.data_preprocessor(collate(list(samples)), True)
            if isinstance(data, dict) and self.label_source != 'gt':
                self._relabel(data['inputs'], data['data_samples'], seeds)
            # points that a loss draws are the same for x and x'
            found = self._per_image(data, len(samples), lambda i: torch.manual_seed(seeds[i]))
        return torch.stack([self.model.parse_losses(losses)[0] for losses in found])

    def _per_image(self, data: Any, count: int, before: Callable[[int], None]) -> list[dict]:
        """Dictionaries of losses."""
        model = self.model
        if isinstance(data, dict) and hasattr(model, 'loss_per_image'):
            return model.loss_per_image(data['inputs'], data['data_samples'], before)
        if isinstance(data, dict) and isinstance(model, EncoderDecoder) and type(model).loss is EncoderDecoder.loss:
            features, found = model.extract_feat(data['inputs']), []
            for i in range(count):
                before(i)
                own, sample = tuple(feature[i : i + 1] for feature in features), data['data_samples'][i : i + 1]
                losses = dict(model._decode_head_forward_train(own, sample))
                if model.with_auxiliary_head:
                    losses.update(model._auxiliary_head_forward_train(own, sample))
                found.append(losses)
            return found
        # a model with a way of its own of joining its parts runs on one image at a time
        found = []
        for i in range(count):
            before(i)
            if isinstance(data, dict):
                found.append(model(**{key: part[i : i + 1] for key, part in data.items()}, mode='loss'))
            else:
                found.append(model(*(part[i : i + 1] for part in data), mode='loss'))
        return found

    @torch.no_grad()
    def _relabel(self, inputs: Tensor, annotated: list, seeds: Sequence[int]) -> None:
        """Put the model's own labels into the annotations."""
        metas = [sample.metainfo for sample in annotated]
        logits = self.model.encode_decode(inputs, metas).float()
        if logits.shape[1] == 1:
            raise ValueError(f'label_source={self.label_source!r} is not defined for a head with out_channels=1: use "gt".')
        scores = logits if getattr(self.model.decode_head, 'predicts_scores', False) else logits.softmax(1)
        labels = scores.argmax(1) if self.label_source == 'argmax' else draw_labels(scores, seeds)
        ignore = getattr(self.model.decode_head, 'ignore_index', 255)
        for sample, drawn in zip(annotated, labels, strict=True):
            given = sample.gt_sem_seg.data
            sample.gt_sem_seg = PixelData(data=torch.where(given == ignore, given, drawn[None].to(given.dtype)))
