"""Squared gradients of whole batches: the score of ChildTuning-D."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_dafm.core.processes import sum_over_ranks, world_size
from mmseg_dafm.fishertune.diagonal import Losses, new_accumulators, only_requires_grad, test_mode
from mmseg_dafm.fishertune.sharing import Group, plan


def batch_squares(
    model: nn.Module,
    tensors: Mapping[str, nn.Parameter],
    losses: Losses,
    source: Callable[[Sequence[Group]], Iterable[Sequence[Any]]],
    images: int,
    batch_size: int,
    seed: int = 0,
    watch: Callable[[Iterable, int, str], Iterable] = lambda items, total, title: items,
) -> dict[str, Tensor]:
    r"""Mean over batches of the squared gradient of a batch's mean loss.

    .. math:: s_n = \frac{1}{K} \sum_{k=1}^{K} \Big(\frac{1}{B_k} \sum_{i \in k} \partial_n \ell_i\Big)^2

    This is not the Fisher information, whose squares are per image: the mean over a batch of B images shrinks what varies from
    image to image by B and keeps what they share. With ``batch_size=1`` both are the same.

    Args:
        model: The whole model; its mode and gradient flags are restored.
        tensors: Tensors by name.
        losses: Losses of samples; of true labels here.
        source: Gives the samples of groups.
        images: Number of images.
        batch_size: B; the last batch may be smaller.
        seed: Of what is random in the losses.
        watch: Shows progress.

    Returns:
        Scores of the tensors' shapes, the same on all processes, which share the batches out.

    Raises:
        ValueError: If a loss does not depend on a tensor.

    Source: Child-Tuning (Xu et al., EMNLP 2021), sec. 3.2 and its code. Deviations: the model is in test mode, and gradients are
    not clipped tensor by tensor before they are squared, which would flatten layers against each other.
    """
    rank = torch.distributed.get_rank() if world_size() > 1 else 0
    groups = plan(images, batch_size, 1, rank, world_size())[0]
    found, names = new_accumulators(tensors), list(tensors)
    with test_mode(model), only_requires_grad(model, tensors):
        reader = watch(source(groups), len(groups), 'squared batch gradients')
        for (_, ids), samples in zip(groups, reader, strict=True):
            loss = losses(samples, [seed * 10**7 + i for i in ids]).mean()
            gradients = torch.autograd.grad(loss, [tensors[name] for name in names], allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is None:
                    raise ValueError(f'the loss does not depend on {name}: leave its block out of the candidates.')
                found[name].addcmul_(gradient, gradient)
    sum_over_ranks(found.values())
    batches = -(-images // batch_size)
    return {name: total.div_(batches) for name, total in found.items()}
