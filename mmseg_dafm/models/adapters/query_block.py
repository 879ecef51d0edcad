"""A frozen block of timm's ViTs on queries alone, with the keys and values of its ordinary tokens."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def has_query_path(block: nn.Module) -> bool:
    """Whether :func:`query_block` knows the attention of a block: fused or separate projections, no gate, no shared heads."""
    attn = block.attn
    known = type(attn).__name__ in ('Attention', 'EvaAttention', 'AttentionRope')
    return known and getattr(attn, 'gate', None) is None and getattr(attn, 'num_kv_groups', 1) == 1


def query_block(block: nn.Module, queries: Tensor, tokens: Tensor, rope: Tensor | None = None) -> Tensor:
    r"""Outputs of queries that attend to a block's tokens.

    .. math:: u = P + \mathrm{Attn}(Q(\mathrm{LN}(P)), K(\mathrm{LN}(Z)), V(\mathrm{LN}(Z))), \qquad
        H = u + \mathrm{MLP}(\mathrm{LN}(u))

    Args:
        block: timm's ``Block`` or ``EvaBlock``; its LayerScale and stochastic depth act as on its own tokens.
        queries: P ``(B, T, C)``; they have no position.
        tokens: Z ``(B, N, C)``, the input of the block.
        rope: Rotary positions of the patch tokens, as timm hands them to the block.

    Returns:
        H ``(B, T, C)``.
    """
    queries = queries.to(tokens.dtype)
    attended = query_attention(block.attn, block.norm1(queries), block.norm1(tokens), rope)
    queries = queries + block.drop_path1(scaled(block, 1, attended))
    return queries + block.drop_path2(scaled(block, 2, block.mlp(block.norm2(queries))))


def scaled(block: nn.Module, branch: int, x: Tensor) -> Tensor:
    """LayerScale of the first or second branch."""
    if hasattr(block, 'ls1'):
        return getattr(block, f'ls{branch}')(x)
    gamma = getattr(block, f'gamma_{branch}')
    return x if gamma is None else gamma * x


def query_attention(attn: nn.Module, queries: Tensor, tokens: Tensor, rope: Tensor | None = None) -> Tensor:
    """Attention of queries ``(B, T, C)`` over tokens ``(B, N, C)`` with a block's own projections, both normed."""
    heads = lambda x: x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = (heads(x) for x in project(attn, queries, tokens))
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:
        from timm.layers import apply_rot_embed_cat

        first = attn.num_prefix_tokens
        turned = apply_rot_embed_cat(k[:, :, first:], rope, half=attn.rotate_half)
        k = torch.cat([k[:, :, :first], turned], 2).type_as(v)
    dropout = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(q.type_as(v), k.type_as(v), v, dropout_p=dropout)
    return attn.proj_drop(attn.proj(attn.norm(out.transpose(1, 2).flatten(2))))


def project(attn: nn.Module, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q of the queries, K and V of the tokens; the fused projection is cut by rows."""
    if attn.qkv is None:
        return attn.q_proj(queries), attn.k_proj(tokens), attn.v_proj(tokens)
    weight, bias = attn.qkv.weight, attn.qkv.bias
    if getattr(attn, 'q_bias', None) is not None:
        bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    width = len(weight) // 3
    q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
    k, v = F.linear(tokens, weight[width:], kv_bias).chunk(2, -1)
    return F.linear(queries, weight[:width], q_bias), k, v
