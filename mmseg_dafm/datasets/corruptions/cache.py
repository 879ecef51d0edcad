"""Corrupted images kept on disk, so that they are made once for many tests."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import PNG_END


def cache_path(folder: str | Path, image: np.ndarray, *parts: object) -> Path:
    """File of a corrupted image, named by a digest of everything that the result depends on.

    Args:
        folder: Folder of the cache.
        image: (H, W, 3) uint8, the clean image; its size and all its pixels count.
        *parts: The rest: corruption, severity, seed, version.
    """
    digest = hashlib.blake2b(repr((image.shape, *parts)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    name = digest.hexdigest()
    # Folders of a few hundred files are quicker to open than one of many thousands.
    return Path(folder) / name[:2] / f'{name}.png'


def cached(path: Path, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Read an image, or make it and write it, under a temporary name first.

    Args:
        path: PNG file.
        shape: (H, W, 3) that the image must have; a file that is cut off or of another shape is made again.
        make: Gives the (H, W, 3) uint8 BGR image.

    Raises:
        OSError: The file cannot be written.
    """
    found = _read(path, shape)
    if found is not None:
        return found
    image = make()
    done, content = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(f'OpenCV cannot encode {path}: leave cache_dir out.')
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())
    return image


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The image in a file that is whole and of the right shape, else None."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not content.endswith(PNG_END):
        return None
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return image if image is not None and image.shape == tuple(shape) else None
