"""What every adapter is: a small trainable module beside a frozen ViT, and its place in checkpoints."""

import math
from collections.abc import Callable

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

# the module of VFMBackbone that holds an adapter, and what peft calls the matrices that it puts inside of the ViT
ADAPTER, LORA = 'adapter.', '.lora_'
# where a checkpoint has a constant factor of an adapter, which no weight shows
FACTOR = f'{ADAPTER}factor'
# timm's pre-norm blocks: x + attn(norm1(x)), then x + mlp(norm2(x))
PRE_NORM = ('Block', 'EvaBlock')


class Adapter(nn.Module):
    """Base of the adapters.

    The constructor's first argument is timm's ViT. An adapter acts on it through forward hooks and does not hold it, so that
    the ViT keeps its modules and its keys. Hooks run inside of the blocks that gradient checkpointing recomputes, and a copy of
    the backbone (EMA) gets hooks of the copied adapter, because they are bound methods.
    """

    def record_factor(self, value: float) -> None:
        """Write a constant factor into checkpoints, so that none is read with another value.

        The buffer is a record: the method computes with its own number, whose precision does not follow the model's.
        """
        self.register_buffer('factor', torch.tensor(float(value)))

    def forward(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Maps ``(B, C, h, w)`` of images ``(B, 3, H, W)``.

        Args:
            network: timm's feature extractor around the ViT.
            images: Their sides are multiples of the patch size.
        """
        return tuple(network(images))


def build_adapter(cfg: dict, vit: nn.Module) -> Adapter:
    """Build an adapter on a ViT whose parameters are frozen.

    Args:
        cfg: ``type`` (``LoRA``, ``VPT``, ``AdaptFormer``, ``VQT``, ``Rein`` or one of your own) and its options.
        vit: timm's ViT.

    Raises:
        ValueError: For a type that is no adapter, options that it does not have, or a ViT that it cannot work on.
    """
    options = dict(cfg)
    kind = options.pop('type', None)
    found = MODELS.get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, Adapter):
        raise ValueError(f'backbone.adapter.type={kind!r} is no adapter: use LoRA, VPT, AdaptFormer, VQT or Rein.')
    try:
        return found(vit, **options)
    except TypeError as error:
        raise ValueError(f'backbone.adapter={dict(cfg)} has an option that {kind} does not take: {error}.') from None


def is_adapter_key(key: str) -> bool:
    """Whether a name in a VFMBackbone's state dict, or in its ViT's, belongs to an adapter."""
    return key.startswith(ADAPTER) or LORA in key


def trainable_parameters(backbone: nn.Module) -> tuple[int, int]:
    """Numbers of parameters of a backbone: those that train, and those of the plain backbone without adapter."""
    trained = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    base = sum(parameter.numel() for name, parameter in backbone.named_parameters() if not is_adapter_key(name))
    return trained, base


def prompt_parameter(vit: nn.Module, *shape: int) -> nn.Parameter:
    r"""Learnable tokens, uniform in :math:`\pm\sqrt{6 / (3 s^2 + C)}` with patch side s and width C.

    Args:
        vit: timm's ViT.
        shape: Sizes before the width.

    Source: VPT (Jia et al., ECCV 2022), the Xavier bound of the patch embedding.
    """
    bound = math.sqrt(6 / (3 * math.prod(vit.patch_embed.patch_size) + vit.embed_dim))
    return nn.Parameter(torch.empty(*shape, vit.embed_dim).uniform_(-bound, bound))


def check_positive(method: str, **options: float) -> None:
    """Refuse sizes that are not positive.

    Raises:
        ValueError: Naming the option.
    """
    for key, value in options.items():
        if not value > 0:
            raise ValueError(f'backbone.adapter.{key}={value} of {method} must be above 0.')


def check_token_sequence(vit: nn.Module, method: str) -> None:
    """Refuse ViTs whose blocks take maps ``(B, H, W, C)`` and cut them into windows (SAM): a token more has no place there.

    Raises:
        ValueError: For such a ViT.
    """
    if hasattr(vit.blocks[0], 'window_size') or not hasattr(vit, 'num_prefix_tokens'):
        raise ValueError(
            f'backbone.adapter.type={method!r} adds tokens to a sequence, but {type(vit).__name__} attends within windows of a '
            'map: use LoRA, AdaptFormer or Rein.'
        )


def check_blocks(vit: nn.Module, method: str, known: Callable[[nn.Module], bool] = lambda block: True) -> None:
    """Refuse blocks of another build than timm's pre-norm ones, in which the method's equation would have another meaning.

    Raises:
        ValueError: Naming the block's class.
    """
    for block in vit.blocks:
        if type(block).__name__ not in PRE_NORM or not known(block):
            raise ValueError(
                f'backbone.adapter.type={method!r} does not know the {type(block).__name__} of {type(vit).__name__}: it needs '
                "timm's plain pre-norm blocks; use LoRA, VPT or Rein."
            )
