"""Image files: which of a folder's files are images, and whether they are whole."""

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

# What every whole PNG file ends with; OpenCV reads half a file without complaint and fills the rest with black.
PNG_END = b'IEND\xaeB`\x82'


def visible(paths: Iterable[Path], root: Path) -> list[Path]:
    """Leave out hidden files and the files of hidden folders, and sort the others.

    A Mac writes a ``._NAME.png`` of a few bytes beside each ``NAME.png`` on disks of other systems.

    Args:
        paths: files below ``root``.
        root: the folder that was searched; its own name may begin with a dot.
    """
    return sorted(path for path in paths if not any(part.startswith('.') for part in path.relative_to(root).parts))


def split_lines(content: bytes) -> list[str]:
    """The names in a list of images: without blank lines and a byte order mark, and with ``/`` between folders."""
    lines = [line.strip().replace('\\', '/') for line in content.decode('utf-8-sig').splitlines()]
    return [line for line in lines if line]


def decoded(path: str | os.PathLike) -> Image.Image:
    """Open an image and decode all of its pixels, in the mode of the file and without its EXIF rotation.

    Raises:
        ValueError: the file is missing, cut off or no image; the sentence names it.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    # SyntaxError is what Pillow says of a damaged PNG
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} cannot be read ({type(error).__name__}: {error}): restore the file') from None


def is_whole_png(path: Path) -> bool:
    """Whether a file is there and ends as a PNG does; one that was cut off while it was written or copied does not."""
    if not path.is_file() or path.stat().st_size < len(PNG_END):
        return False
    with path.open('rb') as file:
        file.seek(-len(PNG_END), os.SEEK_END)
        return file.read() == PNG_END


def refuse_damaged(paths: Iterable[str | os.PathLike | None], thoroughly: bool = False) -> None:
    """Refuse local image files that are cut off; what is no local file is left alone.

    A look at the end of a PNG costs next to nothing and finds what some OpenCV reads as black.

    Args:
        paths: image and label files; None is skipped.
        thoroughly: decode every file, to find out which one a transform has stumbled over.

    Raises:
        ValueError: a file cannot be decoded; the sentence names it.
    """
    for path in (Path(path) for path in paths if path):
        suspicious = path.suffix.lower() == '.png' and not is_whole_png(path)
        if path.is_file() and (thoroughly or suspicious):
            decoded(path)


def evenly_spread(total: int, count: int) -> list[int]:
    """At most ``count`` places among ``total``, evenly spread from the first on, the same at every call."""
    count = min(total, count)
    return [i * total // count for i in range(count)]
