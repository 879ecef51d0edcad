"""Take over images that another generator made for the same layouts, such as ALDM."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import decoded, is_whole_png, visible
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.experiments.synthesis.layouts import Layout, check_shape
from mmseg_dafm.experiments.synthesis.plan import target_of

ENDINGS = ('.png', '.jpg', '.jpeg')
# Damaged images that a message names.
NAMED = 5


def layout_of(name: str, layouts: Mapping[str, Layout]) -> Layout | None:
    """The layout that a file belongs to.

    Args:
        name: stem of the file, which must be a layout's stem, or begin with one and go on with another character than a letter
            or a digit: ``aachen_000000_000019``, ``aachen_000000_000019_leftImg8bit``, ``aachen_000000_000019-night-3``.
        layouts: stem -> layout; the longest stem that fits is taken.
    """
    ends = [len(name), *(match.start() for match in reversed(list(re.finditer(r'[^A-Za-z0-9]', name))))]
    return next((layouts[name[:end]] for end in ends if name[:end] in layouts), None)


def match_images(folder: Path, layouts: Sequence[Layout]) -> tuple[dict[Layout, Path], list[Path]]:
    """Pair the images of a folder, with its sub-folders, with layouts.

    Args:
        folder: images ending in .png, .jpg or .jpeg.
        layouts: the layouts.

    Returns:
        Layout -> image, and the images that belong to no layout.

    Raises:
        ValueError: the folder is missing, no image belongs to a layout, or two belong to the same.
    """
    if not folder.is_dir():
        raise ValueError(f'--import {folder}: there is no such folder; give the folder of the images of one domain.')
    files = [path for path in visible(folder.rglob('*'), folder) if path.suffix.lower() in ENDINGS and path.is_file()]
    by_stem = {layout.stem: layout for layout in layouts}
    found: dict[Layout, Path] = {}
    others = []
    for path in files:
        layout = layout_of(path.stem, by_stem)
        if layout is None:
            others.append(path)
        elif layout in found:
            raise ValueError(
                f'--import {folder}: {found[layout]} and {path} both belong to {layout.stem}; one image per layout and domain: '
                f'give the folder of one domain, without a second set of samples.'
            )
        else:
            found[layout] = path
    if not found:
        raise ValueError(
            f'--import {folder}: none of its {len(files)} images (such as {[path.name for path in files[:2]]}) begins with the '
            f'stem of one of the {len(layouts)} layouts (such as {layouts[0].stem}); check the folder, --labels and --pattern.'
        )
    return found, others


def check_images(found: Mapping[Layout, Path], say: Callable[[str], None], threads: int = 4) -> None:
    """Decode the images before the first is taken over.

    Args:
        found: layout -> image.
        say: takes a line of progress.
        threads: images decoded at a time.

    Raises:
        ValueError: images cannot be decoded, or one is not in the proportion of its label.
    """

    def broken(item: tuple[Layout, Path]) -> Path | None:
        layout, path = item
        try:
            size = decoded(path).size
        except ValueError:
            return path
        check_shape(path, size[::-1], layout.path)
        return None

    with ThreadPoolExecutor(threads) as pool:
        results = track(pool.map(broken, found.items()), len(found), 'images checked', say)
        bad = [path for path in results if path is not None]
    if bad:
        names = ', '.join(map(str, bad[:NAMED])) + (f' and {len(bad) - NAMED} more' if len(bad) > NAMED else '')
        raise ValueError(f'--import: {len(bad)} of {len(found)} images cannot be decoded: make or copy {names} again.')


def import_images(found: Mapping[Layout, Path], out: Path, domain: str, link: bool = False) -> Iterator[Path]:
    """Put images where RealSyntheticMix looks for them; what is there already and whole stays.

    Args:
        found: layout -> image.
        out: root folder of the synthetic images.
        domain: name of the domain.
        link: make symbolic links to PNG files instead of copies. Other formats are always written as PNG.

    Yields:
        Each file of the set, whether it was there before or not.
    """
    for layout, source in found.items():
        target = target_of(out, domain, layout)
        if not is_whole_png(target):
            with replacing(target) as path:
                if source.suffix.lower() != '.png':
                    with Image.open(source) as image:
                        image.convert('RGB').save(path)
                elif link:
                    path.symlink_to(source.resolve())
                else:
                    shutil.copyfile(source, path)
        yield target
