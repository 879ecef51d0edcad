"""Squared gradients of single images, the diagonal Fisher information: by a loop, by batched passes, and at drawn labels."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_dafm.core.processes import sum_over_ranks, world_size

# (number of the group, numbers of its images)
Group = tuple[int, list[int]]


def plan(images: int, batch: int, blocks: int, rank: int = 0, world: int = 1) -> list[list[Group]]:
    """Split images into groups of ``batch``, groups into ``blocks``, and take this rank's share of each block.

    Groups and blocks do not depend on the number of processes; only who computes them does.

    Args:
        images: How many, numbered from 0.
        batch: Images that share a pass and a draw of the weights.
        blocks: Between blocks all processes join what they have.
        rank: Of this process.
        world: Number of processes.

    Raises:
        ValueError: If a number is not positive.
    """
    if min(images, batch, blocks, world) < 1:
        raise ValueError(f'images={images}, batch_size={batch} and blocks={blocks} must all be at least 1.')
    groups = [(g, list(range(g * batch, min((g + 1) * batch, images)))) for g in range(-(-images // batch))]
    blocks = min(blocks, len(groups))
    borders = [len(groups) * b // blocks for b in range(blocks + 1)]
    return [
        [group for group in groups[start:stop] if group[0] % world == rank]
        for start, stop in zip(borders, borders[1:], strict=False)
    ]


SOURCES = ('gt', 'sample', 'argmax')


def draw_labels(probabilities: Tensor, seeds: Sequence[int]) -> Tensor:
    """Labels drawn from a model's distribution, independently per pixel: they make the *true* Fisher information.

    Args:
        probabilities: (B, K, H, W), non-negative; divided by their sum over K. (The semantic map of mask classification is
            not normalised.)
        seeds: One per image.

    Returns:
        (B, H, W) int64.

    Source: FisherTune, equations 4 and 9.
    """
    drawn = []
    for image, seed in zip(probabilities, seeds, strict=True):
        # drawn on the CPU, so that the labels are the same on every device
        shares = (image / image.sum(0)).flatten(1).cpu().double().cumsum(0)
        number = torch.rand(shares.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        labels = (number > shares).sum(0).clamp(max=len(shares) - 1)
        drawn.append(labels.view(image.shape[1:]))
    return torch.stack(drawn).to(probabilities.device)


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
        owners: dict[int, tuple[nn.Module, str]] = {}
        for module in model.modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                owners.setdefault(id(parameter), (module, leaf))
        self.layers: dict[nn.Module, dict[str, str]] = {}
        for name, parameter in tensors.items():
            owner, leaf = owners.get(id(parameter), (None, ''))
            if not isinstance(owner, nn.Linear):
                raise NotBatchable(f'{name} belongs to {type(owner).__name__}, not to nn.Linear')
            self.layers.setdefault(owner, {})[leaf] = name
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
            if x is None or g is None:
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

    Equal to :func:`add_squares_by_loop` where each loss depends on its own sample alone and each
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
