"""What is asked of the diffusion model in words: the classes of a layout, and the domain."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from mmseg_dafm.datasets.nineteen_classes import CLASSES

# The scene of each condition of ACDC; the keys are the folders that configs/domino/vpd_mix_*.py read.
SCENES = {'fog': 'foggy scene', 'night': 'night scene', 'rain': 'rainy scene', 'snow': 'snowy scene'}
TEMPLATE = 'a photo of a city street with {classes}, {scene}'
# Share of the labelled pixels from which on a class is named: a few pixels of "train" would put a train in the foreground.
MIN_SHARE = 0.01


def present_classes(labels: np.ndarray, min_share: float = MIN_SHARE) -> tuple[str, ...]:
    """Names of the classes that cover at least ``min_share`` of the labelled pixels.

    Args:
        labels: (H, W) train ids; ids above 18 are ignored.
        min_share: share of the labelled pixels, 0 to 1.

    Returns:
        Names in the order of ``CLASSES``; empty where nothing is labelled.
    """
    counts = np.bincount(labels.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
    return tuple(name for name, count in zip(CLASSES, counts, strict=True) if count and count >= min_share * counts.sum())


def prompt(scene: str, classes: Sequence[str] = (), template: str = TEMPLATE) -> str:
    """The sentence for one image.

    Args:
        scene: words of the domain, such as ``'night scene'``.
        classes: names of what the layout shows; without any, `` with {classes}`` goes from the template.
        template: sentence with ``{scene}`` and, if the classes shall be named, ``{classes}``.

    Raises:
        ValueError: the template has no ``{scene}``, or another place holder.

    Source: Domino, section 3 ("diverse prompts"). Deviation: the paper prints no prompt; ALDM's domains are the scenes above
    appended to a caption of the image, and the caption is replaced by the classes of the layout here.
    """
    if '{scene}' not in template or re.search(r'[{}]', template.replace('{scene}', '').replace('{classes}', '')):
        raise ValueError(f'--template needs {{scene}} and may have {{classes}}, nothing else in braces; got {template!r}.')
    if not classes:
        template = template.replace(' with {classes}', '')
    return template.replace('{classes}', ', '.join(classes)).replace('{scene}', scene)


def chosen_scenes(domains: Sequence[str] | None = None, own: Sequence[str] = ()) -> dict[str, str]:
    """The scenes to make.

    Args:
        domains: names of the domains; None takes all that are known.
        own: ``NAME=SCENE`` each, more domains, or other words for a known one.

    Returns:
        Domain -> its words, in the order of ``domains``.

    Raises:
        ValueError: a domain is unknown, twice there, or no folder name, or an entry of ``own`` is no ``NAME=SCENE``.
    """
    known = SCENES | _parsed(own)
    domains = list(known) if domains is None else list(domains)
    unknown = [name for name in domains if name not in known]
    if unknown:
        raise ValueError(
            f"--domains: {unknown} unknown, expected some of {list(known)}; add your own with --prompts NAME='words'."
        )
    if not domains or len(set(domains)) != len(domains):
        raise ValueError(f'--domains must name at least one domain, each of them once; got {domains}.')
    return {name: known[name] for name in domains}


def _parsed(own: Sequence[str]) -> Mapping[str, str]:
    scenes = {}
    for entry in own:
        name, _, scene = entry.partition('=')
        if not re.fullmatch(r'[A-Za-z0-9_-]+', name) or not scene.strip():
            raise ValueError(
                f'a domain is NAME=words, NAME a folder of letters, digits, _ or -; got {entry!r}: mend --prompts or --domain.'
            )
        scenes[name] = scene.strip()
    return scenes
