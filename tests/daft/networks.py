"""Random networks of convolutions, batch norms and residuals, and a straightforward float64 conversion written apart."""

import math

import torch
from torch import nn


class Block(nn.Module):
    """Conv, batch norm, ReLU, with a residual connection where shapes allow."""

    def __init__(self, into: int, out: int, stride: int, dilation: int, groups: int, **norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, 3, stride, dilation, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(out, **norm)
        self.residual = into == out and stride == 1

    def forward(self, x):
        y = self.bn(self.conv(x))
        return torch.relu(x + y if self.residual else y)


class Net(nn.Module):
    """A stem, blocks with strides, dilations and groups, and a pooled linear head."""

    def __init__(self, width: int = 8, **norm) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            Block(3, width, 1, 1, 1, **norm),
            Block(width, width, 1, 2, 2, **norm),
            Block(width, 2 * width, 2, 1, 1, **norm),
            Block(2 * width, 2 * width, 1, 1, 4, **norm),
            Block(2 * width, 2 * width, 1, 2, 2 * width, **norm),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(2 * width), nn.Linear(2 * width, 4))

    def forward(self, x):
        return self.head(self.backbone(x))


def norms(model: nn.Module) -> list[nn.Module]:
    """Batch norm layers in the order of the model."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def randomise(model: nn.Module, seed: int = 0, hostile: bool = False) -> nn.Module:
    """Give every batch norm a past: statistics and parameters far from initialisation.

    With ``hostile``, gammas of both signs and zero, and source variances from 1e-8 to 1e3.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(size, generator=generator)  # noqa: E731
    for layer in norms(model):
        channels = layer.num_features
        layer.running_mean.copy_(draw(channels))
        layer.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)
        with torch.no_grad():
            layer.weight.copy_(1 + 0.2 * draw(channels))
            layer.bias.copy_(0.2 * draw(channels))
            if hostile:
                layer.running_var.copy_(torch.logspace(-8, 3, channels))
                layer.weight.copy_(draw(channels))
                layer.weight[::5] = 0
                # keep the activations in range where the variance is tiny
                layer.weight.mul_((layer.running_var + layer.eps).sqrt().clamp(max=1))
    model.eval()  # mmseg's ResNet returns nothing here
    return model


def images(count: int, batch: int, size: int = 12, seed: int = 1) -> list[torch.Tensor]:
    """Batches of images that are brighter and coarser than noise."""
    generator = torch.Generator().manual_seed(seed)
    return [0.7 + 1.8 * torch.randn(batch, 3, size, size, generator=generator) for _ in range(count)]


def converted_by_hand(model: nn.Module, batches: list[torch.Tensor], pooled: bool) -> dict[str, tuple]:
    """Target mean, variance, gamma and beta of each layer: float64, plain Python sums, the whole set kept in memory.

    Every layer is treated on its own: its inputs in test mode are collected, and scalars are added up per channel.
    """
    model = model.double().eval()
    result = {}
    for name, layer in model.named_modules():
        if layer not in norms(model):
            continue
        seen = []
        handle = layer.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            for batch in batches:
                model(batch.double())
        handle.remove()
        rows = []
        for channel in range(layer.num_features):
            groups = [value[:, channel].reshape(-1).tolist() for value in seen]
            if pooled:
                groups = [[value for group in groups for value in group]]
            means = [math.fsum(group) / len(group) for group in groups]
            variances = [
                math.fsum((value - mean) ** 2 for value in group) / (len(group) - 1)
                for group, mean in zip(groups, means, strict=True)
            ]
            total = sum(len(group) for group in groups)
            weigh = lambda values, total=total, groups=groups: math.fsum(  # noqa: E731
                len(group) * value / total for group, value in zip(groups, values, strict=True)
            )
            mean, variance = weigh(means), weigh(variances)
            old_mean, old_var, gamma, beta = (
                value[channel].item() for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
            )
            source = math.sqrt(old_var + layer.eps)
            new_gamma = gamma * math.sqrt(variance + layer.eps) / source
            rows.append((mean, variance, new_gamma, beta + gamma * (mean - old_mean) / source))
        result[name] = tuple(torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    return result
