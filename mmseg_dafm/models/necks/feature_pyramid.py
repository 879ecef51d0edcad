"""ScalePyramid: maps of one scale become a pyramid, without parameters."""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class ScalePyramid(BaseModule):
    r"""Resample each map bilinearly by its own factor; the default turns stride 16 into strides 4, 8, 16, 32. No parameters.

    .. math:: y_i = \mathrm{resize}(x_i, s_i)

    Args:
        scales: Factor s_i of each map, finest first.
        align_corners: Of the resampling; False as in every head here.
        neck: Config of a neck that takes the pyramid, for example mmseg's ``FPN``; None: the pyramid itself is the output.
        in_channels: Channels C_i for ``neck`` where its config has none; DomainAwareEncoderDecoder gives the backbone's.
        init_cfg: mmengine's.

    Raises:
        ValueError: If a factor is not positive, or there are not as many channels as factors.

    Source: Rein (Wei et al., CVPR 2024), the pyramid between ViT and Mask2Former.
    """

    def __init__(
        self,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        align_corners: bool = False,
        neck: dict | None = None,
        in_channels: Sequence[int] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if not scales or min(scales) <= 0:
            raise ValueError(f'scales={tuple(scales)} must be positive factors, one for each map.')
        if in_channels is not None and len(in_channels) != len(scales):
            raise ValueError(f'scales={tuple(scales)} do not fit the {len(in_channels)} maps with {list(in_channels)} channels.')
        # of the outputs, for the head; another neck knows them itself
        self.map_channels = None if neck is not None or in_channels is None else tuple(in_channels)
        self.scales, self.align_corners = tuple(scales), align_corners
        if neck is not None and in_channels is not None:
            neck = {'in_channels': list(in_channels), **neck}
        self.neck = None if neck is None else MODELS.build(neck)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Resample.

        Args:
            inputs: Maps ``(B, C_i, H, W)``, as many as factors.

        Returns:
            Maps ``(B, C_i, floor(s_i H), floor(s_i W))``, or what ``neck`` makes of them.

        Raises:
            ValueError: If there are more or fewer maps than factors.
        """
        if len(inputs) != len(self.scales):
            raise ValueError(
                f'ScalePyramid got {len(inputs)} maps for scales={self.scales}: give one scale per entry of out_indices.'
            )
        outs = tuple(self._resize(x, scale) for x, scale in zip(inputs, self.scales, strict=True))
        return outs if self.neck is None else tuple(self.neck(outs))

    def _resize(self, x: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return x
        return F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=self.align_corners)
