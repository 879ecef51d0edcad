"""The sixteen corruptions by name and group, and the one function that applies them."""

from collections.abc import Iterable

import numpy as np

from mmseg_dafm.datasets.corruptions.camera import (
    brightness,
    contrast,
    defocus_blur,
    gaussian_blur,
    gaussian_noise,
    glass_blur,
    impulse_noise,
    jpeg_compression,
    motion_blur,
    saturate,
    shot_noise,
    speckle_noise,
)
from mmseg_dafm.datasets.corruptions.weather import fog, frost, snow, spatter

FUNCTIONS_BY_GROUP = {
    'noise': (gaussian_noise, shot_noise, impulse_noise, speckle_noise),
    'blur': (gaussian_blur, defocus_blur, motion_blur, glass_blur),
    'weather': (snow, frost, fog, spatter),
    'digital': (brightness, contrast, saturate, jpeg_compression),
}
FUNCTIONS = {function.__name__: function for functions in FUNCTIONS_BY_GROUP.values() for function in functions}
GROUPS = {group: tuple(function.__name__ for function in functions) for group, functions in FUNCTIONS_BY_GROUP.items()}
CORRUPTIONS = tuple(FUNCTIONS)
SEVERITIES = (1, 2, 3, 4, 5)
# Raise it with every change of a result: it is part of the key of cached images and of finished tests.
VERSION = 2


def corrupt(image: np.ndarray, corruption: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Apply a corruption.

    Args:
        image: (H, W, 3) uint8 BGR, range 0 to 255, any size.
        corruption: One of ``CORRUPTIONS``.
        severity: 1 to 5.
        rng: Source of all chance; equal states give equal results.

    Returns:
        (H, W, 3) uint8 BGR, a new array.

    Raises:
        ValueError: The corruption or the severity is unknown, or the image is of another shape or type.

    Source: Hendrycks and Dietterich (2019). Deviation: the result is rounded to the nearest of 256 levels, not down.
    """
    check_corruption(corruption, severity)
    check_image(image)
    x = image.astype(np.float32) / 255
    changed = FUNCTIONS[corruption](x, int(severity), rng)
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def check_corruption(corruption: str, severity: int, lowest: int = 1) -> None:
    """Refuse what does not exist.

    Raises:
        ValueError: The corruption is unknown, or the severity is no integer from ``lowest`` to 5.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f'corruption must be one of {", ".join(CORRUPTIONS)}; got {corruption!r}.')
    if isinstance(severity, bool) or not isinstance(severity, int) or not lowest <= severity <= 5:
        raise ValueError(f'severity of {corruption} must be an integer from {lowest} to 5, got {severity!r}.')


def check_image(image: np.ndarray) -> None:
    """Refuse what is no colour image of bytes.

    Raises:
        ValueError: The image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f'a corruption needs an (H, W, 3) uint8 image, got shape {image.shape} and {image.dtype}; '
            f'put Corrupt right after LoadImageFromFile, without to_float32.'
        )


def select_corruptions(names: Iterable[str]) -> tuple[str, ...]:
    """Resolve ``'all'``, names of groups and names of corruptions to corruptions, each once and in the usual order.

    Raises:
        ValueError: A name is unknown, or there is none.
    """
    names = list(names)
    chosen = set()
    for name in names:
        if name not in ('all', *GROUPS, *CORRUPTIONS):
            raise ValueError(f'{name!r} is no corruption: expected all, {", ".join(GROUPS)}, {", ".join(CORRUPTIONS)}.')
        chosen.update(CORRUPTIONS if name == 'all' else GROUPS.get(name, (name,)))
    if not chosen:
        raise ValueError(f'no corruption was named: expected all, {", ".join(GROUPS)}, {", ".join(CORRUPTIONS)}.')
    return tuple(name for name in CORRUPTIONS if name in chosen)


def group_of(corruption: str) -> str:
    """Name of the group of a corruption."""
    return next(group for group, names in GROUPS.items() if corruption in names)
