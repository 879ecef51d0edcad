"""Write label files in other ids, and images and labels at half the size: restartable, one thread per job.

Each file that is written carries a stamp: a checksum of the label that it was made from, and of the table of ids. A run takes a
file that is there as done only if it is whole and its stamp is right, or its pixels are what would be written. So labels of
another release, another table or another tool, and files that were cut off, are written again.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import decoded, is_whole_png, visible
from mmseg_dafm.core.tool_output import track

JPEG_QUALITY = 95
JPEG_END = b'\xff\xd9'
# key of the stamp among the texts of a PNG
STAMP = 'made from'
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


class WrongReleaseError(ValueError):
    """A label holds ids that its release does not have."""


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


def convert(
    job: LabelJob, table: np.ndarray, read: Reader = read_ids, wrote: Callable[[Path], None] | None = None
) -> LeftOut | None:
    """Write one label with the ids ``table[id]``, unless it is there, whole and right.

    Args:
        job: which files.
        table: new id of each old id, uint8.
        read: reads a label file as (H, W) ids.
        wrote: takes the path of each file that is written.

    Returns:
        Why the label was left out, or None. A target that is there nevertheless is removed where the label is not of its
        image's size, or the target is no label of this image.

    Raises:
        WrongReleaseError: the label holds an id that the table does not have.
        ValueError: the label or its image is damaged, or the label is no image of ids.
    """
    written = wrote or (lambda path: None)
    if not job.label.is_file():
        return _without_release(job, table)
    stamp = f'{crc32(job.label.read_bytes()):08x} {crc32(table.tobytes()):08x}'
    if _is_done(job, stamp):
        return None
    ids = read(job.label)
    with Image.open(job.image) as image:
        width, height = image.size
    if ids.shape != (height, width):
        removed = ', and the label that was written of it is removed' if job.target.is_file() else ''
        job.target.unlink(missing_ok=True)
        reason = f'{job.label} is {ids.shape[1]} x {ids.shape[0]} and its image {width} x {height}{removed}'
        return LeftOut(reason, of_other_size=True)
    if ids.max(initial=0) >= len(table):
        raise WrongReleaseError(
            f'{job.label} holds the id {ids.max()}, expected 0 to {len(table) - 1}: is it of another release?'
        )
    new = Image.fromarray(table[ids])
    if job.half_image is not None:
        half = width // 2, height // 2
        new = new.resize(half, Image.Resampling.NEAREST)
        if not _is_half_image(job):
            image = decoded(job.image).convert('RGB').resize(half, Image.Resampling.BICUBIC)
            with replacing(job.half_image) as path:
                image.save(path, quality=JPEG_QUALITY, comment=_image_stamp(job.image))
            written(job.half_image)
    if not _holds(job.target, np.asarray(new)):
        text = PngInfo()
        text.add_text(STAMP, stamp)
        with replacing(job.target) as path:
            new.save(path, pnginfo=text)
        written(job.target)
    return None


def _is_done(job: LabelJob, stamp: str) -> bool:
    """Whether the target is whole and was made from this label with this table, and so is the image at half the size."""
    if not is_whole_png(job.target) or not (job.half_image is None or _is_half_image(job)):
        return False
    try:
        with Image.open(job.target) as image:
            return image.info.get(STAMP) == stamp
    except (OSError, SyntaxError, ValueError):
        return False


def _image_stamp(image: Path) -> bytes:
    # the size of the file, because a checksum would read all photos of a data set at each start
    return f'{STAMP} {image.name}, {image.stat().st_size} bytes'.encode()


def _is_half_image(job: LabelJob) -> bool:
    """Whether the image at half the size is whole and was made from this image."""
    path = job.half_image
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        with Image.open(path) as image, path.open('rb') as file:
            file.seek(-len(JPEG_END), os.SEEK_END)
            return image.info.get('comment') == _image_stamp(job.image) and file.read() == JPEG_END
    except (OSError, SyntaxError, ValueError):
        return False


def _holds(target: Path, expected: np.ndarray) -> bool:
    """Whether a file, of whatever tool, can be read and has these pixels."""
    if not target.is_file():
        return False
    try:
        return np.array_equal(np.asarray(decoded(target)), expected)
    except ValueError:
        return False


def _without_release(job: LabelJob, table: np.ndarray) -> LeftOut | None:
    """Take a target whose label is gone if it can be one: of its image's size, and with ids of the table."""
    missing = LeftOut(f'{job.label} does not exist')
    if not job.target.is_file():
        return missing
    try:
        ids = np.asarray(decoded(job.target))
        with Image.open(job.half_image or job.image) as image:
            good = ids.shape == image.size[::-1] and np.isin(np.unique(ids), table).all()
    except (OSError, ValueError):
        good = False
    if good:
        return None
    job.target.unlink()
    return missing


def convert_all(
    jobs: Sequence[LabelJob],
    table: np.ndarray,
    title: str,
    threads: int,
    say: Callable[[str], None],
    read: Reader = read_ids,
) -> list[LeftOut]:
    """Convert labels in parallel; what is there and right is not written again.

    Where a label is of another release, what this run wrote is removed: it may be of that release, too.

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
    written: list[Path] = []
    job = partial(convert, table=table, read=read, wrote=written.append)
    try:
        with ThreadPoolExecutor(threads) as pool:
            try:
                found = list(track(pool.map(job, jobs), len(jobs), title, say))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except WrongReleaseError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
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
    found = visible((root / images).glob('*.png'), root)
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
