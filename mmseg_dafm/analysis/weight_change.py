"""How far the weights and batch norm statistics of a network moved in training.

Source: DAFT, eq. 6 and figure 2.
"""

from collections.abc import Mapping

from torch import Tensor

from mmseg_dafm.analysis.drift import relative

KINDS = ('conv', 'gamma', 'beta', 'mean', 'variance')
# counts of batches are no weights
SKIPPED = 'num_batches_tracked'


def relative_change(before: Tensor, after: Tensor) -> float:
    """``||after - before||_2 / ||before||_2`` of one tensor; 0 if nothing changed, nan if only ``before`` is zero.

    Source: DAFT, eq. 6.

    Raises:
        ValueError: If the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f'tensors of shape {tuple(before.shape)} and {tuple(after.shape)} cannot be compared.')
    before, after = before.double().flatten(), after.double().flatten()
    return relative((after - before).norm(), before.norm()).item()


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
