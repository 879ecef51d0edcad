"""Squared per-sample gradients of linear layers for a whole batch in one backward pass."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_dafm.fishertune.diagonal import Losses


class NotBatchable(Exception):
    """The batched path does not apply to this model; the sentence says why."""


class LayerGradients:
    """Record inputs and output gradients of linear layers while it is entered, and give their per-sample gradients.

    For y = x W^T + b with x (B, N, i) and dL/dy = g (B, N, o), the gradient of sample b is g_b^T x_b (o, i). Autograd need
    not compute weight gradients at all, so all parameters may be frozen.

    Args:
        model: The model that holds the tensors.
        tensors: Weights (and biases) of ``nn.Linear`` layers of the model.

    Raises:
        NotBatchable: If a tensor belongs to another kind of module, whose inputs cannot be seen.
    """

    def __init__(self, model: nn.Module, tensors: Mapping[str, nn.Parameter]) -> None:
        owners = {}
        for module in model.modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                owners.setdefault(id(parameter), (module, leaf))
        self.layers: dict[nn.Module, dict[str, str]] = {}
        for name, parameter in tensors.items():
            module, leaf = owners.get(id(parameter), (None, ''))
            if not isinstance(module, nn.Linear):
                raise NotBatchable(f'{name} belongs to {type(module).__name__}, not to nn.Linear')
            self.layers.setdefault(module, {})[leaf] = name
        self.seen: dict[nn.Module, tuple[Tensor, Tensor | None]] = {}
        self.repeated: str | None = None
        self.handles: list[Any] = []

    def __enter__(self) -> 'LayerGradients':
        self.handles = [module.register_forward_hook(self._record) for module in self.layers]
        return self

    def __exit__(self, *exception) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.seen.clear()

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # passes without gradients are not those whose loss is squared
        if not torch.is_grad_enabled():
            return
        if module in self.seen:
            self.repeated = next(iter(self.layers[module].values()))
        # without parameters that require a gradient the graph starts here
        if not output.requires_grad:
            output.requires_grad_()
        x = inputs[0].detach()
        self.seen[module] = (x, None)

        def keep(gradient: Tensor) -> None:
            self.seen[module] = (x, gradient.detach())

        output.register_hook(keep)

    def add_squares(self, size: int, into: Mapping[str, Tensor]) -> None:
        """Add the sums over samples of squared gradients, after a backward pass of the *sum* of the samples' losses.

        Args:
            size: B.
            into: Accumulators of the tensors' shapes, changed in place.

        Raises:
            NotBatchable: If a layer ran not at all, twice, without samples in dimension 0, or got no gradient.
        """
        if self.repeated:
            raise NotBatchable(f'the layer of {self.repeated} runs more than once in a forward pass')
        for module, leaves in self.layers.items():
            x, g = self.seen.get(module, (None, None))
            name = next(iter(leaves.values()))
            if g is None:
                raise NotBatchable(f'the layer of {name} is not called as a module, or the loss does not depend on it')
            if len(x) % size:
                raise NotBatchable(f'the layer of {name} has inputs of shape {tuple(x.shape)} for {size} samples')
            # windows of an image lie next to each other in dimension 0
            x, g = x.reshape(size, -1, x.shape[-1]), g.reshape(size, -1, g.shape[-1])
            # half-precision passes are squared in float32
            x, g = (x.float(), g.float()) if x.dtype != torch.float64 else (x, g)
            if 'weight' in leaves:
                total = into[leaves['weight']]
                for one_x, one_g in zip(x, g, strict=True):
                    gradient = one_g.T @ one_x
                    total.addcmul_(gradient, gradient)
            if 'bias' in leaves:
                into[leaves['bias']].add_(g.sum(1).square().sum(0))
        self.seen.clear()


def add_squares_by_batch(
    losses: Losses, layers: LayerGradients, samples: Sequence[Any], seeds: Sequence[int], into: Mapping[str, Tensor]
) -> None:
    """Add g_i^2 of each sample of a batch, one forward and backward pass for all.

    Equal to :func:`mmseg_dafm.fishertune.diagonal.add_squares_by_loop` where each loss depends on its own sample alone and each
    layer runs once; :func:`difference` tells.

    Args:
        losses: Losses of samples.
        layers: Entered, for the tensors of the accumulators.
        samples: The samples, of one shape.
        seeds: One per sample.
        into: Accumulators, changed in place.

    Raises:
        NotBatchable: As :meth:`LayerGradients.add_squares`.
    """
    layers.seen.clear()
    layers.repeated = None
    total = losses(samples, seeds).sum()
    if not total.requires_grad:
        raise NotBatchable('no layer of a candidate is called as a module')
    total.backward()
    layers.add_squares(len(samples), into)


def difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Largest distance of two tensors of a name, as a share of the first one's 2-norm; infinite where it is not defined."""
    largest = 0.0
    for name, a in first.items():
        size, distance = float(torch.linalg.vector_norm(a)), float(torch.linalg.vector_norm(second[name] - a))
        share = 0.0 if distance == 0 else distance / size if size > 0 else math.inf
        largest = max(largest, math.inf if math.isnan(share) else share)
    return largest
