"""The frozen image encoder of a latent diffusion model: images in [-1, 1] to scaled latents at stride 8."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from mmseg_dafm.models.backbones.sd_weights import load_vae_encoder
from mmseg_dafm.models.layers.frozen_tower import FrozenTower

KINDS = ('AutoencoderKL', 'AutoencoderTiny', 'TinyEncoder')


class PooledBlock(nn.Module):
    """Residual block of the TAESD family; late blocks of newer models add a group-normed pointwise branch first."""

    def __init__(self, channels: int, pooled: bool):
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1)  # noqa: E731
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
        wide = 4 * channels
        self.pool = (
            nn.Sequential(
                nn.Conv2d(channels, wide, 1, bias=False),
                nn.GroupNorm(4, wide),
                nn.ReLU(),
                nn.Conv2d(wide, channels, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class TinyEncoder(nn.Sequential):
    """Encoder of the tiny autoencoders with pooled late blocks (TAEF2), whose weights come as one flat state dict.

    diffusers' ``AutoencoderTiny`` lacks that branch. Input in [-1, 1] ``(B, 3, H, W)``, output ``(B, C, H/8, W/8)``.

    Source: madebyollin/taesd (MIT), facts of the published weights.
    """

    def __init__(self, latent_channels: int, channels: int = 64, pooled_last: bool = True):
        layers = [nn.Conv2d(3, channels, 3, padding=1), PooledBlock(channels, False)]
        for stage in range(3):
            layers.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False))
            layers += [PooledBlock(channels, pooled_last and stage == 2) for _ in range(3)]
        super().__init__(*layers, nn.Conv2d(channels, latent_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Encode images in [-1, 1]; the network itself was trained on [0, 1]."""
        return super().forward(x.add(1).div(2))


class LatentEncoder(FrozenTower):
    r"""Frozen VAE encoder: only what encodes is kept.

    .. math:: z = s \cdot \mathrm{mode}(q(z | x))

    Args:
        vae: Architecture with a ``type`` of :data:`KINDS` and the library's arguments.
        scale: Factor s; None takes the VAE's own ``scaling_factor`` (0.18215 for SD-1.x/2.x).
        source: Hub id, folder or file of the pretrained weights, as ``sd_weights.load_vae_encoder`` takes it.
        save: Keep the encoder's weights in checkpoints.
        dtype: ``'bfloat16'`` encodes under autocast and in channels-last layout, at less than half the time where the
            hardware has bfloat16; the encoder is frozen and the VAEs of SD-1.x/2.x are safe in it. None: as the caller.

    Raises:
        ValueError: For an unknown type or dtype.

    Source: Stable Diffusion; VPD takes the posterior's mode and leaves the factor out (preset ``vpd_legacy``, s = 1).
    """

    def __init__(
        self, vae: dict, scale: float | None = None, source: str | None = None, save: bool = True, dtype: str | None = None
    ):
        super().__init__(source, frozen=True, save=save)
        arguments = dict(vae)
        kind = arguments.pop('type')
        if kind not in KINDS:
            raise ValueError(f'vae.type={kind!r} is unknown: use one of {KINDS}.')
        own_scale = 1.0
        self.quant_conv = None
        if kind == 'TinyEncoder':
            self.encoder = TinyEncoder(**arguments)
        else:
            library = (AutoencoderKL if kind == 'AutoencoderKL' else AutoencoderTiny).from_config(arguments)
            self.encoder, self.quant_conv = library.encoder, getattr(library, 'quant_conv', None)
            own_scale = library.config.scaling_factor
        self.variational, self.config = kind == 'AutoencoderKL', arguments
        self.channels = arguments.get('latent_channels', 4)
        self.scale = own_scale if scale is None else scale
        if dtype not in (None, 'bfloat16'):
            raise ValueError(f"latent_dtype={dtype!r} is unknown: use 'bfloat16' or None.")
        self.bfloat16 = dtype == 'bfloat16'
        if self.bfloat16:
            self.encoder.to(memory_format=torch.channels_last)
        self.freeze()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1]; H and W multiples of 8.

        Returns:
            Latents ``(B, C, H/8, W/8)``.
        """
        if self.bfloat16:
            with torch.autocast(images.device.type, torch.bfloat16):
                moments = self._moments(images.to(memory_format=torch.channels_last)).to(images.dtype)
        else:
            moments = self._moments(images)
        mode = moments.chunk(2, dim=1)[0] if self.variational else moments
        return mode * self.scale

    def read_pretrained(self) -> None:
        """Fill the encoder from ``source``."""
        load_vae_encoder(self, self.source)

    def _moments(self, images: Tensor) -> Tensor:
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)
