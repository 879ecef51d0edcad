"""UNetHead: the decoder of a U-Net over the stages of any encoder."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class UNetHead(BaseDecodeHead):
    """Decoder of a U-Net over any encoder: enlarge, join the encoder's map, two 3x3 convolutions; then classify.

    Args:
        in_channels: Channels of the encoder's maps, finest first.
        channels: Channels of the decoder's steps, coarsest first: one fewer than maps. The last of them feed the classifier.
        in_index: Which maps of the backbone are taken, finest first; None: all, in order.
        **kwargs: Those of mmseg's ``BaseDecodeHead``.

    Raises:
        ValueError: If the numbers of maps and steps do not fit.

    Source: Ronneberger et al., "U-Net", MICCAI 2015, with bilinear enlarging and padded convolutions; Domino, Table 1.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: Sequence[int], in_index: Sequence[int] | None = None, **kwargs
    ) -> None:
        if len(in_channels) < 2 or len(channels) != len(in_channels) - 1:
            raise ValueError(
                f'UNetHead: {len(in_channels)} maps (in_channels) need {len(in_channels) - 1} steps, channels={tuple(channels)}.'
            )
        in_index = list(range(len(in_channels)) if in_index is None else in_index)
        super().__init__(
            in_channels=list(in_channels), channels=channels[-1], in_index=in_index, input_transform='multiple_select', **kwargs
        )
        settings = dict(padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.steps = nn.ModuleList()
        below = in_channels[-1]
        for skip, width in zip(in_channels[-2::-1], channels, strict=True):
            pair = ConvModule(below + skip, width, 3, **settings), ConvModule(width, width, 3, **settings)
            self.steps.append(nn.Sequential(*pair))
            below = width

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, classes, H, W)`` of maps ``(B, C_i, H_i, W_i)``, at the size of the finest."""
        *skips, x = self._transform_inputs(inputs)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode='bilinear', align_corners=self.align_corners)
            x = step(torch.cat([x, skip], 1))
        return self.cls_seg(x)
