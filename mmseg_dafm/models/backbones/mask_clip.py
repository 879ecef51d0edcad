"""MaskCLIP's dense features: the value projection of CLIP's last attention instead of its attention."""

import torch.nn.functional as F  # noqa: N812
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone


class ValueAttention(nn.Module):
    r"""Self-attention in which every token attends to itself alone.

    .. math:: y = W_o (W_v x + b_v) + b_o

    Its parameters have the names of timm's attention, and checkpoints of one fit the other; the rows of queries and keys are
    not used and keep their values up to weight decay.

    Args:
        attention: timm's attention with a fused ``qkv`` and ``proj``.

    Raises:
        ValueError: If it has another form.

    Source: MaskCLIP (Zhou, Loy, Dai, ECCV 2022), section 3.2.
    """

    def __init__(self, attention: nn.Module):
        super().__init__()
        if getattr(attention, 'qkv', None) is None or not hasattr(attention, 'proj'):
            raise ValueError(f'value features need an attention with qkv and proj, got {type(attention).__name__}.')
        self.qkv, self.proj = attention.qkv, attention.proj

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """Tokens ``(B, N, C)`` to ``(B, N, C)``; masks have nothing to hide here."""
        width = self.qkv.out_features // 3
        bias = None if self.qkv.bias is None else self.qkv.bias[2 * width :]
        return self.proj(F.linear(x, self.qkv.weight[2 * width :], bias))


class ValuePool(nn.Module):
    r"""The value projection of CLIP's attention pooling, at every pixel: :math:`y = W_c (W_v x + b_v) + b_c`.

    Queries, keys and the position embedding of the pooling are left out.

    Args:
        pool: timm's ``AttentionPool2d`` with separate ``q``, ``k`` and ``v``.

    Raises:
        ValueError: If it has another form.

    Source: MaskCLIP (Zhou, Loy, Dai, ECCV 2022), section 3.2.
    """

    def __init__(self, pool: nn.Module):
        super().__init__()
        if getattr(pool, 'v', None) is None or not isinstance(getattr(pool, 'proj', None), nn.Linear):
            raise ValueError(f'value features need the attention pooling of a CLIP ResNet, got {type(pool).__name__}.')
        self.v, self.proj = pool.v, pool.proj

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C, H, W)`` to ``(B, D, H, W)``."""
        return self.proj(self.v(x.movedim(1, -1))).movedim(-1, 1)


@MODELS.register_module()
class MaskCLIPBackbone(VFMBackbone):
    """CLIP's image ViT whose last block gives its value projections in place of attention.

    Deviations from MaskCLIP+, which Domino's Table 1 names: no pseudo labels and no text classifier; the maps, before the
    final norm and the projection to the text space, feed a head that is trained on annotations, and the tower is trained, too.

    Args:
        model_name: A CLIP ViT of timm.
        **kwargs: Those of :class:`VFMBackbone`; the last block must be among ``out_indices``.

    Raises:
        ValueError: If the last of ``out_indices`` is not the network's last block.

    Source: MaskCLIP (Zhou, Loy, Dai, ECCV 2022), section 3.2; Domino, Table 1.
    """

    def __init__(self, model_name: str, **kwargs):
        super().__init__(model_name, **kwargs)
        blocks = self.timm_model.model.blocks
        depth = len(self.timm_model.model.feature_info)
        if len(blocks) != depth:
            raise ValueError(
                f'MaskCLIPBackbone: out_indices end with block {len(blocks) - 1}; value features are those of the last block of '
                f'{model_name!r}: end out_indices with {depth - 1}.'
            )
        blocks[-1].attn = ValueAttention(blocks[-1].attn)
