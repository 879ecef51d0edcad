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
from mmseg_dafm.image_files import decoded
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


class LeftOut(NamedTuple):
    """A label that was not converted.

    Attributes:
        reason: why, a sentence.
        of_other_size: its size is not that of its image; otherwise it is not there.
    """

    reason: str
    of_other_size: bool = False


def read_ids(path: Path) -> np.ndarray:
    """Read an 8-bit image of ids, with or without a palette, (H, W) uint8.

    Raises:
        ValueError: the file is damaged, or no image of ids.
    """
    label = decoded(path)
    if label.mode not in ('L', 'P'):
        raise ValueError(f'{path} has the mode {label.mode}, expected ids in one channel: give the original label files.')
    return np.asarray(label)


def read_first_channel(path: Path) -> np.ndarray:
    """Read the first channel of a 16-bit image with several, (H, W) uint16.

    OpenCV does it, because Pillow keeps only the upper byte of such images, which is 0 everywhere; but OpenCV reads half a file
    without complaint, and Pillow does not.

    Raises:
        ValueError: the file is damaged, or no 16-bit image with several channels.
    """
    decoded(path)
    # from bytes, because OpenCV cannot open every path, and says nothing then
    label = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if label is None or label.ndim != 3 or label.dtype != np.uint16:
        found = 'is no image for OpenCV' if label is None else f'has shape {label.shape} and {label.dtype}'
        raise ValueError(f'{path} {found}, expected 16 bits in two or three channels: give the original label files.')
    # OpenCV turns the order of the file's channels round
    return label[..., 2]


def convert(job: LabelJob, table: np.ndarray, read: Reader = read_ids) -> LeftOut | None:
    """Write one label with the ids ``table[id]``, unless it is there.

    Args:
        job: which files.
        table: new id of each old id, uint8.
        read: reads a label file as (H, W) ids.

    Returns:
        Why the label was left out, or None.

    Raises:
        ValueError: the label or its image is damaged, the label is no image of ids, or it holds an id that the table does not
            have.
    """
    if job.target.is_file() and (job.half_image is None or job.half_image.is_file()):
        return None
    if not job.label.is_file():
        return LeftOut(f'{job.label} does not exist')
    ids = read(job.label)
    with Image.open(job.image) as image:
        width, height = image.size
    if ids.shape != (height, width):
        return LeftOut(f'{job.label} is {ids.shape[1]} x {ids.shape[0]} and its image {width} x {height}', of_other_size=True)
    if ids.max(initial=0) >= len(table):
        raise ValueError(f'{job.label} holds the id {ids.max()}, expected 0 to {len(table) - 1}: is it of another release?')
    new = Image.fromarray(table[ids])
    if job.half_image is not None:
        half = width // 2, height // 2
        new = new.resize(half, Image.Resampling.NEAREST)
        image = decoded(job.image).convert('RGB').resize(half, Image.Resampling.BICUBIC)
        with replacing(job.half_image) as path:
            image.save(path, quality=JPEG_QUALITY)
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
) -> list[LeftOut]:
    """Convert labels in parallel; what is there already is not written again.

    Args:
        jobs: which files.
        table: new id of each old id, uint8.
        title: what the progress is called.
        threads: labels converted at a time.
        say: takes a line of progress.
        read: reads a label file as (H, W) ids.

    Returns:
        The labels that were left out.

    Raises:
        ValueError: as :func:`convert`, or ``threads`` is not 1 or more.
    """
    check_threads(threads)
    with ThreadPoolExecutor(threads) as pool:
        found = list(track(pool.map(partial(convert, table=table, read=read), jobs), len(jobs), title, say))
    return [label for label in found if label is not None]


def check_threads(threads: int) -> None:
    """Refuse a number of threads that is not 1 or more.

    Raises:
        ValueError: it is not.
    """
    if threads < 1:
        raise ValueError(f'--threads must be 1 or more, got {threads}.')


def convert_folder(
    description: str,
    images: str,
    labels: str,
    release: str,
    table: np.ndarray,
    read: Reader = read_ids,
    sizes_differ: bool = False,
) -> None:
    """Run the command line of a converter for a release in two folders: ``<image>.png`` and labels of the same names.

    ``<image>_labelTrainIds.png`` are written beside the labels.

    Args:
        description: the converter's docstring.
        images: folder of the images in the release.
        labels: folder of its labels.
        release: what must be unpacked, for the message.
        table: new id of each old id, uint8.
        read: reads a label file as (H, W) ids.
        sizes_differ: the release has labels that are not of their image's size.

    Raises:
        SystemExit: with one sentence, if there is no image, or as :func:`convert_and_report`.
    """
    root, threads = root_and_threads(description, f'folder with {images}/ and {labels}/')
    found = sorted((root / images).glob('*.png'))
    if not found:
        raise SystemExit(f'error: {root / images} holds no *.png: unpack {release} there')
    folder = root / labels
    jobs = [LabelJob(image, folder / image.name, folder / f'{image.stem}_labelTrainIds.png') for image in found]
    convert_and_report(jobs, table, folder, threads, read, sizes_differ)


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
    sizes_differ: bool = False,
) -> None:
    """Convert labels for a command-line tool: print what was left out and how many labels there are.

    Raises:
        SystemExit: with one sentence, if a label cannot be converted or is left out; with ``sizes_differ``, labels of another
            size than their image may be.
    """
    try:
        left_out = convert_all(jobs, table, 'labels', threads, print, read)
        print_left_out(left_out)
        print(f'{len(jobs) - len(left_out)} of {len(jobs)} images have labels in 19 classes in {folder}')
        check_complete([label for label in left_out if not (sizes_differ and label.of_other_size)])
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from None


def print_left_out(left_out: Sequence[LeftOut]) -> None:
    """Print a line per label that was left out."""
    for label in left_out:
        print(f'left out: {label.reason}')


def check_complete(left_out: Sequence[LeftOut]) -> None:
    """Refuse to call a run complete that left labels out.

    Raises:
        ValueError: it did.
    """
    if left_out:
        raise ValueError(
            f'{len(left_out)} labels were left out, the first because {left_out[0].reason}: complete the release and run again.'
        )
