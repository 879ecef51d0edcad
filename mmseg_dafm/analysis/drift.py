"""How far features and weights have moved."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg_dafm.daft.equations import relative, relative_change

MEASURES = ('pooled_cosine', 'pixel_cosine', 'l2', 'relative_l2')


def pooled(features: Tensor) -> Tensor:
    """Feature vectors of whole images: the mean over all positions.

    Args:
        features: ``(B, C, ...)``; ``(B, C)`` is returned as it is.

    Returns:
        ``(B, C)`` in float64.
    """
    return features.double().flatten(2).mean(2) if features.dim() > 2 else features.double()


def cosine(x: Tensor, y: Tensor, dim: int = 1) -> Tensor:
    """Cosine similarity in ``[-1, 1]`` along ``dim``, in float64.

    Two zero vectors count as equal (1); a zero vector and another one count as unrelated (0).
    """
    x, y = x.double(), y.double()
    # scaled first, so that the squares of small features do not vanish
    x_norm, y_norm = x.norm(dim=dim), y.norm(dim=dim)
    value = (_unit(x, x_norm, dim) * _unit(y, y_norm, dim)).sum(dim).clamp(-1, 1)
    return torch.where((x_norm == 0) & (y_norm == 0), torch.ones_like(value), value)


def _unit(x: Tensor, norm: Tensor, dim: int) -> Tensor:
    return x / torch.where(norm == 0, torch.ones_like(norm), norm).unsqueeze(dim)


def image_drift(reference: Tensor, tuned: Tensor) -> dict[str, Tensor]:
    """Compare the features of a batch of images.

    The pooled vector hides what changes in one place and is made good in another; the mean cosine over positions shows it.

    Args:
        reference: ``(B, C, ...)``, f(x) of the network before tuning.
        tuned: The same shape, f'(x) of the tuned network.

    Returns:
        ``(B,)`` each, in float64: ``pooled_cosine`` and ``pixel_cosine`` in ``[-1, 1]``; ``l2`` = ``||p' - p||`` and
        ``relative_l2`` = ``||p' - p|| / ||p||`` of the pooled vectors (nan where ``p = 0`` and ``p'`` is not).

    Raises:
        ValueError: If the shapes differ, or there is no channel dimension.

    Source: DAFT, figure 1. Deviation: the paper's networks end in the pooled vector; the mean over positions is ours.
    """
    _check(reference, tuned)
    before, after = pooled(reference), pooled(tuned)
    distance, norm = (after - before).norm(dim=1), before.norm(dim=1)
    return {
        'pooled_cosine': cosine(before, after),
        'pixel_cosine': cosine(reference, tuned).flatten(1).mean(1) if reference.dim() > 2 else cosine(before, after),
        'l2': distance,
        'relative_l2': relative(distance, norm),
    }


def class_cosine(
    reference: Tensor, tuned: Tensor, labels: Tensor, num_classes: int, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    """Sum and number of the positions' cosines within each class; sums of several images add up.

    Args:
        reference: ``(B, C, H, W)``.
        tuned: The same shape.
        labels: ``(B, H', W')``, class ids; taken at the nearest pixel of each position.
        num_classes: Number of classes N; ids from N on count nowhere.
        ignore_index: Id that counts nowhere.

    Returns:
        ``(N,)`` sums of cosines in float64, and ``(N,)`` counts.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check(reference, tuned)
    if reference.dim() != 4 or labels.dim() != 3 or len(labels) != len(reference):
        shapes = f'{tuple(reference.shape)} and {tuple(labels.shape)}'
        raise ValueError(f"cosines by class need features (B, C, H, W) and labels (B, H', W'), got {shapes}.")
    values = cosine(reference, tuned).flatten()
    nearest = F.interpolate(labels[:, None].float(), reference.shape[2:], mode='nearest-exact').long().flatten()
    counted = (nearest != ignore_index) & (nearest >= 0) & (nearest < num_classes)
    index, values = nearest[counted], values[counted]
    sums = values.new_zeros(num_classes).index_add(0, index, values)
    return sums, torch.bincount(index, minlength=num_classes)


def _check(reference: Tensor, tuned: Tensor) -> None:
    if reference.shape != tuned.shape:
        raise ValueError(f'features of shape {tuple(reference.shape)} and {tuple(tuned.shape)} cannot be compared.')
    if reference.dim() < 2:
        raise ValueError(f'features need a batch and a channel dimension, got shape {tuple(reference.shape)}.')


KINDS = ('conv', 'gamma', 'beta', 'mean', 'variance')
# counts of batches are no weights
SKIPPED = 'num_batches_tracked'


def tensor_kind(name: str, state: Mapping[str, Tensor]) -> str:
    """What a tensor is: one of :data:`KINDS`, or ``'other'`` (linear layers, biases, PReLU, layer norms).

    A layer with running statistics is a batch norm; other weights of three or more dimensions are convolutions.
    """
    layer, _, leaf = name.rpartition('.')
    if leaf in ('running_mean', 'running_var'):
        return {'running_mean': 'mean', 'running_var': 'variance'}[leaf]
    if f'{layer}.running_mean' in state:
        return {'weight': 'gamma', 'bias': 'beta'}.get(leaf, 'other')
    return 'conv' if leaf == 'weight' and state[name].dim() > 2 else 'other'


def weight_changes(
    pretrained: Mapping[str, Tensor], tuned: Mapping[str, Tensor], converted: Mapping[str, Tensor] | None = None
) -> tuple[list[dict], list[str]]:
    """Relative change of every tensor, against the pre-trained weights and against those that training began with.

    The paper takes W before conversion for FT and after it for DAFT, so that the step of the conversion itself is not
    counted; both are returned. Summarise by the median over layers: a mean is dominated by a few layers whose norm is
    tiny.

    Args:
        pretrained: State dict before conversion and training.
        tuned: State dict after training.
        converted: State dict after conversion, before training; None if nothing was converted: training then began with
            ``pretrained``.

    Returns:
        Rows with ``tensor``, ``layer``, ``kind``, ``norm`` (of the pre-trained tensor), ``before_conversion`` and
        ``after_conversion`` (relative changes, nan where the norm is zero), in the order of the tuned network; and the
        names of the tensors that were left out, because they are absent elsewhere or of another shape there.

    Source: DAFT, eq. 6 and figure 2.
    """
    start = pretrained if converted is None else converted
    rows, left_out = [], []
    for name, after in tuned.items():
        if name.endswith(SKIPPED) or not after.is_floating_point():
            continue
        before, began = pretrained.get(name), start.get(name)
        if before is None or began is None or before.shape != after.shape or began.shape != after.shape:
            left_out.append(name)
            continue
        row = dict(tensor=name, layer=name.rpartition('.')[0], kind=tensor_kind(name, tuned), norm=before.double().norm().item())
        row['before_conversion'] = relative_change(before, after)
        row['after_conversion'] = relative_change(began, after)
        rows.append(row)
    return rows, left_out
