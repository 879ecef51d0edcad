"""A small network with candidate weights, and the dense reference of training a growing set of elements."""

import copy

import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

BATCHES = [torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(40)]
# sizes of the growing set by step
SIZES = {0: 40, 3: 90, 7: 91, 8: 150}
STEPS = 12


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(dict(qkv=nn.Linear(width, 3 * width)))
        self.mlp = nn.ModuleDict(dict(fc1=nn.Linear(width, 2 * width), fc2=nn.Linear(2 * width, width)))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.attn['qkv'](self.norm(x)).chunk(3, -1)
        x = x + (query * key).tanh() * value
        return x + self.mlp['fc2'](self.mlp['fc1'](x).tanh())


class Backbone(nn.Module):
    def __init__(self, width: int = 8, depth: int = 2):
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class Net(nn.Module):
    """Backbone and head; ``forward`` gives a loss."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = Backbone()
        self.decode_head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode_head(self.backbone(x)).square().sum(-1).mean()


def wrapper_cfg(optimizer: dict | None = None, paramwise: dict | None = None, **changes) -> dict:
    return dict(
        dict(
            type='FisherTuneOptimWrapper',
            constructor='FisherTuneOptimWrapperConstructor',
            optimizer=optimizer or dict(type='AdamW', lr=0.02, weight_decay=0.1, eps=1e-3),
            paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))) if paramwise is None else paramwise,
        ),
        **changes,
    )


def build(model: nn.Module, *args, **kwargs):
    return build_optim_wrapper(model, wrapper_cfg(*args, **kwargs))


def some_ranking(wrapper, count: int, seed: int = 1) -> Tensor:
    """Distinct random flat ids; with all kinds, every row is a candidate."""
    total = sum(tensor.numel() for tensor in wrapper.tensors.values())
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


def train(model: nn.Module, wrapper, steps: range, sizes: dict[int, int], factor=lambda step: 1.0) -> None:
    """Steps of the wrapper; at the steps in ``sizes`` the set grows first; ``factor`` scales all rates."""
    for step in steps:
        if step in sizes:
            wrapper.grow(sizes[step])
        for group in wrapper.optimizer.param_groups:
            group['lr'] = group.setdefault('initial_lr', group['lr']) * factor(step)
        for part in range(wrapper._accumulative_counts):
            wrapper.update_params(model(BATCHES[step * wrapper._accumulative_counts + part]))


class DenseReference:
    """Mask, step, restore, in float64, with one step count per element.

    Args:
        model: Copied; its ``backbone`` is trained where ``masks`` say so, the rest everywhere.
        sgd: SGD with momentum and coupled decay instead of AdamW.
    """

    def __init__(self, model, wrapper, lr, backbone_lr, decay, sgd=False, momentum=0.9, nesterov=False, eps=1e-3, clip=None):
        self.model = copy.deepcopy(model).double().requires_grad_(True)
        self.names, self.ranking = list(wrapper.tensors), wrapper.ranking
        self.sgd, self.momentum, self.nesterov, self.eps, self.clip, self.decay = sgd, momentum, nesterov, eps, clip, decay
        self.params = dict(self.model.named_parameters())
        self.rates = {name: backbone_lr if name.startswith('backbone.') else lr for name in self.params}
        zeros = lambda: {name: torch.zeros_like(p) for name, p in self.params.items()}  # noqa: E731
        self.mask, self.count, self.first, self.second = zeros(), zeros(), zeros(), zeros()
        for name, mask in self.mask.items():
            mask.fill_(float(not name.startswith('backbone.')))

    def grow(self, size: int) -> None:
        flat = torch.cat([self.mask[f'backbone.{name}'].flatten() for name in self.names])
        flat[self.ranking[:size]] = 1
        for name, part in zip(self.names, flat.split([self.mask[f'backbone.{n}'].numel() for n in self.names]), strict=True):
            self.mask[f'backbone.{name}'].copy_(part.view_as(self.mask[f'backbone.{name}']))

    @torch.no_grad()
    def step(self, batches: list[Tensor], factor: float = 1.0) -> None:
        with torch.enable_grad():
            grads = torch.autograd.grad(
                sum(self.model(x.double()) for x in batches) / len(batches), list(self.params.values()), allow_unused=True
            )
        grads = {name: g * self.mask[name] for name, g in zip(self.params, grads, strict=True)}
        if self.clip:
            norm = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()
            grads = {name: g * min(1.0, self.clip / (norm + 1e-6)) for name, g in grads.items()}
        for name, p in self.params.items():
            before, mask, g, rate = p.clone(), self.mask[name], grads[name], self.rates[name] * factor
            self.count[name] += mask
            if self.sgd:
                d = g + self.decay * p * mask
                self.first[name] = self.momentum * self.first[name] + d
                p -= rate * (d + self.momentum * self.first[name] if self.nesterov else self.first[name])
            else:
                p *= 1 - rate * self.decay
                self.first[name] = 0.9 * self.first[name] + 0.1 * g
                self.second[name] = 0.999 * self.second[name] + 0.001 * g**2
                t = self.count[name].clamp_min(1)
                p -= rate * (self.first[name] / (1 - 0.9**t)) / ((self.second[name] / (1 - 0.999**t)).sqrt() + self.eps)
            p.copy_(torch.where(mask.bool(), p, before))


def bits(model: nn.Module) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
