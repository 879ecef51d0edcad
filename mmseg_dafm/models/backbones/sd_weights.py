"""Weights of Stable Diffusion: architectures, files in every usual form, checkpoints of the official VPD code."""

import copy
from collections.abc import Mapping
from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor, nn

from mmseg_dafm.core.checkpoint import read_weights
from mmseg_dafm.core.quiet import quiet_loading
from mmseg_dafm.models.layers.frozen_tower import fill

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


def load_unet(unet: nn.Module, source: str) -> None:
    """Fill a U-Net without output layers.

    Args:
        unet: The module to fill in place.
        source: Hub id, folder with a ``unet`` subfolder, or a ``.ckpt`` / ``.safetensors`` file with the original key names.

    Raises:
        FileNotFoundError: If the source is neither on disk nor reachable.
        ValueError: If keys are missing or left over, or shapes differ.
    """
    if _is_file(source):
        prefix, state = LDM_UNET, read_weights(source)
        state = convert_unet({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, unet.config)
    else:
        state = _from_pretrained(UNet2DConditionModel, source, 'unet').state_dict()
    fill(unet, {k: v for k, v in state.items() if not k.startswith(UNUSED_UNET_KEYS)}, f'the U-Net of {source}')


def load_vae_encoder(encoder: nn.Module, source: str) -> None:
    """Fill a :class:`~mmseg_dafm.models.backbones.latents.LatentEncoder` in place; the decoder's keys are passed over.

    Args:
        encoder: The module to fill.
        source: As for :func:`load_unet` (subfolder ``vae``, or the VAE's own folder), or a TinyEncoder's flat state dict.

    Raises:
        FileNotFoundError: If the source is neither on disk nor reachable.
        ValueError: If keys are missing or left over, or shapes differ.
    """
    if _is_file(source):
        state = read_weights(source)
        if encoder.variational:
            prefix = LDM_VAE if any(key.startswith(LDM_VAE) for key in state) else ''
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            state = convert_vae(state, encoder.config)
        else:
            state = {f'encoder.{key}': value for key, value in state.items()}
    else:
        kind = AutoencoderKL if encoder.variational else AutoencoderTiny
        state = _from_pretrained(kind, source, 'vae').state_dict()
    state = {key: value for key, value in state.items() if key.startswith(('encoder.', 'quant_conv.'))}
    fill(encoder, state, f'the VAE of {source}')


def _is_file(source: str) -> bool:
    """Whether the source names one file; a path of a file that is not there is an error, not a hub id."""
    if source.endswith(('.safetensors', '.ckpt', '.pth', '.pt')):
        if not Path(source).is_file():
            raise FileNotFoundError(f'pretrained={source!r}: there is no such file.')
        return True
    return False


def _from_pretrained(kind: type, source: str, subfolder: str) -> nn.Module:
    """Load one component of a diffusers model, with one sentence when it cannot be had."""
    folder = Path(source)
    if folder.is_dir() and not (folder / subfolder).is_dir() and (folder / 'config.json').is_file():
        subfolder = None
    try:
        with quiet_loading():
            part, report = kind.from_pretrained(source, subfolder=subfolder, output_loading_info=True)
        if report['missing_keys']:
            raise ValueError(f'it lacks {", ".join(sorted(report["missing_keys"])[:3])}')
        return part
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"pretrained={source!r}: no {subfolder or kind.__name__} weights there. Give a local folder in diffusers' layout "
            f'(with unet/ and vae/), one .safetensors file of the original release, or a hub id that this machine can reach '
            f'({type(error).__name__}: {str(error).splitlines()[0][:120]}).'
        ) from error


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
