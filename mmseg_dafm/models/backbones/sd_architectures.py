"""Architectures of the Stable Diffusion checkpoints that VPDBackbone knows without asking a model hub.

Facts of the published ``config.json`` files of SD-1.5 and SD-2.1; a dict in a config replaces them.
"""

import copy

SD15_UNET = dict(
    sample_size=64,
    in_channels=4,
    out_channels=4,
    block_out_channels=(320, 640, 1280, 1280),
    layers_per_block=2,
    down_block_types=('CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'),
    attention_head_dim=8,
    cross_attention_dim=768,
)
SD21_UNET = {
    **SD15_UNET,
    'attention_head_dim': (5, 10, 20, 20),
    'cross_attention_dim': 1024,
    'use_linear_projection': True,
    'upcast_attention': True,
}
SD_VAE = dict(
    type='AutoencoderKL',
    in_channels=3,
    latent_channels=4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    down_block_types=('DownEncoderBlock2D',) * 4,
    up_block_types=('UpDecoderBlock2D',) * 4,
    scaling_factor=0.18215,
)

ARCHITECTURES = {
    'sd1.5': dict(unet=SD15_UNET, vae=SD_VAE),
    'sd2.1': dict(unet=SD21_UNET, vae=SD_VAE),
}


def resolve_architecture(architecture: str | dict) -> dict:
    """Return ``dict(unet=..., vae=...)`` of a known name or of a dict in a config.

    Args:
        architecture: ``'sd1.5'``, ``'sd2.1'`` or a dict with the keys ``unet`` and ``vae``; keys given under ``unet``
            override those of SD-1.5, ``vae`` needs a ``type`` (AutoencoderKL, AutoencoderTiny or TinyEncoder).

    Raises:
        ValueError: For an unknown name or a dict without these keys.
    """
    if isinstance(architecture, str):
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f'architecture={architecture!r} is unknown: use one of {sorted(ARCHITECTURES)} or dict(unet=..., vae=...).'
            )
        return copy.deepcopy(ARCHITECTURES[architecture])
    if set(architecture) != {'unet', 'vae'} or 'type' not in architecture['vae']:
        raise ValueError(
            f'architecture needs exactly the keys unet and vae, and vae a type; got {sorted(architecture)} '
            f'and vae={dict(architecture.get("vae", {}))}.'
        )
    return dict(unet={**SD15_UNET, **architecture['unet']}, vae=dict(architecture['vae']))
