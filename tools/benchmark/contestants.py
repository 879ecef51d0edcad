"""What `vpd.py` compares: VPDBackbone, the same U-Net with explicit attention everywhere, and the plain U-Net."""

from collections.abc import Callable

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

SMALL_UNET = dict(
    block_out_channels=(64, 128, 128, 128), cross_attention_dim=64, attention_head_dim=4, layers_per_block=2, norm_num_groups=16
)
SMALL_VAE = dict(type='TinyEncoder', latent_channels=4, channels=16, pooled_last=False)
SMALL_TOWER = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, patch_size=16, projection_dim=64
)
ARCHITECTURES = {
    'sd1.5': ('sd1.5', 768, dict(model='openai/clip-vit-large-patch14', pretrained=None)),
    'small': (
        dict(unet=SMALL_UNET, vae=SMALL_VAE),
        64,
        dict(model='small', config=SMALL_TOWER, pretrained=None, image_size=64),
    ),
}


def backbone_config(arch: str, **changes) -> dict:
    """Config of a VPDBackbone with random weights and 19 classes; the text does not change what is computed."""
    architecture, width, _ = ARCHITECTURES[arch]
    return dict(
        type='VPDBackbone',
        architecture=architecture,
        pretrained=None,
        class_embeddings=dict(provider='hash', classes='CityscapesDataset', dim=width),
        **changes,
    )


def domain_config(arch: str) -> dict:
    """Config of a DomainEmbedding with a frozen image tower: ViT-L/14 for SD-1.5."""
    _, width, tower = ARCHITECTURES[arch]
    descriptions = dict(provider='hash', classes='weather8', dim=width, projected_dim=width)
    return dict(type='DomainEmbedding', descriptions=descriptions, image_encoder=tower)


def segmentor_config(arch: str, crop: int, stride: int) -> dict:
    """Config of a Domino-Sub segmentor that slides windows over an image."""
    channels = 256 if arch == 'sd1.5' else 32
    return dict(
        type='DomainAwareEncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
        backbone=backbone_config(arch, fuse='sub'),
        neck=dict(type='FPN', out_channels=channels, num_outs=4),
        decode_head=dict(
            type='DominoFPNHead', in_channels=[channels] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32],
            channels=channels, num_classes=19, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
        ),
        domain_embedding=domain_config(arch),
        train_cfg=dict(),
        test_cfg=dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride)),
    )  # fmt: skip


class GivenLatents(nn.Module):
    """Stands in for the frozen VAE, so that all contestants start from the same latents.

    Args:
        latents: ``(B, 4, H / 8, W / 8)``.
    """

    def __init__(self, latents: Tensor):
        super().__init__()
        self.latents = latents

    def forward(self, images: Tensor) -> Tensor:
        """Return the latents, whatever the images."""
        return self.latents


class ExplicitAttention:
    """Attention processor that materialises every probability, as VPD's code does, and records the head-averaged maps.

    Args:
        maps: List to which each cross-attention's map ``(B, N, T)`` is appended; None records nothing.

    Source: notes on VPD's published code: every attention is explicit, self-attention included; maps are means over heads.
    """

    def __init__(self, maps: list | None):
        self.maps = maps

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_) -> Tensor:
        """Attend from ``(B, N, D)`` to itself or to ``(B, T, E)``; returns ``(B, N, D)``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        split = lambda x: x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # noqa: E731
        query, key, value = split(attn.to_q(hidden_states)), split(attn.to_k(context)), split(attn.to_v(context))
        probs = ((query @ key.transpose(-1, -2)) * attn.scale).softmax(-1)
        if self.maps is not None:
            self.maps.append(probs.mean(1))
        out = (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def prepare(backbone: nn.Module, latents: Tensor) -> nn.Module:
    """Fix a VPDBackbone's latents and make its U-Net callable without the output layers, which VPD has no use for."""
    backbone.latents = GivenLatents(latents)
    backbone.unet.conv_norm_out, backbone.unet.conv_act, backbone.unet.conv_out = None, None, nn.Identity()
    return backbone.train()


def ours(backbone: nn.Module, images: Tensor, checkpointing: bool = False) -> list[Tensor]:
    """Outputs of VPDBackbone."""
    backbone.gradient_checkpointing = checkpointing
    return list(backbone(images))


def floor(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """The last hidden state of diffusers' own forward with SDPA everywhere: no maps, no features."""
    return [_plain(backbone, len(images))]


def explicit(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """VPDBackbone's outputs computed by diffusers' own forward with explicit attention, forward hooks and recorded maps."""
    unet = backbone.unet
    kept, maps, features = unet.attn_processors, {1: [], 2: []}, []
    processors = {}
    for name in kept:
        side, _, rest = name.partition('_blocks.')
        level = int(rest[0]) if side == 'down' else 3 - int(rest[0]) if side == 'up' else -1
        processors[name] = ExplicitAttention(maps.get(level) if '.attn2.' in name else None)
    taps = [unet.up_blocks[0].resnets[1], unet.up_blocks[1].attentions[1], unet.up_blocks[2].attentions[1]]
    hooks = [tap.register_forward_hook(lambda module, args, out: features.append(_hidden(out))) for tap in taps]
    unet.set_attn_processor(processors)
    try:
        features.append(_plain(backbone, len(images)))
    finally:
        unet.set_attn_processor(kept)
        for hook in hooks:
            hook.remove()
    outs = features[::-1]
    for level, found in maps.items():
        grid = torch.stack(found).mean(0).transpose(1, 2).unflatten(-1, outs[level].shape[-2:])
        outs[level] = torch.cat([outs[level], grid.to(outs[level].dtype)], dim=1)
    return outs


def _plain(backbone: nn.Module, batch: int) -> Tensor:
    context = backbone.context(None, batch)
    return backbone.unet(backbone.latents(None), backbone.timestep, context, return_dict=False)[0]


def _hidden(out: Tensor | tuple) -> Tensor:
    """The hidden state of a block; transformers return a tuple."""
    return out if isinstance(out, Tensor) else out[0]


def build_backbone(arch: str, size: int, batch: int, device: torch.device, fake: bool = False) -> tuple[nn.Module, Tensor]:
    """A prepared backbone and images ``(B, 3, size, size)`` in [-1, 1] on a device.

    Args:
        arch: A key of :data:`ARCHITECTURES`.
        size: Side in pixels, a multiple of 64.
        batch: B.
        device: Where it runs.
        fake: Called inside a ``FakeTensorMode``: the weights get a size and no memory.
    """
    torch.manual_seed(0)
    if fake:
        # built outside of the mode, in which no value can be read
        with unset_fake_temporarily(), torch.device('meta'):
            backbone = MODELS.build(backbone_config(arch))
        backbone.to_empty(device=device)
    else:
        backbone = MODELS.build(backbone_config(arch)).to(device)
    latents = torch.randn(batch, backbone.latents.channels, size // 8, size // 8, device=device)
    # the check of the input's range reads values and says nothing here
    backbone._input_checked = True
    return prepare(backbone, latents), torch.zeros(batch, 3, size, size, device=device)


CONTESTANTS: dict[str, Callable[[nn.Module, Tensor], list[Tensor]]] = {
    'floor': floor,
    'ours': ours,
    'ours + checkpointing': lambda backbone, images: ours(backbone, images, True),
    'explicit': explicit,
}
