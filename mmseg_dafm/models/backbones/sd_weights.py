"""Reading Stable Diffusion weights: hub id, local folder in diffusers' layout, or one file of the original layout."""

from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import nn

from mmseg_dafm.core.checkpoint import read_weights
from mmseg_dafm.core.quiet import quiet_loading
from mmseg_dafm.models.backbones.vpd_official import LDM_UNET, LDM_VAE, UNUSED_UNET_KEYS, convert_unet, convert_vae
from mmseg_dafm.models.layers.fill import fill


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
