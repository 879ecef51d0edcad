"""Target statistics of every batch norm layer in one pass in test mode."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dafm.core.eager import run_eagerly
from mmseg_dafm.core.processes import in_step, world_size
from mmseg_dafm.daft.equations import batch_moments, join_estimators, join_moments, make_estimator
from mmseg_dafm.daft.layers import is_sync_batch_norm, preserved_modes, running_statistics


class Estimate(NamedTuple):
    """Target statistics and what the pass left behind.

    Attributes:
        statistics: name -> (M_t, S_t), ``(C,)`` each, float64; only of layers that saw data.
        batches: name -> number of batches that the layer saw, over all ranks.
        num_batches: number of batches that this rank's model saw.
        last: the last batch and the model's output for it.
        images: the most images that a layer of this rank saw in one batch, over all ranks for SyncBN with ``estimator='batch'``.
        left_out: name -> calls that had one value per channel and do not count, over all ranks; only where there are any.
    """

    statistics: dict[str, tuple[Tensor, Tensor]]
    batches: dict[str, int]
    num_batches: int
    last: tuple[Any, Any]
    images: int
    left_out: dict[str, int]


def first_input(model: nn.Module) -> Callable[[Any], Any]:
    """Call a plain torch model on a batch, or on the first element of a tuple or list (images, labels)."""
    device = next(model.parameters()).device

    def forward(batch: Any) -> Any:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        return model(images.to(device))

    return forward


def precision(device: torch.device, amp: bool) -> AbstractContextManager:
    """The autocast that is active outside with ``amp``, else none."""
    return nullcontext() if amp else torch.autocast(device.type, enabled=False)


def estimate_statistics(
    model: nn.Module,
    batches: Iterable,
    layers: Mapping[str, _BatchNorm],
    estimator: str = 'batch',
    forward: Callable[[Any], Any] | None = None,
    num_batches: int | None = None,
    amp: bool = False,
    weigh: str = 'values',
) -> Estimate:
    """Estimate M_t and S_t of ``layers`` in one pass over target batches.

    In test mode the input of each layer depends on the source's parameters and statistics alone, so one pass serves all
    layers, and converting them afterwards changes nothing about what was estimated. Train mode would normalise each
    layer's input by the batch and estimate another network. Weights, buffers, train/eval flags and hooks are left as
    they were found; nothing but the accumulators (float64, mean and variance per channel) is kept. Compiled models run
    eagerly here, for compiled code does not call the hooks that look at the layers' inputs.

    With a process group, every rank passes its own batches and all ranks get the same result: SyncBN layers estimate
    from the global batch, as in training, and ordinary ones from each rank's own.

    Args:
        model: The network.
        batches: Target training batches, of the size and with the augmentation of training.
        layers: name -> layer, from :func:`mmseg_dafm.daft.select_layers`.
        estimator: ``'batch'`` (equation 3) or ``'pooled'``.
        forward: Runs the model on a batch; None calls it on the batch, or on the first element of a tuple.
        num_batches: How many batches to take; None takes all.
        amp: Run under the autocast that is active outside; False computes in the weights' own precision.
        weigh: What a call of a layer counts: its ``'values'`` per channel, or 1 (``'calls'``).

    Raises:
        ValueError: Unknown estimator or weights, no batches, ranks with unequal numbers of them, a layer that cannot be
            estimated, no layer that saw data, or statistics that are not finite. The model is unchanged.

    Source: DAFT, algorithm 1.
    """
    if num_batches is not None and num_batches < 1:
        raise ValueError(f'num_batches must be at least 1, or None for all, got {num_batches}.')
    device = running_statistics(next(iter(layers.values())))[0].device
    estimators = {name: make_estimator(estimator, weigh) for name in layers}
    synced = {name for name in layers if estimator == 'batch' and is_sync_batch_norm(layers[name]) and world_size() > 1}
    pending: list = []
    images = 0

    def watch(name: str) -> Callable:
        def hook(_, inputs: tuple, named: dict) -> None:
            nonlocal images
            x = inputs[0] if inputs else next(iter(named.values()))
            images = max(images, len(x) * (world_size() if name in synced else 1))
            moments = batch_moments(x)
            if name in synced:
                pending.append((name, moments))
            else:
                estimators[name].add(moments)

        return hook

    forward = forward or first_input(model)
    seen, batch, output = 0, None, None
    handles = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with run_eagerly(), preserved_modes(model), torch.no_grad(), precision(device, amp):
            model.eval()
            for batch in in_step(batches, num_batches, device):
                output = None  # not alive together with the next one
                output = forward(batch)
                joined = join_moments([moments for _, moments in pending])
                for (name, _), moments in zip(pending, joined, strict=True):
                    estimators[name].add(moments)
                pending.clear()
                seen += 1
                if seen == 1 and world_size() == 1:
                    # batches of one image are known by the first one
                    _refuse_single_values(estimators)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ValueError('there were no target batches to estimate the statistics from: the loader is empty.')
    join_estimators(estimators, {name: running_statistics(layer)[0].numel() for name, layer in layers.items()}, device)
    _refuse_single_values(estimators)
    statistics = {name: _result(each, name) for name, each in estimators.items() if each.batches}
    if not statistics:
        raise ValueError(
            f'none of the {len(layers)} batch norm layers saw data in the forward pass: they are not used, or their forward '
            'is bypassed (efficient_conv_bn_eval: switch it off).'
        )
    counts = {name: estimators[name].batches for name in statistics}
    left_out = {name: estimators[name].left_out for name in statistics if estimators[name].left_out}
    return Estimate(statistics, counts, seen, (batch, output), images, left_out)


def _refuse_single_values(estimators: dict) -> None:
    """Refuse layers that never see two values per channel.

    Raises:
        ValueError: Naming the first such layer and the remedies.
    """
    for name, estimator in estimators.items():
        if estimator.left_out and not estimator.batches:
            raise ValueError(
                f'batch norm layer {name} sees one value per channel in a batch, which has no variance: use more images per '
                "batch, or estimator='pooled'."
            )


def _result(estimator, name: str) -> tuple[Tensor, Tensor]:
    """A layer's statistics, checked."""
    try:
        mean, variance = estimator.result()
    except ValueError as error:
        raise ValueError(f'batch norm layer {name} {error}.') from None
    broken = ~(mean.isfinite() & variance.isfinite())
    if broken.any():
        raise ValueError(
            f'the target statistics of batch norm layer {name} are not finite in {int(broken.sum())} of {len(broken)} channels: '
            'the network overflows on this data; check the images, their normalisation and the weights. Nothing was changed.'
        )
    return mean, variance
