"""CLIP's ResNet visual tower up to the attention pooling, straight from its published description, for comparison.

Source: Radford et al. 2021, section 2.4: ResNet-D stem of three convolutions with average pooling, and anti-aliased strides
(average pooling before the last convolution and on the shortcut).
"""

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Residual block ``(B, in, H, W)`` to ``(B, 4 * width, H / stride, W / stride)``; the stride is an average pooling."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.pool = nn.AvgPool2d(stride)
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            conv = nn.Conv2d(channels, 4 * width, 1, bias=False)
            self.downsample = nn.ModuleDict({'0': conv, '1': nn.BatchNorm2d(4 * width)})

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(self.pool(y)))
        if self.downsample is not None:
            x = self.downsample['1'](self.downsample['0'](self.pool(x)))
        return (x + y).relu()


class ClipResNet50(nn.Module):
    """The tower; ``forward`` gives the maps of the four stages at strides 4, 8, 16 and 32."""

    def __init__(self):
        super().__init__()
        for index, (channels, width) in enumerate([(3, 32), (32, 32), (32, 64)], 1):
            conv = nn.Conv2d(channels, width, 3, stride=2 if index == 1 else 1, padding=1, bias=False)
            setattr(self, f'conv{index}', conv)
            setattr(self, f'bn{index}', nn.BatchNorm2d(width))
        channels = 64
        for stage, depth in enumerate((3, 4, 6, 3), 1):
            width, blocks = 32 * 2**stage, []
            for index in range(depth):
                blocks.append(Bottleneck(channels, width, 2 if index == 0 and stage > 1 else 1))
                channels = 4 * width
            setattr(self, f'layer{stage}', nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``(B, 3, H, W)`` to four feature maps."""
        for index in '123':
            x = getattr(self, f'bn{index}')(getattr(self, f'conv{index}')(x)).relu()
        x, maps = nn.functional.avg_pool2d(x, 2), []
        for stage in '1234':
            x = getattr(self, f'layer{stage}')(x)
            maps.append(x)
        return maps
