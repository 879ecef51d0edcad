"""Which images to make, and the prompts for them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmseg_dafm.datasets.classes import CLASSES
from mmseg_dafm.experiments.synthesis.layouts import Layout


class Job(NamedTuple):
    """One image to make.

    Attributes:
        layout: its label map.
        domain: name of its domain.
        target: the PNG to write.
    """

    layout: Layout
    domain: str
    target: Path


def target_of(out: Path, domain: str, layout: Layout) -> Path:
    """Where an image lies: ``<out>/<domain>/<folder of the label>/<stem>.png``, which RealSyntheticMix pairs by the path."""
    return out / domain / layout.folder / f'{layout.stem}.png'


def plan(
    layouts: Sequence[Layout],
    domains: Sequence[str],
    out: Path,
    rank: int = 0,
    world: int = 1,
    per_layout: int | None = None,
) -> list[Job]:
    """The share of one process; the shares of all processes are disjoint and make up everything.

    Args:
        layouts: all L layouts, in the same order in all processes.
        domains: the D domains.
        out: root folder of the images.
        rank: number of this process.
        world: number of processes.
        per_layout: domains that each layout is made for; layout i gets the domains ``i * per_layout`` and following, modulo
            D, so that all domains are served alike. None: all of them.

    Returns:
        About ``L * per_layout / world`` jobs, layout by layout.

    Raises:
        ValueError: ``rank`` or ``per_layout`` is out of range.
    """
    if not 0 <= rank < world:
        raise ValueError(f'--rank must lie between 0 and --world-size - 1 = {world - 1}, got {rank}.')
    count = len(domains) if per_layout is None else per_layout
    if not 1 <= count <= len(domains):
        raise ValueError(f'--domains-per-layout must lie between 1 and the number of domains, {len(domains)}; got {count}.')
    jobs = []
    for i, layout in enumerate(layouts):
        for j in range(count):
            domain = domains[(i * count + j) % len(domains)]
            jobs.append(Job(layout, domain, target_of(out, domain, layout)))
    return jobs[rank::world]


def seed_of(layout: str, domain: str, seed: int) -> int:
    """Seed of one image, from 0 to 2^63 - 1; it depends on nothing but the three arguments.

    Args:
        layout: stem of the layout.
        domain: name of the domain.
        seed: seed of the whole set.
    """
    digest = hashlib.sha256(f'{seed}/{domain}/{layout}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


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
