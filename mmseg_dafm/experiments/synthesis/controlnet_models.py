"""Loading Stable Diffusion with a segmentation ControlNet, from the hub or from folders."""

import warnings
from pathlib import Path

import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def check_device(device: str) -> None:
    """Refuse a device that torch cannot compute on here.

    Raises:
        ValueError: its name is unknown, or it is not there.
    """
    try:
        torch.zeros(1, device=device)
    # AssertionError is what a torch without CUDA says
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f'--device {device} cannot be used ({reason}): give cpu, cuda or cuda:N of a GPU that is there.'
        ) from None


def check_models(pretrained: str, controlnet: str) -> None:
    """Read the two models' small configuration files, and nothing else, to see whether they are there and go together.

    Args:
        pretrained: hub id or folder of Stable Diffusion in diffusers' layout.
        controlnet: hub id or folder of the ControlNet.

    Raises:
        ValueError: a model cannot be had, is of another kind, or the two do not belong together.
    """
    kind = _config(StableDiffusionControlNetPipeline, '--pretrained', pretrained).get('_class_name')
    unet = _config(UNet2DConditionModel, '--pretrained', pretrained, 'unet')
    control = _config(ControlNetModel, '--controlnet', controlnet)
    if control.get('_class_name') != 'ControlNetModel':
        raise ValueError(f'--controlnet {controlnet} is a {control.get("_class_name")}, expected a ControlNetModel.')
    if unet.get('cross_attention_dim') != control.get('cross_attention_dim'):
        raise ValueError(
            f'--controlnet {controlnet} takes text of width {control.get("cross_attention_dim")}, but --pretrained {pretrained} '
            f'({kind}) gives {unet.get("cross_attention_dim")}: take two that were trained for the same Stable Diffusion.'
        )


def load_pipeline(pretrained: str, controlnet: str, dtype: str, device: str) -> StableDiffusionControlNetPipeline:
    """Load both models, with DDIM as the sampler and without the safety checker.

    The safety checker would replace single images by black ones, and a black image is a wrong training sample; street scenes
    give it no work. DDIM (eta = 0) draws no noise after the start, so the seed of an image decides it alone.

    Args:
        pretrained: hub id or folder of Stable Diffusion in diffusers' layout.
        controlnet: hub id or folder of the ControlNet.
        dtype: a key of ``DTYPES``.
        device: device of torch.

    Raises:
        ValueError: a model cannot be had, or float16 is asked for on a CPU.
    """
    if dtype == 'float16' and torch.device(device).type == 'cpu':
        raise ValueError('--dtype float16 needs a GPU: give --device cuda, or --dtype float32 or bfloat16.')
    options = dict(torch_dtype=DTYPES[dtype])
    with warnings.catch_warnings():
        # newer releases prefer the name dtype, which 0.30 does not know; all before 1.0 take torch_dtype
        warnings.simplefilter('ignore', FutureWarning)
        try:
            control = ControlNetModel.from_pretrained(controlnet, **options)
        except (OSError, ValueError) as error:
            raise _unavailable('--controlnet', controlnet, error) from None
        try:
            pipeline = StableDiffusionControlNetPipeline.from_pretrained(
                pretrained,
                controlnet=control,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
                **options,
            )
        except (OSError, ValueError) as error:
            raise _unavailable('--pretrained', pretrained, error) from None
    # latents are not bound to [-1, 1], to which DDIM clips them where the model's own sampler has no word on it
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _config(kind: type, option: str, source: str, subfolder: str | None = None) -> dict:
    try:
        return kind.load_config(source, **({'subfolder': subfolder} if subfolder else {}))
    except (OSError, ValueError) as error:
        raise _unavailable(option, source, error) from None


def _unavailable(option: str, source: str, error: Exception) -> ValueError:
    where, remedy = (
        'it is neither a folder nor to be had from the hub',
        ", or download it to the hub's cache while there is a network",
    )
    if Path(source).is_dir():
        where, remedy = 'the folder holds no such model, or not all of it', ''
    reason = ' '.join(str(error).split())[:160]
    return ValueError(
        f"{option} {source}: {where} ({type(error).__name__}: {reason}); give a folder in diffusers' layout{remedy}."
    )
