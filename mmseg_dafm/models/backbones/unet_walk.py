"""A functional walk of a Stable Diffusion U-Net that returns features and class maps instead of recording them.

Block functions take tensors and return ``(hidden, map)``; nothing is stored on a module and no forward hook is used, so
the walk is exact under gradient checkpointing, ``torch.compile(fullgraph=True)`` and DDP.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NUM_LEVELS = 4
TAP = 1  # the feature of an inner stage is taken after its second layer, before the upsampler (VPD)


def check_unet(unet: nn.Module) -> None:
    """Refuse a U-Net whose blocks the walk would not reproduce.

    Args:
        unet: A diffusers ``UNet2DConditionModel``.

    Raises:
        ValueError: If the U-Net is not a four-level text-to-image U-Net of the SD-1.x / SD-2.x family.
    """
    levels = len(unet.down_blocks), len(unet.up_blocks)
    if levels != (NUM_LEVELS, NUM_LEVELS):
        raise ValueError(f'the U-Net must have 4 down and 4 up blocks (strides 8 to 64), got {levels[0]} and {levels[1]}.')
    for name, block in unet.named_modules():
        kind = type(block).__name__
        if kind == 'Transformer2DModel' and len(block.transformer_blocks) != 1:
            raise ValueError(f'U-Net block {name} has {len(block.transformer_blocks)} transformer layers; SD-1.x/2.x have one.')
        if kind == 'BasicTransformerBlock' and (block.norm_type != 'layer_norm' or block.only_cross_attention):
            raise ValueError(f'U-Net block {name} is not a plain self-attention, cross-attention, feed-forward block.')
    for extra in ('addition_embed_type', 'class_embed_type', 'encoder_hid_dim_type'):
        if unet.config.get(extra) is not None:
            raise ValueError(f'the U-Net has {extra}={unet.config[extra]!r}, which SD-1.x and SD-2.x do not have.')


def cross_attention(attn: nn.Module, hidden: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    r"""Cross-attention with explicit probabilities.

    .. math:: P = \mathrm{softmax}(Q K^T / \sqrt{d}), \qquad y = W_o (P V)

    Args:
        attn: A diffusers ``Attention`` module (``to_q``, ``to_k``, ``to_v``, ``to_out``).
        hidden: Normed image states ``(B, N, D)``, N = h w.
        context: Text states ``(B, T, E)``.

    Returns:
        The output ``(B, N, D)`` and the probabilities averaged over heads ``(B, N, T)``; each row sums to 1.

    Source: VPD, sec. 3.3; the maps are the heads' mean, un-normalised.
    """
    split = lambda x: x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # noqa: E731
    query, key, value = split(attn.to_q(hidden)), split(attn.to_k(context)), split(attn.to_v(context))
    # the query is scaled first, so that half-precision logits do not overflow (SD-2.x)
    probs = ((query * attn.scale) @ key.transpose(-1, -2)).softmax(-1)
    out = (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
    return attn.to_out[1](attn.to_out[0](out)), probs.mean(1)


def transformer_with_map(block: nn.Module, hidden: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """One ``Transformer2DModel`` with its cross-attention computed explicitly; self-attention stays the library's SDPA.

    Args:
        block: A diffusers ``Transformer2DModel`` with one layer.
        hidden: ``(B, C, h, w)``.
        context: ``(B, T, E)``.

    Returns:
        The new hidden states ``(B, C, h, w)`` and the head-averaged map ``(B, T, h, w)`` in their dtype.
    """
    height, width = hidden.shape[-2:]
    residual, layer = hidden, block.transformer_blocks[0]
    x = block.norm(hidden)
    if block.use_linear_projection:
        x = block.proj_in(x.flatten(2).transpose(1, 2))
    else:
        x = block.proj_in(x).flatten(2).transpose(1, 2)
    x = layer.attn1(layer.norm1(x)) + x
    attended, probs = cross_attention(layer.attn2, layer.norm2(x), context)
    x = attended + x
    x = layer.ff(layer.norm3(x)) + x
    if block.use_linear_projection:
        x = block.proj_out(x).transpose(1, 2).unflatten(-1, (height, width))
    else:
        x = block.proj_out(x.transpose(1, 2).unflatten(-1, (height, width)))
    hidden = x + residual
    return hidden, probs.transpose(1, 2).unflatten(-1, (height, width)).to(hidden.dtype)


def _layer(resnet, attention, want_map: bool, hidden, skip, temb, context) -> tuple[Tensor, Tensor | None]:
    """One residual block and, where the stage has one, its transformer; ``skip`` is concatenated first."""
    if skip is not None:
        hidden = torch.cat([hidden, skip], dim=1)
    hidden = resnet(hidden, temb)
    if attention is None:
        return hidden, None
    if want_map:
        return transformer_with_map(attention, hidden, context)
    return attention(hidden, encoder_hidden_states=context, return_dict=False)[0], None


def walk_unet(
    unet: nn.Module,
    latents: Tensor,
    timestep: int,
    context: Tensor,
    map_levels: Sequence[int] = (1, 2),
    gradient_checkpointing: bool = False,
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Run a U-Net once and return its features and cross-attention maps.

    Args:
        unet: A diffusers ``UNet2DConditionModel`` accepted by :func:`check_unet`; ``conv_out`` may be absent.
        latents: ``(B, 4, H, W)``; any H, W (odd sizes too).
        timestep: Diffusion step whose embedding conditions the residual blocks, in [0, 1000).
        context: Text states ``(B, T, E)``.
        map_levels: Levels (0 = latent size, 1 = half, ...) whose cross-attention maps are returned, from the down and up
            path; the middle block never counts.
        gradient_checkpointing: Recompute each layer in backward; same gradients, less memory.

    Returns:
        features: Four tensors at 1, 1/2, 1/4 and 1/8 of the latent size: the last hidden state, and the states after
            the second layer of the third, second and first up block.
        maps: level -> mean over that level's layers ``(B, T, h, w)``, probabilities that sum to 1 over T.

    Source: VPD, official implementation (output blocks 1, 4, 7 and 11; maps of the up and down path).
    """

    def run(resnet, attention, level, hidden, skip=None):
        want = level in map_levels
        if gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(_layer, resnet, attention, want, hidden, skip, temb, context, use_reentrant=False)
        return _layer(resnet, attention, want, hidden, skip, temb, context)

    steps = torch.full((latents.shape[0],), timestep, device=latents.device)
    temb = unet.time_embedding(unet.time_proj(steps).to(latents.dtype))
    maps: dict[int, list[Tensor]] = {level: [] for level in map_levels}

    hidden = unet.conv_in(latents)
    skips = [hidden]
    for level, block in enumerate(unet.down_blocks):
        for resnet, attention in zip(block.resnets, _attentions(block), strict=True):
            hidden, probs = run(resnet, attention, level, hidden)
            skips.append(hidden)
            if probs is not None:
                maps[level].append(probs)
        for downsampler in block.downsamplers or ():
            hidden = downsampler(hidden)
            skips.append(hidden)

    mid = unet.mid_block
    hidden, _ = run(mid.resnets[0], None, -1, hidden)
    for attention, resnet in zip(mid.attentions, mid.resnets[1:], strict=True):
        hidden = attention(hidden, encoder_hidden_states=context, return_dict=False)[0]
        hidden, _ = run(resnet, None, -1, hidden)

    features = []
    for index, block in enumerate(unet.up_blocks):
        level = NUM_LEVELS - 1 - index
        for position, (resnet, attention) in enumerate(zip(block.resnets, _attentions(block), strict=True)):
            hidden, probs = run(resnet, attention, level, hidden, skips.pop())
            if probs is not None:
                maps[level].append(probs)
            if position == TAP and level > 0:
                features.append(hidden)
        for upsampler in block.upsamplers or ():
            # the next skip's size, so that odd latents come back to their own size
            hidden = upsampler(hidden, skips[-1].shape[2:])
    features.append(hidden)
    means = {level: torch.stack(found).mean(0) for level, found in maps.items() if found}
    return features[::-1], means


def _attentions(block: nn.Module) -> Sequence[nn.Module | None]:
    """The stage's transformers, or one None per residual block where it has none."""
    return getattr(block, 'attentions', None) or [None] * len(block.resnets)
