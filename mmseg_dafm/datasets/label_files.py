"""Write label files in other ids, and images and labels at half the size: restartable, one thread per job."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmseg_dafm.files import replacing
from mmseg_dafm.progress import track

JPEG_QUALITY = 95


class LabelJob(NamedTuple):
    """One label to convert.

    Attributes:
        image: the image that the label belongs to.
        label: the label as released, an 8-bit image of ids (with or without a palette).
        target: the label to write, a PNG.
        half_image: where the image is written at half the size, and the label with it; None keeps the size.
    """

    image: Path
    label: Path
    target: Path
    half_image: Path | None = None


def convert(job: LabelJob, table: np.ndarray) -> str | None:
    """Write one label with the ids ``table[id]``, unless it is there.

    Args:
        job: which files.
        table: new id of each old id, uint8.

    Returns:
        Why the label was left out, or None.

    Raises:
        ValueError: the label is no image of ids, or holds an id that the table does not have.
    """
    if job.target.is_file() and (job.half_image is None or job.half_image.is_file()):
        return None
    if not job.label.is_file():
        return f'{job.label} does not exist'
    with Image.open(job.image) as image, Image.open(job.label) as label:
        if label.mode not in ('L', 'P'):
            raise ValueError(
                f'{job.label} has the mode {label.mode}, expected ids in one channel: give the original label files.'
            )
        if label.size != image.size:
            return f'{job.label} is {label.size[0]} x {label.size[1]} and its image {image.size[0]} x {image.size[1]}'
        ids = np.asarray(label)
        if ids.max(initial=0) >= len(table):
            raise ValueError(f'{job.label} holds the id {ids.max()}, expected 0 to {len(table) - 1}: is it of another release?')
        new = Image.fromarray(table[ids])
        if job.half_image is not None:
            half = image.width // 2, image.height // 2
            new = new.resize(half, Image.Resampling.NEAREST)
            with replacing(job.half_image) as path:
                image.convert('RGB').resize(half, Image.Resampling.BICUBIC).save(path, quality=JPEG_QUALITY)
    # last, because it tells a restart that the job is done
    with replacing(job.target) as path:
        new.save(path)
    return None


def convert_all(jobs: Sequence[LabelJob], table: np.ndarray, title: str, threads: int, say: Callable[[str], None]) -> list[str]:
    """Convert labels in parallel; what is there already is not written again.

    Returns:
        Why labels were left out, a sentence each.

    Raises:
        ValueError: as :func:`convert`.
    """
    with ThreadPoolExecutor(threads) as pool:
        found = list(track(pool.map(partial(convert, table=table), jobs), len(jobs), title, say))
    return [reason for reason in found if reason is not None]
