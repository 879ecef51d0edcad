"""Batch norm conversion: estimate on the target, rewrite in place, verify."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dafm.core.eager import run_eagerly, uncompiled
from mmseg_dafm.core.processes import add_up, largest, same_everywhere, world_size
from mmseg_dafm.core.random_state import preserved_rng
from mmseg_dafm.daft.equations import convert_parameters, gain_ratio, make_estimator, mix_statistics
from mmseg_dafm.daft.estimate import Estimate, estimate_statistics, first_input, precision
from mmseg_dafm.daft.layers import preserved_modes, running_statistics, select_layers
from mmseg_dafm.daft.report import ConversionReport, layer_report

MODES = ('convert', 'stats')
# largest relative change of the eval-mode output that rounding explains, by the output's precision
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
HALF_TOLERANCE, TF32_TOLERANCE = 5e-2, 2e-3
SINGLE_IMAGES = (
    "each batch holds one image: estimator='batch' leaves the variance between images out, often about a fifth; "
    "use estimator='pooled'"
)


def convert_bn(
    model: nn.Module,
    batches: Iterable,
    modules: Sequence[str] | None = None,
    *,
    mode: str = 'convert',
    estimator: str = 'batch',
    num_batches: int | None = None,
    source_weight: float = 0.0,
    max_ratio: float | None = None,
    forward: Callable[[Any], Any] | None = None,
    verify: bool = True,
    amp: bool = False,
    weigh: str = 'values',
) -> ConversionReport:
    """Give a pretrained network's batch norm layers the statistics of a new domain without changing what it computes.

        M_t = E_B[mu],  S_t = m/(m-1) E_B[sigma^2]                                              (equation 3)
        gamma_t = gamma_s sqrt(S_t + eps) / sqrt(S_s + eps)
        beta_t  = beta_s + gamma_s (M_t - M_s) / sqrt(S_s + eps)                                (equation 5)

    In test mode the converted network is the same function; in train mode, where batch statistics are close to M_t and
    S_t, it is close to that function, too, so that fine-tuning starts from the pretrained features. Two phases: all new
    values are computed first and written then, with ``copy_``, so that an optimizer or DDP that holds the tensors goes
    on holding them; after any error the model is as before. Random number generators are left as they were.

    Args:
        model: A pretrained network, on any device, compiled or not; what is compiled runs eagerly here.
        batches: Target training batches: tensors, or tuples whose first element is the images, or anything that
            ``forward`` takes. A smaller last one does no harm.
        modules: Paths of the parts to convert; None for the whole model. Leave out a fresh head.
        mode: ``'convert'`` (DAFT), or ``'stats'``: statistics alone, which changes the function (AdaBN, precise BN).
        estimator: ``'batch'`` (equation 3), or ``'pooled'`` where a batch holds a single image; a warning says so.
        num_batches: How many batches to take; None takes all.
        source_weight: Weight in [0, 1] of the source statistics in the written ones; 0 as in DAFT.
        max_ratio: Leave alone the channels whose gamma would change by more than this factor up or down (a channel
            that is dead in one domain can reach ``sqrt(S_t / eps)``); None converts all.
        forward: Runs the model on a batch.
        verify: Run the last batch again and compare outputs; one more forward pass.
        amp: Estimate under the autocast that is active outside.
        weigh: What a call of a layer counts in ``'batch'``: its number of ``'values'`` per channel, or 1 (``'calls'``), as in
            the paper and in the running statistics of training. They differ where calls are of unequal size: a smaller last
            batch, a layer that is called at two scales.

    Returns:
        What was done, layer by layer.

    Raises:
        ValueError: Bad arguments, nothing to convert, tensors that another module shares, no data, or new values that are
            not finite or not in the layer's precision.
        RuntimeError: The converted network computes something else (``verify``); it is restored first.

    Source: DAFT (Ha, Jeong, Lee, AAAI 2024), algorithm 1. Deviation: layers that look untrained, are frozen or lack gamma
    and beta are left alone and named in the report.
    """
    if mode not in MODES:
        raise ValueError(f'mode={mode!r} is unknown: use one of {sorted(MODES)}.')
    if not 0 <= source_weight <= 1:
        raise ValueError(f'source_weight must lie in [0, 1], got {source_weight}.')
    if max_ratio is not None and not max_ratio > 1:
        raise ValueError(f'max_ratio must be above 1, or None, got {max_ratio}.')
    make_estimator(estimator, weigh)
    model = uncompiled(model)
    selection = select_layers(model, modules, affine=mode == 'convert')
    forward = forward or first_input(model)
    with preserved_rng():
        found = estimate_statistics(model, batches, selection.layers, estimator, forward, num_batches, amp, weigh)
        layers = {name: selection.layers[name] for name in found.statistics}
        unseen = dict.fromkeys((name for name in selection.layers if name not in layers), 'it saw no data in the forward pass')
        new, reports = {}, {}
        for name, layer in layers.items():
            source = running_statistics(layer)
            target = mix_statistics(source, found.statistics[name], source_weight)
            target, kept = _keep_channels(source, target, layer.eps, max_ratio)
            new[name] = _in_precision(name, layer, _new_values(layer, target, mode))
            left_out = found.left_out.get(name, 0)
            reports[name] = layer_report(source, target, layer.eps, found.batches[name], kept, left_out)
        skipped = {**selection.skipped, **unseen}
        size = world_size()
        report = ConversionReport(mode, estimator, source_weight, found.num_batches, size, reports, skipped, selection.notes)
        report.weigh = weigh
        if estimator == 'batch' and found.images == 1:
            report.warnings.append(SINGLE_IMAGES)
            warnings.warn(SINGLE_IMAGES, stacklevel=2)
        report.feature_norm = _pooled_norm(found.last[1]) if mode == 'convert' else None
        before = {name: {key: _tensor(layer, key).detach().clone() for key in new[name]} for name, layer in layers.items()}
        try:
            _write(layers, new)
            same_everywhere([_tensor(layer, key) for name, layer in layers.items() for key in new[name]])
            if verify:
                report.verify_error, allowed = _verify(model, found, forward, amp)
                if mode == 'convert' and not report.verify_error <= allowed:
                    raise RuntimeError(
                        f'the converted network differs from the pretrained one by {report.verify_error:.2g} (relative L2, at '
                        f'most {allowed:.0e} expected) on one batch; it was restored. Is its forward pass random or its '
                        'precision low?'
                    )
        except BaseException:  # out of memory or a keyboard interrupt in the verifying pass, too
            _write(layers, before)
            raise
    for name, layer in layers.items():
        if layer.momentum is None and layer.num_batches_tracked is not None:
            # a cumulative average: 0 would drop the new statistics at the first step, a large count would freeze them
            layer.num_batches_tracked.fill_(found.batches[name])
    return report


def _keep_channels(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], eps: float, max_ratio: float | None
) -> tuple[tuple[Tensor, Tensor], int]:
    """Put the source statistics back where gamma's ratio is out of bounds; return how many channels that are."""
    if max_ratio is None:
        return target, 0
    ratio = gain_ratio(source[1], target[1], eps)
    out = (ratio > max_ratio) | (ratio < 1 / max_ratio)
    mean, variance = (torch.where(out, old.double(), new) for old, new in zip(source, target, strict=True))
    return (mean, variance), int(out.sum())


def _new_values(layer: _BatchNorm, target: tuple[Tensor, Tensor], mode: str) -> dict[str, Tensor]:
    """A layer's new tensors by path within the layer."""
    # Rounded to the buffers' precision first, so that gamma and beta fit the statistics as they will be stored.
    source = running_statistics(layer)
    mean, variance = target[0].to(source[0].dtype), target[1].to(source[1].dtype)
    values = dict(running_mean=mean, running_var=variance)
    if mode == 'convert':
        values['weight'], values['bias'] = convert_parameters(layer.weight, layer.bias, *source, mean, variance, layer.eps)
        modulation = getattr(layer, 'converted_modulation', None)
        if modulation is not None:
            # a norm whose affine part also depends on something else, such as DominoNorm
            shift = (mean.double() - source[0].double()) / (source[1].double() + layer.eps).sqrt()
            values.update(modulation(gain_ratio(source[1], variance, layer.eps), shift))
    return values


def _in_precision(name: str, layer: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's new values as they will be stored.

    Raises:
        ValueError: If half precision cannot hold one of them; the layer is named.
    """
    stored = {key: value.to(_tensor(layer, key).dtype) for key, value in values.items()}
    for key, value in stored.items():
        if not value.isfinite().all():
            kind = str(value.dtype).removeprefix('torch.')
            raise ValueError(
                f'the new {key} of batch norm layer {name} is beyond the range of {kind}: convert in float32 (model.float()) and '
                'cast afterwards. Nothing was changed.'
            )
    return stored


def _tensor(layer: nn.Module, path: str) -> Tensor:
    """A parameter or buffer of a layer."""
    return attrgetter(path)(layer)


def _write(layers: Mapping[str, nn.Module], values: dict[str, dict[str, Tensor]]) -> None:
    """Copy values into the tensors that are there."""
    with torch.no_grad():
        for name, layer in layers.items():
            for key, value in values[name].items():
                _tensor(layer, key).copy_(value)


def _verify(model: nn.Module, found: Estimate, forward: Callable, amp: bool) -> tuple[float, float]:
    """Relative L2 difference of the worst output tensor on the last batch, over all ranks, and what rounding explains."""
    batch, expected = found.last
    device = next(model.parameters()).device
    with run_eagerly(), preserved_modes(model), torch.no_grad(), precision(device, amp):
        model.eval()
        received = forward(batch)
    error, allowed = 0.0, 0.0
    for old, new in zip(_floats(expected), _floats(received), strict=True):
        difference = (new.double() - old.double()).norm() / old.double().norm().clamp(min=torch.finfo(old.dtype).tiny)
        error = max(error, difference.item()) if difference.isfinite() else float('inf')
        tf32 = old.is_cuda and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
        tolerance = TOLERANCES.get(old.dtype, HALF_TOLERANCE)
        allowed = max(allowed, TF32_TOLERANCE if tf32 and old.dtype == torch.float32 else tolerance)
    return largest(error, device), HALF_TOLERANCE if amp else allowed


def _pooled_norm(output: Any) -> float | None:
    """Mean over images, and over ranks, of the norm of the last feature map's average over positions; None without a map."""
    maps = [tensor for tensor in _floats(output) if tensor.ndim > 1]
    if not maps:
        return None
    norm = maps[-1].double().flatten(2).mean(2) if maps[-1].ndim > 2 else maps[-1].double()
    return (add_up([norm.norm(dim=1).mean()])[0] / world_size()).item()


def _floats(output: Any) -> list[Tensor]:
    """All floating point tensors in nested tuples, lists and dicts."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, tuple | list):
        return []
    return [tensor for part in output for tensor in _floats(part)]
