"""Which batch norm layers of a model can be converted, and why the others cannot."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Selection(NamedTuple):
    """Layers to convert, and what to say about the rest.

    Attributes:
        layers: name -> layer, in the order of the model; torch's batch norms, or what looks the same.
        skipped: name -> reason, for layers that are left alone.
        notes: name -> remark, for layers that are converted all the same.
    """

    layers: dict[str, _BatchNorm]
    skipped: dict[str, str]
    notes: dict[str, str]


@contextmanager
def preserved_modes(model: nn.Module) -> Iterator[None]:
    """Give every module its own train/eval mode, and every parameter its ``requires_grad``, back at exit.

    A module with a ``train`` method of its own, such as one that merges weights for test mode, is switched back by this method;
    its parts then get their own flags.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, training in modes:  # parents before their parts
            if module.training != training and getattr(module.train, '__func__', None) is not nn.Module.train:
                module.train(training)
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)


def is_batch_norm(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Whether a module normalises by running statistics: torch's batch norms and what looks the same (mmcv, timm)."""
    if isinstance(module, _BatchNorm):
        return True
    return all(hasattr(module, name) for name in ('running_mean', 'running_var', 'eps')) and not isinstance(
        module, nn.modules.instancenorm._InstanceNorm
    )


def within(name: str, modules: Sequence[str] | None) -> bool:
    """Whether a module path lies in one of the named parts; None and ``''`` are the whole model."""
    return modules is None or any(part == '' or name == part or name.startswith(f'{part}.') for part in modules)


def check_parts(model: nn.Module, modules: Sequence[str] | None) -> None:
    """Refuse names of parts that the model does not have.

    Raises:
        ValueError: Naming the part and the model's own parts.
    """
    known = {name for name, _ in model.named_modules()}
    for part in modules or ():
        if part not in known:
            own = ', '.join(name for name, _ in model.named_children())
            raise ValueError(f"modules: {type(model).__name__} has no part '{part}'; it has {own}.")


def running_statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """M_s and S_s, ``(C,)`` each, of a layer that tracks them, as every selected layer does."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def looks_untrained(layer: _BatchNorm) -> bool:
    """Whether statistics and parameters are those of initialisation: M = 0, S = 1, beta = 0, and gamma all 1 or all 0.

    A gamma of 0 is what residual networks give the last norm of each block (``zero_init_residual``). It says nothing by itself:
    trained layers can be dead, too, but their statistics have moved.
    """
    state: list[tuple[Tensor | None, tuple[int, ...]]]
    state = [(layer.running_mean, (0,)), (layer.running_var, (1,)), (layer.weight, (0, 1)), (layer.bias, (0,))]
    return all(value is None or any(bool(value.eq(start).all()) for start in starts) for value, starts in state)


def select_layers(model: nn.Module, modules: Sequence[str] | None = None, affine: bool = True) -> Selection:
    """Find the batch norm layers that can be converted.

    Args:
        model: Any module.
        modules: Paths of the parts to look in, e.g. ``('backbone', 'decode_head')``; None for the whole model.
        affine: Whether gamma and beta will be rewritten; False for statistics alone.

    Returns:
        A selection; a layer that occurs several times in the model is there once.

    Raises:
        ValueError: If ``modules`` is a string, a named part does not exist or holds no batch norm, nothing can be converted,
            or another module shares what would be rewritten; the reasons are in the sentence.
    """
    if isinstance(modules, str):
        raise ValueError(f'modules must be a list of parts, got the string {modules!r}.')
    check_parts(model, modules)
    found = {name: module for name, module in model.named_modules() if within(name, modules) and is_batch_norm(module)}
    with preserved_modes(model):
        # frozen_stages and norm_eval show in what model.train() does
        model.train()
        reasons = {name: _reason(layer, affine) for name, layer in found.items()}
    layers = {name: found[name] for name, (skip, _) in reasons.items() if not skip}
    skipped = {name: skip for name, (skip, _) in reasons.items() if skip}
    notes = {name: note for name, (skip, note) in reasons.items() if note and not skip}
    if not layers:
        where = 'the model' if modules is None else ', '.join(f"'{part}'" for part in modules)
        if not found:
            raise ValueError(f'no batch normalisation in {where}: {type(model).__name__} has nothing there to convert.')
        listed = '; '.join(f'{name}: {reason}' for name, reason in list(skipped.items())[:5])
        raise ValueError(f'none of the {len(found)} batch norm layers in {where} can be converted ({listed}).')
    # a layer that several parts share counts for each
    paths = [name for name, module in model.named_modules(remove_duplicate=False) if is_batch_norm(module)]
    parts = list(modules or ())
    empty = [part for part in parts if not any(within(name, [part]) for name in paths)]
    if empty:
        raise ValueError(f'no batch normalisation in {", ".join(map(repr, empty))}: take it out of modules={parts}.')
    _refuse_shared(model, layers, affine)
    return Selection(layers, skipped, notes)


def _refuse_shared(model: nn.Module, layers: Mapping[str, nn.Module], affine: bool) -> None:
    """Refuse tensors that another module uses as well: conversion would change its function.

    Raises:
        ValueError: Naming the layer, the tensor and the other module.
    """
    inside = {name: {id(part) for part in layer.modules()} for name, layer in layers.items()}
    owners: dict[tuple, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor.numel() and not tensor.is_meta:
                owners.setdefault(_place(tensor), []).append((name, module))
    for name, layer in layers.items():
        rewritten = [(key, getattr(layer, key)) for key in ('running_mean', 'running_var')]
        if affine:
            rewritten += list(layer.named_parameters())
        for key, tensor in rewritten:
            for other, module in owners.get(_place(tensor), ()):
                if id(module) not in inside[name]:
                    raise ValueError(
                        f'batch norm layer {name} shares its {key} with {other or "the model itself"}, as domain-specific batch '
                        'norms do: converting one would change the other. Give each tensors of its own, or leave the part out.'
                    )


def _place(tensor: Tensor) -> tuple:
    """Where a tensor lies in memory."""
    return tensor.device, tensor.data_ptr()


def _reason(layer: _BatchNorm, affine: bool) -> tuple[str, str]:
    """Why a layer must be skipped, and what to remark if it is not; empty where there is nothing to say.

    To be called while the model is in train mode.
    """
    if layer.running_mean is None or layer.running_var is None:
        return 'track_running_stats=False, so there are no source statistics', ''
    weight, bias = getattr(layer, 'weight', None), getattr(layer, 'bias', None)
    if affine and (weight is None or bias is None):
        return 'affine=False, so there are no gamma and beta to hold the difference', ''
    parameters = [value for value in (weight, bias) if value is not None]
    if any(not isinstance(value, nn.Parameter) for value in parameters):
        return 'gamma and beta are buffers: a frozen batch norm', ''
    if any(value.is_meta for value in (*parameters, layer.running_mean)):
        return 'it is on the meta device and holds no values', ''
    frozen = bool(parameters) and not any(value.requires_grad for value in parameters)
    if frozen and not layer.training:
        return 'frozen: parameters without gradient, always in test mode', ''
    if looks_untrained(layer):
        return 'it looks untrained (M=0, S=1, gamma=1 or 0, beta=0)', ''
    if not layer.training:
        return '', 'it stays in test mode during training, where conversion only re-parametrises; DAFT trains in train mode'
    if frozen:
        return '', 'its gamma and beta do not train'
    return '', ''


def is_sync_batch_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises over the batches of all ranks in training."""
    synced = isinstance(layer, torch.nn.SyncBatchNorm) or type(layer).__name__ == 'SyncBatchNorm'
    return synced or getattr(layer, 'stats', None) == 'SyncBN'  # DominoNorm's own
