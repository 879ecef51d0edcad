"""VQT: learnable queries that look into every block and leave its tokens as they are."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_dafm.models.adapters.adapter import Adapter, check_blocks, check_positive, check_token_sequence, prompt_parameter
from mmseg_dafm.models.adapters.query_block import has_query_path, query_block


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
