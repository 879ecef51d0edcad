"""VQT: learnable queries that summarise the tokens of every block."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_dafm.models.adapters.adapter import Adapter, check_blocks, check_positive, check_token_sequence, prompt_parameter


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


def read_out(maps: Tensor, summaries: Tensor) -> Tensor:
    r"""Add to each cell of a map the summaries that fit it, without parameters.

    .. math:: f \leftarrow f + \mathrm{softmax}(\mathrm{LN}(f)\,\mathrm{LN}(H)^\top / \sqrt{C})\,H

    Args:
        maps: f ``(B, C, h, w)``.
        summaries: H ``(B, T, C)``.
    """
    width = maps.shape[1:2]
    cells = maps.flatten(2).transpose(1, 2)
    weights = F.layer_norm(cells, width) @ F.layer_norm(summaries, width).transpose(1, 2) / math.sqrt(maps.shape[1])
    found = weights.softmax(-1) @ summaries
    return maps + found.transpose(1, 2).reshape_as(maps)


@MODELS.register_module()
class VQT(Adapter):
    r"""Visual query tuning: queries P of a block attend to its tokens Z, and nothing attends to them.

    .. math:: H_i = \mathrm{rest}_i(P_i + \mathrm{Attn}(Q(P_i), K(Z_{i-1}), V(Z_{i-1}))), \qquad Z_i = L_i(Z_{i-1})

    with the norms, projections and MLP of the frozen block i. The blocks' tokens are those of the plain backbone, to the bit, and
    are computed without a graph.

    Our choice for dense prediction, where the paper gives the summaries H to a linear classifier beside the CLS token: the map
    of a block of ``out_indices`` reads out the summaries of the blocks since the map before it, see :func:`read_out`; no
    parameter is added, and the head keeps its shape. Also ours: there are no queries in the first block, whose tokens have seen
    no other token yet; the printed 3.01 M parameters of ViT-L are 23 x 128 x 1024 = 3,014,656.

    Args:
        vit: timm's ViT of token sequences, with plain attention.
        tokens: Queries of each block.

    Raises:
        ValueError: For ``tokens`` below 1, a ViT with windows, unknown attention, or of one block.

    Source: Visual Query Tuning (Tu et al., CVPR 2023), eq. 5 and 6.
    """

    def __init__(self, vit: nn.Module, tokens: int = 128):
        check_positive('VQT', tokens=tokens)
        check_token_sequence(vit, 'VQT')
        check_blocks(vit, 'VQT', has_query_path)
        if len(vit.blocks) < 2:
            raise ValueError("backbone.adapter.type='VQT' has queries from block 1 on: name a later block in out_indices.")
        super().__init__()
        self.prompts = prompt_parameter(vit, len(vit.blocks) - 1, tokens)

    def forward(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Maps, see :class:`Adapter`."""
        blocks, seen = list(network.model.blocks), []
        record = lambda block, args, kwargs: seen.append((args[0], kwargs.get('rope')))  # noqa: E731
        handles = [block.register_forward_pre_hook(record, with_kwargs=True) for block in blocks]
        try:
            with torch.no_grad():
                maps = list(network(images))
        finally:
            for handle in handles:
                handle.remove()
        recompute = network.model.grad_checkpointing and torch.is_grad_enabled()
        summaries = {}
        for index in range(1, len(blocks)):
            arguments = blocks[index], self.prompts[index - 1].expand(len(images), -1, -1), *seen[index]
            found = checkpoint(query_block, *arguments, use_reentrant=False) if recompute else query_block(*arguments)
            summaries[index] = found
        return tuple(self.with_summaries(maps, summaries, network.out_indices))

    def with_summaries(self, maps: list[Tensor], summaries: Mapping[int, Tensor], indices: Sequence[int]) -> list[Tensor]:
        """Read the summaries out into the maps of blocks ``indices``, which ascend."""
        found, start = [], 0
        for features, index in zip(maps, indices, strict=True):
            own = [summaries[i] for i in range(max(start, 1), index + 1)]
            found.append(read_out(features, torch.cat(own, 1)) if own else features)
            start = index + 1
        return found
