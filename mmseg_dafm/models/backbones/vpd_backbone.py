"""VPDBackbone: a Stable Diffusion U-Net as a segmentation backbone."""

import logging
import math

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.domino import FUSE_MODES, fuse_domain
from mmseg_dafm.models.backbones.latents import LatentEncoder
from mmseg_dafm.models.backbones.sd_weights import load_unet, resolve_architecture
from mmseg_dafm.models.backbones.unet_walk import check_unet, walk_unet
from mmseg_dafm.models.domain.data_check import check_running_data
from mmseg_dafm.models.domain.embedding_file import build_bank, warn_of_text_encoder


class TextAdapter(nn.Module):
    r"""Refine frozen class embeddings by a small residual MLP.

    .. math:: \tilde c = c + \gamma \odot \mathrm{MLP}(c), \qquad \gamma_0 = 10^{-4}

    Args:
        channels: Width D of the class embeddings.
        gamma: Initial value of the per-channel scale.

    Shapes: ``(C, D)`` to ``(C, D)``.

    Source: VPD, eq. 5 and official implementation.
    """

    def __init__(self, channels: int, gamma: float = 1e-4):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.gamma = nn.Parameter(torch.full((channels,), gamma))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the refined class tokens ``(C, D)``."""
        return embeddings + self.gamma * self.mlp(embeddings)


PRESETS = {
    # latents scaled as the U-Net was trained on them; gradients flow through the class maps
    'default': dict(latent_scale=None, timestep=1, map_grad=True),
    # the official VPD code: unscaled latents, and maps without gradient (a side effect of its checkpointing)
    'vpd_legacy': dict(latent_scale=1.0, timestep=1, map_grad=False),
}
STRIDES = (8, 16, 32, 64)


@MODELS.register_module()
class VPDBackbone(BaseModule):
    r"""Stable Diffusion features (strides 8 to 64) and class maps of one pass, class names as the prompt; SD-1.x and SD-2.x.

    .. math:: z = s E(x), \quad c' = \mathrm{fuse}(c + \gamma \mathrm{MLP}(c), W), \quad
        (h_8, h_{16}, h_{32}, h_{64}), (A_{16}, A_{32}) = \mathrm{UNet}(z, t, c'), \quad
        \mathrm{out} = (h_8, [h_{16}, A_{16}], [h_{32}, A_{32}], h_{64})

    Args:
        class_embeddings: Where the class embeddings come from, see
            :func:`mmseg_dafm.models.domain.embedding_file.build_bank`; the pooled (un-projected) vectors are used.
        architecture: ``'sd1.5'``, ``'sd2.1'`` or ``dict(unet=..., vae=...)``.
        pretrained: Hub id, local folder or single file with the weights of U-Net and VAE, or ``dict(unet=..., vae=...)``
            with one source each (None: random). They are read by ``init_weights``, that is before training, not when
            a checkpoint is tested.
        fuse: How the domain embedding W meets the class tokens: none, add, sub or token.
        domain_channels: Width of W when it differs from that of the class tokens; adds a learned linear projection.
        preset: ``default`` or ``vpd_legacy``; sets the next three where they are None.
        latent_scale: Factor s on the latents; None with preset default: the VAE's own scaling factor.
        latent_dtype: ``'bfloat16'`` runs the frozen VAE encoder in bfloat16 whatever the rest does.
        timestep: Diffusion step t in [0, 1000).
        map_grad: Let gradients flow through the class maps.
        map_levels: Levels whose maps are appended, of 0, 1 and 2 (strides 8, 16 and 32).
        frozen: Freeze the U-Net; the text adapter still learns through it.
        gradient_checkpointing: Recompute U-Net layers in backward; same gradients.
        save_frozen: Keep the frozen VAE encoder in checkpoints. Without it, testing needs ``pretrained`` again.
        init_cfg: mmengine's, for checkpoints of this backbone.

    Raises:
        ValueError: For unknown options, and for embeddings or latents of a width the U-Net does not take.

    Source: VPD (Zhao et al., ICCV 2023) and Domino, sec. 2.1 and 2.3.
    Deviation: latents are scaled and maps carry gradients, unlike VPD's published code; ``vpd_legacy`` restores it.
    """

    size_divisor = STRIDES[-1]
    input_mean_std = (127.5, 127.5)

    def __init__(
        self,
        class_embeddings: dict,
        architecture: str | dict = 'sd1.5',
        pretrained: str | dict | None = 'stable-diffusion-v1-5/stable-diffusion-v1-5',
        fuse: str = 'none',
        domain_channels: int | None = None,
        preset: str = 'default',
        latent_scale: float | None = None,
        latent_dtype: str | None = None,
        timestep: int | None = None,
        map_grad: bool | None = None,
        map_levels: tuple[int, ...] = (1, 2),
        frozen: bool = False,
        gradient_checkpointing: bool = False,
        save_frozen: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if preset not in PRESETS:
            raise ValueError(f'preset={preset!r} is unknown: use one of {tuple(PRESETS)}.')
        if fuse not in FUSE_MODES:
            raise ValueError(f'fuse={fuse!r} is unknown: use one of {FUSE_MODES}.')
        if not map_levels or not set(map_levels) <= {0, 1, 2}:
            raise ValueError(f'map_levels={tuple(map_levels)} must be some of 0, 1 and 2: the last level has no cross-attention.')
        given = dict(latent_scale=latent_scale, timestep=timestep, map_grad=map_grad)
        settings = {key: PRESETS[preset][key] if value is None else value for key, value in given.items()}
        self.timestep, self.map_grad = settings['timestep'], settings['map_grad']
        self.map_levels, self.fuse, self.frozen = tuple(map_levels), fuse, frozen
        self.gradient_checkpointing = gradient_checkpointing
        self._sources = dict(pretrained) if isinstance(pretrained, dict) else dict(unet=pretrained, vae=pretrained)
        self._unet_loaded = False

        parts = resolve_architecture(architecture)
        self.unet = UNet2DConditionModel.from_config(parts['unet'])
        check_unet(self.unet)
        del self.unet.conv_norm_out, self.unet.conv_act, self.unet.conv_out  # they would never get a gradient
        if frozen:
            self.unet.requires_grad_(False)
        self.latents = LatentEncoder(parts['vae'], settings['latent_scale'], self._sources.get('vae'), save_frozen, latent_dtype)

        bank = build_bank(class_embeddings, 'backbone.class_embeddings')
        if bank.pooled is None:
            raise ValueError(f'class_embeddings={class_embeddings} hold no pooled vectors: write them with tools/embed_text.py.')
        warn_of_text_encoder(bank, architecture)
        self.class_names = tuple(bank.names)
        self._check_widths(bank.pooled.shape[-1])
        self.register_buffer('class_embeddings', bank.pooled.float())
        width = bank.pooled.shape[-1]
        self.text_adapter = TextAdapter(width)
        project = fuse != 'none' and domain_channels not in (None, width)
        self.domain_projection = nn.Linear(domain_channels, width) if project else None
        self._input_checked = self._classes_checked = False

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the four outputs; with 19 classes SD-1.5 gives (320, 659, 1299, 1280)."""
        widths = self.unet.config.block_out_channels
        return tuple(width + len(self.class_names) * (level in self.map_levels) for level, width in enumerate(widths))

    @property
    def uses_domain(self) -> bool:
        """Whether forward wants the domain embedding W."""
        return self.fuse != 'none'

    def init_weights(self) -> None:
        """Compare the class names with the run's data, then read the weights; diffusers' own initialisers are never reached."""
        self._check_classes(('train_dataloader', 'val_dataloader'))
        if self._sources.get('unet') is not None and not self._unet_loaded:
            load_unet(self.unet, self._sources['unet'])
            self._unet_loaded = True
        self.latents.init_weights()
        if self.init_cfg is not None:
            from mmengine.model import initialize

            initialize(self, self.init_cfg)
        self._is_init = True

    def train(self, mode: bool = True) -> 'VPDBackbone':
        """Set the mode; a frozen U-Net stays in test mode."""
        super().train(mode)
        if self.frozen:
            self.unet.eval()
        return self

    def context(self, domain: Tensor | None, batch: int) -> Tensor:
        """Cross-attention context ``(B, C, D)`` or ``(B, C + 1, D)``; ``domain`` is W ``(B, Dw)`` or None."""
        if domain is not None and self.domain_projection is not None:
            domain = self.domain_projection(domain)
        tokens = self.text_adapter(self.class_embeddings)
        return fuse_domain(tokens, domain, self.fuse).expand(batch, -1, -1)

    def forward(self, images: Tensor, domain: Tensor | None = None) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            images: RGB ``(B, 3, H, W)`` in [-1, 1] (mean and std 127.5); any H, W.
            domain: Domain embeddings W ``(B, Dw)``, needed unless fuse is ``none``.

        Returns:
            Four tensors ``(B, C_i, ceil(H / s), ceil(W / s))`` for s = 8, 16, 32, 64, see :attr:`out_channels`.

        Raises:
            ValueError: If the images of the first batch are not in [-1, 1], W is missing, or the classes of the run's data
                are not those of the embeddings.
        """
        if not self._input_checked and not torch.compiler.is_compiling():
            self._check_range(images)
            if not self.training:
                self._check_classes(('test_dataloader',))
        height, width = images.shape[-2:]
        pad = -width % STRIDES[-1], -height % STRIDES[-1]
        if any(pad):
            images = F.pad(images, (0, pad[0], 0, pad[1]))
        latents = self.latents(images)
        context = self.context(domain if self.uses_domain else None, len(images))
        features, maps = walk_unet(self.unet, latents, self.timestep, context, self.map_levels, self.gradient_checkpointing)
        outs = []
        for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True)):
            if level in maps:
                class_maps = maps[level][:, : len(self.class_names)]
                class_maps = class_maps if self.map_grad else class_maps.detach()
                feature = torch.cat([feature, class_maps.to(feature.dtype)], dim=1)
            outs.append(feature[..., : math.ceil(height / stride), : math.ceil(width / stride)] if any(pad) else feature)
        return tuple(outs)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        found = state_dict.get(prefix + 'class_embeddings')
        if found is not None and found.shape != self.class_embeddings.shape:
            raise ValueError(
                f'the checkpoint holds embeddings of {len(found)} classes, {found.shape[-1]} wide, and the config names '
                f'{len(self.class_names)}, {self.class_embeddings.shape[-1]} wide: set class_embeddings and num_classes to the '
                f"checkpoint's, or drop the keys backbone.class_embeddings, neck.* and decode_head.* from it."
            )
        if found is not None and not found.is_meta and not torch.allclose(found.to(self.class_embeddings), self.class_embeddings):
            print_log("class embeddings differ from the checkpoint's, which are used", logger='current', level=logging.WARNING)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _check_classes(self, dataloaders: tuple[str, ...]) -> None:
        """Compare the class names with the data of the run, once; our own tools have done so before the model was built."""
        if not self._classes_checked:
            check_running_data(self.class_names, dataloaders)
            self._classes_checked = True

    def _check_widths(self, width: int) -> None:
        """Class embeddings must fit the U-Net's context, latents its input."""
        wanted = self.unet.config.cross_attention_dim
        if width != wanted:
            raise ValueError(
                f'class_embeddings are {width} wide and the U-Net takes {wanted}: embed the names with the text encoder of that '
                f'Stable Diffusion release (SD-1.x: openai/clip-vit-large-patch14, 768; SD-2.x: OpenCLIP ViT-H/14, 1024).'
            )
        if self.latents.channels != self.unet.config.in_channels:
            raise ValueError(
                f'architecture: the VAE makes {self.latents.channels} latent channels and the U-Net takes '
                f'{self.unet.config.in_channels}; they must be equal.'
            )

    def _check_range(self, images: Tensor) -> None:
        """Catch ImageNet-normalised input, which the VAE was never trained on; once, because it waits for the device."""
        low, high = images.detach().amin().item(), images.detach().amax().item()
        if low < -1.01 or high > 1.01:
            raise ValueError(
                f'VPDBackbone takes images in [-1, 1], got [{low:.2f}, {high:.2f}]: set mean=[127.5] * 3 and std=[127.5] * 3 '
                f'in data_preprocessor (ImageNet statistics do not fit the VAE).'
            )
        self._input_checked = True
