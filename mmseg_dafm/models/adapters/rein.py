"""Rein: learnable low-rank tokens that refine the features after every block, and that can become object queries."""

import math
from functools import partial

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.models.adapters.adapter import Adapter, check_positive


def refinement(features: Tensor, tokens: Tensor, to_feature: nn.Module, to_delta: nn.Module) -> Tensor:
    r"""Delta f of Rein.

    .. math:: S = \mathrm{softmax}(f T^\top / \sqrt{C}), \quad \bar\Delta = S_{:,2:m}\,(T_{2:m} W_T + b_T), \quad
        \Delta f = (\bar\Delta + f) W_f + b_f

    A feature that fits no token can put its weight on the first, which adds nothing.

    Args:
        features: f ``(..., C)``.
        tokens: T ``(m, C)``.
        to_feature: Linear layer W_T, b_T.
        to_delta: Linear layer W_f, b_f.

    Source: Rein (Wei et al., CVPR 2024), sec. 3.2.
    """
    similarity = (features @ tokens.T / math.sqrt(features.shape[-1])).softmax(-1)
    return to_delta(similarity[..., 1:] @ to_feature(tokens[1:]) + features)


@MODELS.register_module()
class Rein(Adapter):
    r"""Low-rank tokens refine the patch tokens after every block.

    .. math:: f_i \leftarrow f_i + s\,\Delta f(f_i), \qquad T_i = A_i B_i

    with :func:`refinement` and tokens of low rank; the two linear layers and s are shared by all blocks. Prefix tokens (CLS,
    registers) are left alone.

    With ``query_channels`` the tokens also give object queries: :math:`Q_i = T_i W_Q + b_Q`, and
    :math:`Q = [\max_i Q_i, \mathrm{mean}_i Q_i, Q_L] W + b`. The segmentor ``ReinEncoderDecoder`` puts them in the place of
    Mask2Former's learned query features; its query positions stay. Without, Rein fits any head.

    Args:
        vit: timm's ViT; SAM's is fine.
        tokens: m, tokens of each block.
        rank: Of the tokens' matrices.
        query_channels: Width of the object queries, the head's ``channels``; None: no queries. With 256 in ViT-L there are
            2,990,081 parameters, without 2,530,817.

    Raises:
        ValueError: For sizes that are not positive, fewer than two tokens, or, in training, queries that no segmentor takes.

    Source: Rein (Wei et al., CVPR 2024), eq. 3 to 9; written from the paper's description. Our choices: W_f and b_f are zero and
    s is 1 at the start, so the maps are those of the plain backbone to the bit; the tokens' first factor is uniform, and the
    second is scaled so that their product has the spread of VPT's prompts.
    """

    def __init__(self, vit: nn.Module, tokens: int = 100, rank: int = 16, query_channels: int | None = None):
        check_positive('Rein', tokens=tokens - 1, rank=rank, query_channels=query_channels or 1)
        super().__init__()
        width, depth = vit.embed_dim, len(vit.blocks)
        self.prefix = getattr(vit, 'num_prefix_tokens', 0)
        bound = math.sqrt(6 / (3 * math.prod(vit.patch_embed.patch_size) + width))
        self.left = nn.Parameter(torch.empty(depth, tokens, rank).uniform_(-1, 1))
        # a sum of ``rank`` products of uniform numbers, each of variance bound^2 / 3 / rank
        right = bound * math.sqrt(3 / rank)
        self.right = nn.Parameter(torch.empty(depth, rank, width).uniform_(-right, right))
        self.to_feature, self.to_delta = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.to_delta.weight)
        nn.init.zeros_(self.to_delta.bias)
        self.query_channels, self.linked = query_channels, False
        if query_channels is not None:
            self.to_query = nn.Linear(width, query_channels)
            self.merge = nn.Linear(3 * query_channels, query_channels)
        for index, block in enumerate(vit.blocks):
            block.register_forward_hook(partial(self.refine, index))

    def refine(self, index: int, block: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """Refine the patch tokens ``(B, N, C)`` or ``(B, H, W, C)`` that block ``index`` gives."""
        patches = output[:, self.prefix :]
        tokens = self.left[index] @ self.right[index]
        patches = patches + self.scale * refinement(patches, tokens, self.to_feature, self.to_delta)
        return torch.cat([output[:, : self.prefix], patches], 1)

    def forward(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Maps, see :class:`Adapter`."""
        if self.training and self.query_channels is not None and not self.linked:
            raise ValueError(
                f'backbone.adapter.query_channels={self.query_channels} of Rein makes object queries that no head takes: set '
                "model.type='ReinEncoderDecoder', or leave query_channels out."
            )
        return super().forward(network, images)

    def object_queries(self) -> Tensor:
        """Object queries ``(m, query_channels)``."""
        each = self.to_query(self.left @ self.right)
        return self.merge(torch.cat([each.amax(0), each.mean(0), each[-1]], -1))
