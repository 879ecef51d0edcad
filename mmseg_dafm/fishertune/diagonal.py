"""Squared per-sample gradients: the reference, one sample at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# samples, one seed per sample -> one loss per sample (B,); everything random in it follows from the seeds
Losses = Callable[[Sequence[Any], Sequence[int]], Tensor]


def add_squares_by_loop(
    losses: Losses, tensors: Mapping[str, nn.Parameter], samples: Sequence[Any], seeds: Sequence[int], into: Mapping[str, Tensor]
) -> None:
    """Add g_i^2 of each sample i, one forward and backward pass per sample.

    F_n = 1/N sum_i (d loss_i / d theta_n)^2; the division by N is the caller's. Squares of *per-sample* gradients: the square
    of a batch's mean gradient is another quantity (it shrinks with the batch). Which labels the loss uses decides whether
    this is the empirical Fisher (true labels) or the true one (labels drawn from the model).

    Args:
        losses: Losses of samples; called with one sample.
        tensors: The tensors theta, which must require a gradient.
        samples: The samples.
        seeds: One per sample.
        into: Accumulators of the tensors' shapes, changed in place.

    Raises:
        ValueError: If a loss does not depend on a tensor.

    Source: FisherTune, equation 9; exact for every kind of module.
    """
    names = list(tensors)
    for sample, seed in zip(samples, seeds, strict=True):
        loss = losses([sample], [seed]).sum()
        gradients = torch.autograd.grad(loss, [tensors[name] for name in names], allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                raise ValueError(f'the loss does not depend on {name}: leave its block out of the candidates.')
            into[name].addcmul_(gradient, gradient)


@contextmanager
def only_requires_grad(model: nn.Module, tensors: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Let gradients flow to ``tensors`` alone; every parameter's flag is restored at exit."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        for parameter in tensors.values():
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def test_mode(model: nn.Module) -> Iterator[None]:
    """Test mode inside; every module's own mode again at exit."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def new_accumulators(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros of the tensors' shapes: float32, or float64 for float64 tensors."""
    kind = {torch.float64: torch.float64}
    return {name: torch.zeros_like(p, dtype=kind.get(p.dtype, torch.float32), requires_grad=False) for name, p in tensors.items()}
