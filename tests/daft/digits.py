"""Digits in a new light: a small ResNet pretrained on sklearn's digits, fine-tuned on inverted, dimmed and blurred ones."""

import copy
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from mmseg_dafm.daft import convert_bn

WIDTHS = (16, 32, 64)
BATCH = 32


class Residual(nn.Module):
    """Two convolutions with batch norm around a shortcut that has one, too."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class DigitNet(nn.Sequential):
    """Ten batch norm layers; images ``(B, 1, 8, 8)`` -> features ``(B, 64)``."""

    def __init__(self) -> None:
        stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        blocks = [Residual(into, out, stride) for into, out, stride in zip((16, 16, 32), WIDTHS, (1, 2, 2), strict=True)]
        super().__init__(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def digits() -> tuple[Tensor, Tensor]:
    """1797 images in [0, 1], shuffled, and their labels."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.tensor(found.target)[order]


def new_light(images: Tensor) -> Tensor:
    """The target domain: inverted, dimmed, blurred a little, on a gradient."""
    blurred = F.avg_pool2d(F.pad(images, [1, 1, 1, 1], mode='replicate'), 3, 1)
    slope = torch.linspace(0, 1, 8).view(1, 1, 1, 8)
    return 1.5 - 0.5 * blurred - 0.25 * images + 0.6 * slope


def train(features: nn.Module, head: nn.Module, images: Tensor, labels: Tensor, rates: tuple[float, float], epochs: int) -> None:
    """SGD with momentum 0.9 and a cosine schedule, batch norm in train mode."""
    groups = [dict(params=part.parameters(), lr=rate) for part, rate in zip((features, head), rates, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(images) // BATCH))
    features.train()
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(BATCH):
            if len(index) < BATCH:
                continue
            optimizer.zero_grad()
            F.cross_entropy(head(features(images[index])), labels[index]).backward()
            optimizer.step()
            schedule.step()
    features.eval()


def pretrained() -> nn.Module:
    """The source network."""
    torch.manual_seed(0)
    features, head = DigitNet(), nn.Linear(64, 10)
    images, labels = digits()
    train(features, head, images[:900], labels[:900], (0.05, 0.05), 8)
    return features


@torch.no_grad()
def outputs(features: nn.Module, images: Tensor) -> Tensor:
    """Features in test mode."""
    return copy.deepcopy(features).eval()(images)


def run(source: nn.Module, seed: int, conversion: bool, zero_head: bool, rates: tuple[float, float]) -> dict[str, float]:
    """Fine-tune on 320 target images; accuracy (percent) and cosine of features before and after on other target images."""
    torch.manual_seed(seed)
    images, labels = digits()
    images = new_light(images)
    features, head = copy.deepcopy(source), nn.Linear(64, 10)
    if zero_head:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    if conversion:
        convert_bn(features, images[900:1220].split(BATCH))
    train(features, head, images[900:1220], labels[900:1220], rates, 20)
    before, after = outputs(source, images[1220:]), outputs(features, images[1220:])
    with torch.no_grad():
        accuracy = (head(after).argmax(1) == labels[1220:]).float().mean()
    return dict(accuracy=100 * accuracy.item(), cosine=F.cosine_similarity(before, after).mean().item())


def mean_of(measure: Callable[[int], dict[str, float]], seeds: range) -> dict[str, float]:
    """Mean of every value over seeds."""
    found = [measure(seed) for seed in seeds]
    return {key: sum(each[key] for each in found) / len(found) for key in found[0]}
