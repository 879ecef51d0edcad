"""AdaptFormer: a bottleneck parallel to the feed-forward network of every block."""

from functools import partial

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.models.adapters.adapter import Adapter, check_blocks, check_positive


class Bottleneck(nn.Module):
    r"""Down-projection, ReLU, up-projection: :math:`W_{up}\,\mathrm{ReLU}(W_{down} x)`, zero at the start.

    Args:
        channels: Width C of input and output ``(..., C)``.
        hidden: Width in between.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for start in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., C)`` to ``(..., C)``."""
        return self.up(torch.relu(self.down(x)))


@MODELS.register_module()
class AdaptFormer(Adapter):
    r"""Bottlenecks parallel to the feed-forward networks.

    With x' the tokens after attention and its residual connection,

    .. math:: \tilde x = W_{up}\,\mathrm{ReLU}(W_{down}\,\mathrm{LN}(x')), \qquad
        x = x' + \mathrm{MLP}(\mathrm{LN}(x')) + s \tilde x

    LN is the block's own second norm. The up-projections are zero at the start, and the maps those of the plain backbone, to the
    bit. LayerScale and stochastic depth act on the MLP alone.

    Args:
        vit: timm's ViT; SAM's blocks are fine.
        bottleneck: Hidden width; 64 in ViT-L are 24 x (2 x 1024 x 64 + 64 + 1024) = 3,171,840 parameters.
        scale: The factor s; a checkpoint with another one is refused.

    Raises:
        ValueError: For sizes that are not positive, or blocks that are not pre-norm.

    Source: AdaptFormer (Chen et al., NeurIPS 2022), eq. 3 and 4. The official code leaves out the norm of the adapter's input;
    the equations, which have it, are followed here.
    """

    def __init__(self, vit: nn.Module, bottleneck: int = 64, scale: float = 0.1):
        check_positive('AdaptFormer', bottleneck=bottleneck, scale=scale)
        check_blocks(vit, 'AdaptFormer')
        super().__init__()
        self.scale = scale
        self.record_factor(scale)
        self.blocks = nn.ModuleList(Bottleneck(vit.embed_dim, bottleneck) for _ in vit.blocks)
        # by block, from its norm to its end, within one call
        self.normed: dict[int, Tensor] = {}
        for index, block in enumerate(vit.blocks):
            block.norm2.register_forward_hook(partial(self.keep, index))
            block.register_forward_hook(partial(self.add, index))

    def keep(self, index: int, norm: nn.Module, args: tuple, output: Tensor) -> None:
        """Keep LN(x') for the end of the block."""
        self.normed[index] = output

    def add(self, index: int, block: nn.Module, args: tuple, output: Tensor) -> Tensor:
        """Add s times the adapter's output."""
        return output + self.scale * self.blocks[index](self.normed.pop(index)).view_as(output)
