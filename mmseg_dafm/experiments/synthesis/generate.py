"""Generate images from label maps with Stable Diffusion and ControlNet."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_dafm.core.files import replacing
from mmseg_dafm.experiments.synthesis.layouts import control_image, palette_colours, read_labels
from mmseg_dafm.experiments.synthesis.plan import TEMPLATE, Job, present_classes, prompt, seed_of

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


@dataclass(frozen=True)
class Settings:
    """All that decides an image beside its layout and its scene; the manifest holds the same names.

    Attributes:
        pretrained: hub id or folder of Stable Diffusion.
        controlnet: hub id or folder of the ControlNet.
        palette: colours of the control image, see :func:`~mmseg_dafm.experiments.synthesis.layouts.control_image`.
        height: height of the images, a multiple of 8.
        width: width of the images, a multiple of 8.
        steps: DDIM steps, 1 or more.
        guidance: weight of classifier-free guidance; 1 turns it off.
        control_scale: weight of the ControlNet, 0 or more.
        template: sentence, see :func:`~mmseg_dafm.experiments.synthesis.plan.prompt`.
        negative_prompt: what shall not be seen.
        seed: seed of the whole set.
        dtype: numbers that the models compute with.

    Raises:
        ValueError: a value is out of range.
    """

    pretrained: str = 'stable-diffusion-v1-5/stable-diffusion-v1-5'
    controlnet: str = 'lllyasviel/sd-controlnet-seg'
    palette: str = 'ade20k'
    height: int = 512
    width: int = 1024
    steps: int = 25
    guidance: float = 7.5
    control_scale: float = 1.0
    template: str = TEMPLATE
    negative_prompt: str = ''
    seed: int = 0
    dtype: str = 'float32'

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 8 or self.height % 8 or self.width % 8:
            raise ValueError(f'--size must be two multiples of 8, the step of the latents; got {self.height} {self.width}.')
        for name, least in (('steps', 1), ('guidance', 1), ('control_scale', 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f'--{name.replace("_", "-")} must be {least} or more, got {getattr(self, name)}.')
        if self.dtype not in DTYPES:
            raise ValueError(f'--dtype must be one of {tuple(DTYPES)}, got {self.dtype!r}.')
        palette_colours(self.palette)
        prompt('scene', ('class',), self.template)

    def manifest(self, domain: str, scene: str) -> dict:
        """What the folder of a domain records."""
        return {'domain': domain, 'scene': scene, 'sampler': 'DDIM', **asdict(self)}


def paint(
    pipeline: StableDiffusionControlNetPipeline,
    controls: Sequence[np.ndarray],
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    batch_size: int,
) -> np.ndarray:
    """Make up to ``batch_size`` images at once.

    A smaller batch is filled up with its last image, so that the models always see the same shape: libraries choose their
    kernels, and thereby the last bits of a result, by the shape. An image so depends neither on its neighbours nor on what was
    already there when the run began.

    Args:
        pipeline: the loaded models.
        controls: B control images (H, W, 3) uint8 RGB.
        prompts: B sentences.
        seeds: B seeds; the noise is drawn on the CPU, and is the same on every device.
        settings: sizes, steps and weights.
        batch_size: B or more.

    Returns:
        (B, H, W, 3) uint8 RGB.

    Raises:
        RuntimeError: an image has values that are no numbers, as float16 may overflow.
    """
    count = len(prompts)
    fill = [min(i, count - 1) for i in range(batch_size)]
    images = pipeline(
        prompt=[prompts[i] for i in fill],
        image=[Image.fromarray(controls[i]) for i in fill],
        height=settings.height,
        width=settings.width,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        negative_prompt=[settings.negative_prompt] * batch_size,
        controlnet_conditioning_scale=settings.control_scale,
        generator=[torch.Generator('cpu').manual_seed(seeds[i]) for i in fill],
        output_type='np',
    ).images[:count]
    if not np.isfinite(images).all():
        raise RuntimeError(f'--dtype {settings.dtype}: the models gave values that are no numbers; use bfloat16 or float32.')
    return (images * 255).round().astype(np.uint8)


def generate(
    jobs: Sequence[Job],
    scenes: Mapping[str, str],
    settings: Settings,
    pipeline: StableDiffusionControlNetPipeline,
    batch_size: int = 1,
) -> Iterator[Job]:
    """Make the images of ``jobs`` and yield each job when its file is whole.

    Each PNG carries its prompt and seed as text.

    Args:
        jobs: what to make; existing files are made again.
        scenes: domain -> words.
        settings: how.
        pipeline: the loaded models.
        batch_size: images made at once.
    """
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        labels = [read_labels(job.layout.path, settings.height, settings.width) for job in batch]
        prompts = [
            prompt(scenes[job.domain], present_classes(label), settings.template)
            for job, label in zip(batch, labels, strict=True)
        ]
        seeds = [seed_of(job.layout.stem, job.domain, settings.seed) for job in batch]
        controls = [control_image(label, settings.palette) for label in labels]
        images = paint(pipeline, controls, prompts, seeds, settings, batch_size)
        for job, image, words, seed in zip(batch, images, prompts, seeds, strict=True):
            text = PngInfo()
            text.add_itxt('prompt', words)
            text.add_text('seed', str(seed))
            with replacing(job.target) as path:
                Image.fromarray(image).save(path, pnginfo=text)
            yield job
