"""Write label files in other ids, and images and labels at half the size: restartable, one thread per job."""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmseg_dafm.files import replacing
from mmseg_dafm.progress import track

JPEG_QUALITY = 95
# reads a label file as (H, W) ids
Reader = Callable[[Path], np.ndarray]


class LabelJob(NamedTuple):
    """One label to convert.

    Attributes:
        image: the image that the label belongs to.
        label: the label as released, as ``read_ids`` or ``read_first_channel`` takes it.
        target: the label to write, a PNG.
        half_image: where the image is written at half the size, and the label with it; None keeps the size.
    """

    image: Path
    label: Path
    target: Path
    half_image: Path | None = None


def read_ids(path: Path) -> np.ndarray:
    """Read an 8-bit image of ids, with or without a palette, (H, W) uint8.

    Raises:
        ValueError: the file is no image of ids.
    """
    with Image.open(path) as label:
        if label.mode not in ('L', 'P'):
            raise ValueError(f'{path} has the mode {label.mode}, expected ids in one channel: give the original label files.')
        return np.asarray(label)


def read_first_channel(path: Path) -> np.ndarray:
    """Read the first channel of a 16-bit image with several, (H, W) uint16.

    OpenCV does it, because Pillow keeps only the upper byte of such images, which is 0 everywhere.

    Raises:
        ValueError: the file is no 16-bit image with several channels.
    """
    # from bytes, because OpenCV cannot open every path, and says nothing then
    label = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None or label.ndim != 3 or label.dtype != np.uint16:
        found = 'is no image' if label is None else f'has shape {label.shape} and {label.dtype}'
        raise ValueError(f'{path} {found}, expected 16 bits in two or three channels: give the original label files.')
    # OpenCV turns the order of the file's channels round
    return label[..., 2]


def convert(job: LabelJob, table: np.ndarray, read: Reader = read_ids) -> str | None:
    """Write one label with the ids ``table[id]``, unless it is there.

    Args:
        job: which files.
        table: new id of each old id, uint8.
        read: reads a label file as (H, W) ids.

    Returns:
        Why the label was left out, or None.

    Raises:
        ValueError: the label is no image of ids, or holds an id that the table does not have.
    """
    if job.target.is_file() and (job.half_image is None or job.half_image.is_file()):
        return None
    if not job.label.is_file():
        return f'{job.label} does not exist'
    ids = read(job.label)
    with Image.open(job.image) as image:
        if ids.shape != image.size[::-1]:
            return f'{job.label} is {ids.shape[1]} x {ids.shape[0]} and its image {image.size[0]} x {image.size[1]}'
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


def convert_all(
    jobs: Sequence[LabelJob],
    table: np.ndarray,
    title: str,
    threads: int,
    say: Callable[[str], None],
    read: Reader = read_ids,
) -> list[str]:
    """Convert labels in parallel; what is there already is not written again.

    Args:
        jobs: which files.
        table: new id of each old id, uint8.
        title: what the progress is called.
        threads: labels converted at a time.
        say: takes a line of progress.
        read: reads a label file as (H, W) ids.

    Returns:
        Why labels were left out, a sentence each.

    Raises:
        ValueError: as :func:`convert`.
    """
    with ThreadPoolExecutor(threads) as pool:
        found = list(track(pool.map(partial(convert, table=table, read=read), jobs), len(jobs), title, say))
    return [reason for reason in found if reason is not None]


def convert_folder(description: str, images: str, labels: str, release: str, table: np.ndarray, read: Reader = read_ids) -> None:
    """Run the command line of a converter for a release in two folders: ``<image>.png`` and labels of the same names.

    ``<image>_labelTrainIds.png`` are written beside the labels.

    Args:
        description: the converter's docstring.
        images: folder of the images in the release.
        labels: folder of its labels.
        release: what must be unpacked, for the message.
        table: new id of each old id, uint8.
        read: reads a label file as (H, W) ids.

    Raises:
        SystemExit: with one sentence, if there is no image or a label cannot be converted.
    """
    root, threads = root_and_threads(description, f'folder with {images}/ and {labels}/')
    found = sorted((root / images).glob('*.png'))
    if not found:
        raise SystemExit(f'error: {root / images} holds no *.png: unpack {release} there')
    folder = root / labels
    jobs = [LabelJob(image, folder / image.name, folder / f'{image.stem}_labelTrainIds.png') for image in found]
    convert_and_report(jobs, table, folder, threads, read)


def root_and_threads(description: str, folder: str) -> tuple[Path, int]:
    """Parse the command line of a converter: ``ROOT [--threads N]``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help=folder)
    parser.add_argument('--threads', type=int, default=4)
    args = parser.parse_args()
    return args.root, args.threads


def convert_and_report(
    jobs: Sequence[LabelJob],
    table: np.ndarray,
    folder: Path,
    threads: int,
    read: Reader = read_ids,
) -> None:
    """Convert labels for a command-line tool: print what was left out and how many labels there are.

    Raises:
        SystemExit: with one sentence, if a label cannot be converted.
    """
    try:
        left_out = convert_all(jobs, table, 'labels', threads, print, read)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from None
    for reason in left_out:
        print(f'left out: {reason}')
    print(f'{len(jobs) - len(left_out)} of {len(jobs)} images have labels in 19 classes in {folder}')
