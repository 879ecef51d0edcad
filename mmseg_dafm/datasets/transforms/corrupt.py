"""Corrupt: the sixteen corruptions as a transform, cached or delegated to imagecorruptions."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import PNG_END
from mmseg_dafm.core.random_state import preserved_rng
from mmseg_dafm.datasets.corruptions import VERSION, check_corruption, check_image, corrupt


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


DISTRIBUTIONS = ('imagecorruptions', 'imagecorruptions-imaug')


def load_imagecorruptions() -> str:
    """Import imagecorruptions.

    Returns:
        Name and version of the installed distribution.

    Raises:
        ValueError: It is missing, or does not import with the installed NumPy and setuptools.
    """
    try:
        import_module('imagecorruptions')
    except Exception as error:
        # The last release fails on current packages in several ways, not only with ImportError.
        raise ValueError(
            f"Corrupt: backend='imagecorruptions' cannot be imported ({type(error).__name__}: {error}); "
            "install it (pip install imagecorruptions-imaug) or use backend='own'."
        ) from error
    for name in DISTRIBUTIONS:
        try:
            return f'{name} {metadata.version(name)}'
        except metadata.PackageNotFoundError:
            continue
    return 'imagecorruptions'


def corrupt_elsewhere(image: np.ndarray, corruption: str, severity: int, seed: int) -> np.ndarray:
    """Apply a corruption of imagecorruptions, which draws from NumPy's global generator.

    That generator is seeded for the call and restored. The package's releases that compile glass_blur with numba draw from
    another generator there, so their glass_blur differs from run to run.

    Args:
        image: (H, W, 3) uint8 BGR.
        corruption: One of the sixteen names.
        severity: 1 to 5.
        seed: Any integer from 0.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    package = import_module('imagecorruptions')
    with preserved_rng():
        np.random.seed(seed % 2**32)
        changed = package.corrupt(np.ascontiguousarray(image[..., ::-1]), corruption_name=corruption, severity=severity)
    return np.ascontiguousarray(np.asarray(changed, np.uint8)[..., ::-1])


BACKENDS = ('own', 'imagecorruptions')


def image_key(path: str) -> str:
    """The file name with its last two folders, ``/`` between them: the same on every machine and from every folder."""
    if '://' not in path:
        path = os.path.abspath(path)
    return '/'.join([part for part in path.replace('\\', '/').split('/') if part][-3:])


def image_seed(key: str, corruption: str, severity: int, seed: int) -> int:
    """A number of 64 bits from a hash of what an image's chance depends on: stable across runs, workers and machines."""
    text = repr((key, corruption, int(severity), int(seed)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'little')


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """One of sixteen common corruptions at severity 1 to 5, seeded per image and cached on disk.

    Changes ``results['img']``, (H, W, 3) uint8 BGR; the label stays as it is.

    Put it right after ``LoadImageFromFile``. The chance of an image comes from a hash of its file name with its last two
    folders, the corruption, the severity and the seed: order, workers and ranks do not matter. An image without a path
    is known by its pixels.

    Args:
        corruption: one of :data:`mmseg_dafm.datasets.corruptions.CORRUPTIONS`.
        severity: 1 to 5, or 0 for the clean image.
        seed: another seed gives other noise, flakes and directions.
        backend: ``'own'``, or ``'imagecorruptions'`` for that package's functions.
        cache_dir: folder in which corrupted images are kept as PNG files and found again; None keeps none. The key of a
            file holds everything that its pixels depend on, so that one folder serves all data sets and settings.

    Raises:
        ValueError: the corruption, the severity or the backend is unknown, or the backend is not installed.

    Source: Hendrycks and Dietterich (2019); the sixteen corruptions that segmentation papers use. Deviation: with
    ``backend='own'`` frost and spatter are drawn, as strong as the published ones within 10 %; spatter at severity 1 is not
    comparable with published numbers.
    """

    def __init__(
        self,
        corruption: str,
        severity: int = 3,
        seed: int = 0,
        backend: str = 'own',
        cache_dir: str | None = None,
    ) -> None:
        try:
            check_corruption(corruption, severity, lowest=0)
        except ValueError as error:
            raise ValueError(f'Corrupt: {error}') from None
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f'Corrupt: seed must be an integer, got {seed!r}.')
        if backend not in BACKENDS:
            raise ValueError(f'Corrupt: backend must be one of {", ".join(BACKENDS)}; got {backend!r}.')
        self.corruption, self.severity, self.seed = corruption, severity, seed
        self.backend, self.cache_dir = backend, cache_dir
        # A new version of the functions makes other images.
        self.version = f'own {VERSION}' if backend == 'own' else load_imagecorruptions()

    def transform(self, results: dict) -> dict:
        """Replace ``img`` by its corrupted version.

        Raises:
            ValueError: the image is not (H, W, 3) uint8; the path is named.
        """
        if self.severity == 0:
            return results
        image, path = results['img'], results.get('img_path')
        try:
            check_image(image)
        except ValueError as error:
            raise ValueError(f'Corrupt: {path or "image"}: {error}') from None
        key = image_key(str(path)) if path else hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()
        seed = image_seed(key, self.corruption, self.severity, self.seed)
        make = partial(self._corrupt, image, seed)
        if self.cache_dir is None:
            results['img'] = make()
            return results
        folder = os.path.join(os.path.expanduser(self.cache_dir), self.corruption, str(self.severity))
        file = cache_path(folder, image, self.version, self.corruption, self.severity, seed)
        results['img'] = cached(file, image.shape, make)
        return results

    def _corrupt(self, image: np.ndarray, seed: int) -> np.ndarray:
        if self.backend == 'own':
            return corrupt(image, self.corruption, self.severity, np.random.default_rng(seed))
        return corrupt_elsewhere(image, self.corruption, self.severity, seed)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(corruption={self.corruption!r}, severity={self.severity}, seed={self.seed}, '
            f'backend={self.backend!r}, cache_dir={self.cache_dir!r})'
        )
