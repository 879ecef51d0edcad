"""Which image is made from which layout, by whom, and from which seed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
