"""Key names of the original Stable Diffusion code and of the official VPD segmentation checkpoints."""

from collections.abc import Mapping

from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

# diffusers' names of the U-Net's output layers, which predict noise; a backbone ends before them
UNUSED_UNET_KEYS = ('conv_norm_out.', 'conv_out.')
LDM_UNET, LDM_VAE = 'model.diffusion_model.', 'first_stage_model.'
# official prefix -> prefix in a DomainAwareEncoderDecoder; kept tensor by tensor
RENAMED = {
    'text_adapter.fc.': 'backbone.text_adapter.mlp.',
    'gamma': 'backbone.text_adapter.gamma',
    'class_embeddings': 'backbone.class_embeddings',
    'neck.': 'neck.',
    'decode_head.': 'decode_head.',
    'auxiliary_head.': 'auxiliary_head.',
}
OFFICIAL_UNET, OFFICIAL_VAE = 'unet.unet.diffusion_model.', 'encoder_vq.'
# the noise schedule, the VAE's training loss and decoder side, and the U-Net's output layers, which no segmentor uses
DROPPED = ('sd_model.', 'encoder_vq.loss.', 'encoder_vq.decoder.', 'encoder_vq.post_quant_conv.', OFFICIAL_UNET + 'out.')


def convert_unet(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Original U-Net keys to diffusers'; output layers are left out.

    Args:
        state: Keys without prefix (``input_blocks.0.0.weight``, ...).
        config: diffusers config of the U-Net.
    """
    converted = convert_ldm_unet_checkpoint({LDM_UNET + key: value for key, value in state.items()}, dict(config))
    return {key: value for key, value in converted.items() if not key.startswith(UNUSED_UNET_KEYS)}


def convert_vae(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Original VAE keys to diffusers'; only the encoder and its ``quant_conv`` are kept.

    Args:
        state: Keys without prefix (``encoder.conv_in.weight``, ...).
        config: diffusers config of the VAE.
    """
    wanted = {LDM_VAE + k: v for k, v in state.items() if k.startswith(('encoder.', 'quant_conv.'))}
    return convert_ldm_vae_checkpoint(wanted, dict(config))


def convert_vpd_checkpoint(state: Mapping[str, Tensor], unet_config: Mapping, vae_config: Mapping) -> tuple[dict, list[str]]:
    """Official VPD segmentation weights to a DomainAwareEncoderDecoder with a VPDBackbone of preset ``vpd_legacy``.

    Args:
        state: The checkpoint's ``state_dict`` (keys ``unet.unet.diffusion_model.*``, ``encoder_vq.*``, ...).
        unet_config: diffusers config of the U-Net.
        vae_config: diffusers config of the VAE.

    Returns:
        The converted state dict, and the names of the tensors that are left out on purpose.

    Raises:
        ValueError: If this is no VPD segmentation checkpoint, or a key is not understood.

    Source: wl-zhao/VPD, segmentation/models/vpd_seg.py (names of its modules).
    """
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}  # noqa: E731
    if not part(OFFICIAL_UNET) or 'gamma' not in state:
        raise ValueError(
            f'not an official VPD segmentation checkpoint: no {OFFICIAL_UNET}* or gamma among its {len(state)} keys '
            f'(first {sorted(state)[:3]}).'
        )
    try:
        converted = {f'backbone.unet.{k}': v for k, v in convert_unet(part(OFFICIAL_UNET), unet_config).items()}
        converted.update({f'backbone.latents.{k}': v for k, v in convert_vae(part(OFFICIAL_VAE), vae_config).items()})
    except (KeyError, IndexError) as error:
        # diffusers looks tensors up by the names that the architecture has
        raise ValueError(
            f'the VPD checkpoint lacks {error} of the U-Net or VAE: it is incomplete, or --architecture is not its own.'
        ) from error
    dropped, unknown = [], []
    for key, value in state.items():
        if key.startswith(DROPPED):
            dropped.append(key)
        elif key.startswith((OFFICIAL_UNET, OFFICIAL_VAE)):
            continue
        else:
            prefix = next((p for p in RENAMED if key == p or (p.endswith('.') and key.startswith(p))), None)
            if prefix is None:
                unknown.append(key)
            else:
                converted[RENAMED[prefix] + key.removeprefix(prefix)] = value
    if unknown:
        raise ValueError(f'{len(unknown)} keys of the VPD checkpoint are not understood: {unknown[:5]}.')
    expected = len(state) - len(dropped)
    if len(converted) != expected:
        raise ValueError(f'{expected} tensors should have been converted, {len(converted)} were: the architecture differs.')
    return converted, dropped
