"""Find image files, and refuse damaged ones."""

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

# The last bytes of every complete PNG. OpenCV reads a truncated file without an error and fills the rest with black.
PNG_END = b'IEND\xaeB`\x82'


def visible(paths: Iterable[Path], root: Path) -> list[Path]:
    """Sort paths, without hidden files and files in hidden folders.

    On some disks, macOS writes a hidden ``._NAME.png`` beside each ``NAME.png``.

    Args:
        paths: files below ``root``.
        root: the folder that was searched; its own name may begin with a dot.
    """
    return sorted(path for path in paths if not any(part.startswith('.') for part in path.relative_to(root).parts))


def split_lines(content: bytes) -> list[str]:
    """Parse a list of image names: drops blank lines and a byte order mark, replaces backslashes by slashes."""
    lines = [line.strip().replace('\\', '/') for line in content.decode('utf-8-sig').splitlines()]
    return [line for line in lines if line]


def decoded(path: str | os.PathLike) -> Image.Image:
    """Open an image and decode all of its pixels, in the mode of the file and without its EXIF rotation.

    Raises:
        ValueError: If the file is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    # Pillow raises SyntaxError for a damaged PNG
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} cannot be read ({type(error).__name__}: {error}): restore the file') from None


def is_whole_png(path: Path) -> bool:
    """Whether a PNG exists and is complete, by its last bytes."""
    if not path.is_file() or path.stat().st_size < len(PNG_END):
        return False
    with path.open('rb') as file:
        file.seek(-len(PNG_END), os.SEEK_END)
        return file.read() == PNG_END


def refuse_damaged(paths: Iterable[str | os.PathLike | None], thoroughly: bool = False) -> None:
    """Refuse damaged image files; paths that are not local files are skipped.

    A PNG is decoded only if its last bytes are wrong, which is cheap to check. OpenCV may read such a file as black.

    Args:
        paths: image and label files; None is skipped.
        thoroughly: decode every file, for example to find the one on which a transform failed.

    Raises:
        ValueError: If a file cannot be decoded; names it.
    """
    for path in (Path(path) for path in paths if path):
        suspicious = path.suffix.lower() == '.png' and not is_whole_png(path)
        if path.is_file() and (thoroughly or suspicious):
            decoded(path)


def evenly_spread(total: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced indices in ``range(total)``, starting at 0."""
    count = min(total, count)
    return [i * total // count for i in range(count)]
