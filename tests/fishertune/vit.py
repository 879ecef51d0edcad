"""A small ViT with a per-pixel classifier, in float64, for the tests of the Fisher estimation."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Segmenter(nn.Module):
    """ViT tokens -> logits (B, K, 4, 4)."""

    def __init__(self, classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = VisionTransformer(
            img_size=16,
            patch_size=4,
            embed_dim=12,
            depth=3,
            num_heads=2,
            num_classes=0,
            global_pool='',
            dynamic_img_size=True,
            # an estimation that forgot the test mode would show
            proj_drop_rate=0.2,
        )
        self.head = nn.Linear(12, classes)
        nn.init.normal_(self.head.weight)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.backbone.forward_features(images)[:, 1:]
        return self.head(tokens).transpose(1, 2).unflatten(2, (4, 4))


def samples(count: int, classes: int = 3, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Images (3, 16, 16) of different contrast, and labels (4, 4)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 16, 16, generator=generator, dtype=torch.float64)
    images = images * (0.5 + torch.rand(count, 1, 1, 1, generator=generator)) + torch.randn(count, 3, 1, 1, generator=generator)
    labels = torch.randint(0, classes, (count, 4, 4), generator=generator)
    return list(zip(images, labels, strict=True))


def losses_of(model: nn.Module):
    """One cross-entropy per sample."""

    def losses(batch, seeds) -> Tensor:
        logits = model(torch.stack([image for image, _ in batch]))
        return nn.functional.cross_entropy(logits, torch.stack([label for _, label in batch]), reduction='none').mean((1, 2))

    return losses
