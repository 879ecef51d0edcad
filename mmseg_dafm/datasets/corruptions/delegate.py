"""The package imagecorruptions in the place of our functions, for numbers to compare with."""

from importlib import import_module, metadata

import numpy as np

from mmseg_dafm.core.random_state import preserved_rng

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
