"""What every adapter is: a small trainable module beside a frozen ViT, and its place in checkpoints."""

import logging
import math
from collections.abc import Callable, Mapping

import torch
from mmengine.config import Config
from mmengine.logging import print_log
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


REMEDY = 'set backbone.adapter as in the config that wrote it.'
# a checkpoint may hold half precision: bfloat16 has 8 bits
TOLERANCE = 2.0**-8


def check_adapter_state(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], kind: str | None, prefix: str = '') -> None:
    """Refuse a checkpoint of another adapter.

    mmengine would only log tensors that do not fit, and go on with the random ones of this adapter.

    Args:
        own: The adapter's tensors in the backbone, by their names in its state dict.
        loaded: Those of the checkpoint; none: it is of a plain backbone, and passes. Without the adapter's factor it passes too.
        kind: Type of the backbone's adapter, None without one.
        prefix: Of the names in the whole checkpoint, for the message.

    Raises:
        ValueError: Naming the key and what differs: the key itself, its shape, or the value of the factor.
    """
    what = 'no adapter' if kind is None else f'adapter type {kind}'
    other = (own.keys() - {FACTOR}) ^ (loaded.keys() - {FACTOR}) | (loaded.keys() - own.keys())
    if loaded and other:
        raise ValueError(
            f'the checkpoint has another adapter ({prefix}{min(other)} and others differ) than this backbone with {what}: '
            f'{REMEDY}'
        )
    for key, value in loaded.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f'the checkpoint has {prefix}{key} of shape {tuple(value.shape)}, but this backbone with {what} has '
                f'{tuple(own[key].shape)}: {REMEDY}'
            )
    if FACTOR in loaded and not math.isclose(loaded[FACTOR], own[FACTOR], rel_tol=TOLERANCE):
        raise ValueError(
            f'the checkpoint was trained with {prefix}{FACTOR}={float(loaded[FACTOR]):.4g}, but this backbone with {what} has '
            f"{float(own[FACTOR]):.4g} (LoRA's alpha / rank, AdaptFormer's scale): {REMEDY}"
        )


# a name of a parameter of each, on which the keys of an optimizer's config are tried
LORA_NAME, ADAPTER_NAME = 'backbone.timm_model.model.blocks.0.attn.qkv.lora_A.default.weight', 'backbone.adapter.prompts'
# the rate of the shipped configs by the head's, which is that of the paper's or of those who compared with it
LORA_RATE, RATE = 0.5, 1.0
SLOWEST = 0.5


def check_adapter_config(cfg: Config) -> None:
    """Refuse a training config under which the adapter would not learn, and warn of one under which it learns slowly.

    Args:
        cfg: A training config; without ``model.backbone.adapter`` it passes.

    Raises:
        ValueError: For an adapter together with ``frozen=True`` or with ``FisherTuneHook``.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    adapter = backbone.get('adapter')
    if not adapter:
        return
    kind = adapter.get('type')
    name = f'model.backbone.adapter.type={kind!r} in {cfg.filename}'
    if backbone.get('frozen'):
        raise ValueError(
            f'{name} would be frozen by model.backbone.frozen=True: set model.backbone.frozen=False, the adapter freezes the ViT.'
        )
    if any(str(hook.get('type')).rsplit('.', 1)[-1] == 'FisherTuneHook' for hook in cfg.get('custom_hooks') or ()):
        raise ValueError(
            f'{name} would stay frozen under FisherTuneHook: take the config without FisherTune (such as *_full_*.py), or remove '
            'model.backbone.adapter.'
        )
    warn_of_slow_rate(cfg, kind)


def warn_of_slow_rate(cfg: Config, kind: str) -> None:
    """Warn where the factor of the optimizer's rate that reaches the adapter is that of a backbone tuned in full."""
    keys = ((cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}).get('custom_keys') or {}
    parameter, shipped = (LORA_NAME, LORA_RATE) if kind == 'LoRA' else (ADAPTER_NAME, RATE)
    # mmengine takes the longest key that is part of the name
    key = max((key for key in keys if key in parameter), key=len, default=None)
    factor = 1.0 if key is None else keys[key].get('lr_mult', 1.0)
    if factor < SLOWEST:
        where = f'optim_wrapper.paramwise_cfg.custom_keys.{key}.lr_mult'
        print_log(
            f"{where}={factor} in {cfg.filename} lets the {kind} of model.backbone.adapter learn at {factor} of the head's rate, "
            f'too slowly for a fair comparison: set it to {shipped}, as configs/baselines/adapters do (LoRA {LORA_RATE}, others '
            f'{RATE}).',
            'current',
            logging.WARNING,
        )
