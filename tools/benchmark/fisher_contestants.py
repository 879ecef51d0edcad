"""What `fisher_tune.py` compares: ways to train 5 % of a ViT's weights, and training all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import timm
import torch
from measure import peak_gpu_bytes
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

SETTINGS = dict(lr=1e-5, weight_decay=0.05)
VITS = {'small': 'vit_small_patch16_224', 'vit_large': 'vit_large_patch16_224'}
# Width and blocks of the candidate tensors alone.
WIDTHS = {'tiny': (64, 2), 'small': (384, 12), 'vit_large': (1024, 24)}
MASK, LORA = 'mask and restore', 'LoRA r=8'


@dataclass
class Contestant:
    """One way to train.

    Attributes:
        update: What follows backward.
        optimizer: Whose state counts.
        model: Whose gradients count.
        forward: Makes gradients; None if they are simply there.
        extra: Lists further tensors that this way needs.
    """

    update: Callable[[], None]
    optimizer: torch.optim.Optimizer
    model: nn.Module
    forward: Callable[[], Tensor] | None = None
    extra: Callable[[], Iterable[Tensor]] = tuple
    clear: Callable[[], None] = field(default=lambda: None)

    def step(self) -> None:
        """Forward and backward, if there are any, update, gradients dropped."""
        if self.forward is not None:
            self.forward().backward()
        self.update()
        if self.forward is not None:
            self.clear()

    def bytes(self) -> dict[str, int]:
        """Bytes of the optimizer's state, of the dense gradients as the optimizer finds them, and of everything else."""
        if self.forward is not None:
            self.forward().backward()
        gradients = total(p.grad for p in self.model.parameters() if p.grad is not None)
        self.update()
        state = total(v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
        found = dict(state=state, gradients=gradients, extra=total(self.extra()))
        if self.forward is not None:
            self.clear()
            if next(self.model.parameters()).is_cuda:
                found['peak'] = peak_gpu_bytes(self.step)
        return found


def total(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, each storage once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def adamw(parameters: Iterable, kind: str) -> torch.optim.AdamW:
    """AdamW of one kind, ``'foreach'`` or ``'fused'``; RuntimeError where PyTorch has no fused kernel for the device."""
    return torch.optim.AdamW(parameters, **SETTINGS, **{kind: True})


class Tensors(nn.Module):
    """The candidate tensors of a ViT without its arithmetic: qkv, fc1 and fc2 of each block."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        linear = lambda rows, columns: nn.Linear(columns, rows, bias=False)  # noqa: E731
        self.backbone = nn.ModuleDict(
            {
                'blocks': nn.ModuleList(
                    nn.ModuleDict(
                        {
                            'attn': nn.ModuleDict({'qkv': linear(3 * width, width)}),
                            'mlp': nn.ModuleDict({'fc1': linear(4 * width, width), 'fc2': linear(width, 4 * width)}),
                        }
                    )
                    for _ in range(blocks)
                )
            }
        )


class Segmenter(nn.Module):
    """A timm ViT and a linear layer on its patch tokens; ``forward`` gives the loss of random labels."""

    def __init__(self, name: str, size: int, batch: int, device: torch.device):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = timm.create_model(VITS[name], num_classes=0, global_pool='', img_size=size)
        self.decode_head = nn.Linear(self.backbone.embed_dim, 19)
        self.to(device)
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.labels = torch.randint(19, (batch, (size // 16) ** 2), device=device)

    def forward(self) -> Tensor:
        """The mean cross-entropy; bfloat16 autocast on a GPU."""
        cuda = self.images.is_cuda
        with torch.autocast('cuda' if cuda else 'cpu', torch.bfloat16, enabled=cuda):
            tokens = self.backbone.forward_features(self.images)[:, -self.labels.shape[1] :]
            return nn.functional.cross_entropy(self.decode_head(tokens).flatten(0, 1).float(), self.labels.flatten())


def random_ranking(start: int, stop: int, count: int) -> Tensor:
    """Distinct flat ids in random order; the worst case for memory access, because scores cluster."""
    if 4 * count > stop - start:
        return start + torch.randperm(stop - start)[:count]
    ids = torch.randint(start, stop, (int(1.4 * count) + 100,)).unique()
    return ids[torch.randperm(len(ids))[:count]]


def ours(
    model: nn.Module, cohorts: int, share: float, kind: str, first: float = 0.0, forward: Callable | None = None, **changes
) -> Contestant:
    """FisherTuneOptimWrapper on random elements.

    Args:
        model: With a ``backbone``.
        cohorts: Number of cohorts, of equal size.
        share: Selected share of the backbone's parameters.
        kind: AdamW's kind.
        first: Share of the candidates, in the order of blocks, in which nothing is selected.
        forward: As in :class:`Contestant`.
        **changes: Further keys of the wrapper's config.
    """
    constructor, optimizer = 'FisherTuneOptimWrapperConstructor', dict(type='AdamW', **SETTINGS, **{kind: True})
    cfg = dict(type='FisherTuneOptimWrapper', constructor=constructor, optimizer=optimizer, paramwise_cfg={}, **changes)
    wrapper = build_optim_wrapper(model, cfg)
    candidates = sum(tensor.numel() for tensor in wrapper.tensors.values())
    count = int(share * wrapper.backbone_parameters)
    wrapper.select(random_ranking(int(first * candidates), candidates, count))
    for number in range(1, cohorts + 1):
        wrapper.grow(count * number // cohorts)
    wrapper.freeze_unused()

    def extra() -> Iterable[Tensor]:
        for group in wrapper._compact.groups:
            yield from (group.values, group.gradients, *group.positions)
            yield from (place for place in group.places if isinstance(place, Tensor))

    return Contestant(wrapper.step, wrapper.optimizer, model, forward, extra, wrapper.zero_grad)


def dense(model: nn.Module, kind: str, forward: Callable | None = None) -> Contestant:
    """AdamW on everything."""
    optimizer = adamw(model.parameters(), kind)
    return Contestant(optimizer.step, optimizer, model, forward, clear=optimizer.zero_grad)


def masked(model: nn.Module, share: float, kind: str, forward: Callable | None = None) -> Contestant:
    """AdamW on everything with the unselected gradients set to 0 before it and the unselected weights restored after it."""
    tensors = [p for name, p in model.backbone.named_parameters() if any(f'{k}.weight' in name for k in ('qkv', 'fc1', 'fc2'))]
    outside = [torch.rand_like(tensor) >= share for tensor in tensors]
    starts = [tensor.detach().clone() for tensor in tensors]
    inside = {id(tensor) for tensor in tensors}
    others = [p for p in model.backbone.parameters() if id(p) not in inside]
    for parameter in others:
        parameter.requires_grad_(False)
    optimizer = adamw([p for p in model.parameters() if p.requires_grad], kind)

    @torch.no_grad()
    def update() -> None:
        for tensor, out in zip(tensors, outside, strict=True):
            tensor.grad.masked_fill_(out, 0)
        optimizer.step()
        for tensor, out, start in zip(tensors, outside, starts, strict=True):
            torch.where(out, start, tensor, out=tensor)

    return Contestant(update, optimizer, model, forward, lambda: (*outside, *starts), optimizer.zero_grad)


def lora(model: Segmenter, kind: str, forward: Callable) -> Contestant:
    """LoRA r=8 on qkv, fc1 and fc2 through peft; ImportError without it."""
    from peft import LoraConfig, inject_adapter_in_model

    model.backbone.requires_grad_(False)
    config = LoraConfig(r=8, lora_alpha=8, target_modules=['qkv', 'fc1', 'fc2'])
    inject_adapter_in_model(config, model.backbone)
    adapters = [p for name, p in model.backbone.named_parameters() if 'lora_' in name]
    for adapter in adapters:
        adapter.requires_grad_(True)
    optimizer = adamw([p for p in model.parameters() if p.requires_grad], kind)
    return Contestant(optimizer.step, optimizer, model, forward, lambda: adapters, optimizer.zero_grad)
