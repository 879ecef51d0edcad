"""Make the images of a plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from diffusers import StableDiffusionControlNetPipeline
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_dafm.core.files import replacing
from mmseg_dafm.experiments.synthesis.control_image import control_image, palette_colours
from mmseg_dafm.experiments.synthesis.controlnet_models import DTYPES
from mmseg_dafm.experiments.synthesis.layouts import read_labels
from mmseg_dafm.experiments.synthesis.plan import Job, seed_of
from mmseg_dafm.experiments.synthesis.scene_prompts import TEMPLATE, present_classes, prompt


@dataclass(frozen=True)
class Settings:
    """All that decides an image beside its layout and its scene; the manifest holds the same names.

    Attributes:
        pretrained: hub id or folder of Stable Diffusion.
        controlnet: hub id or folder of the ControlNet.
        palette: colours of the control image, see :func:`~mmseg_dafm.experiments.synthesis.control_image.control_image`.
        height: height of the images, a multiple of 8.
        width: width of the images, a multiple of 8.
        steps: DDIM steps, 1 or more.
        guidance: weight of classifier-free guidance; 1 turns it off.
        control_scale: weight of the ControlNet, 0 or more.
        template: sentence, see :func:`~mmseg_dafm.experiments.synthesis.scene_prompts.prompt`.
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
