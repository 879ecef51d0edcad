"""What the domain embedding sees: alpha of each image, and its mean over each domain, as a picture and a table."""

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import visible

IMAGE_SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.webp'}
MAX_SIDE = 320


def find_images(folder: str | os.PathLike) -> list[tuple[str, Path]]:
    """List the images of a folder with their domains.

    Args:
        folder: Holds one sub-folder per domain, searched to any depth; images that lie in `folder` itself belong to the
            domain named like the folder.

    Returns:
        (domain, path) pairs, sorted.

    Raises:
        FileNotFoundError: If the folder is missing or holds no image.
    """
    folder = Path(folder).expanduser()
    found = [path for path in visible(folder.rglob('*'), folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise FileNotFoundError(f'{folder} holds no images ({", ".join(sorted(IMAGE_SUFFIXES))})')
    depth = len(folder.parts)
    return [(path.parts[depth] if len(path.parts) > depth + 1 else folder.resolve().name, path) for path in found]


def read_image(path: str | os.PathLike) -> Tensor:
    """Read an image as RGB in [-1, 1], shape (1, 3, H, W)."""
    with Image.open(path) as picture:
        pixels = np.array(picture.convert('RGB'))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def compute_alphas(paths: Sequence[Path], alpha: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """Yield alpha (N,) of one image after the other.

    Args:
        paths: Image files, of any sizes.
        alpha: Maps RGB images (B, 3, H, W) in [-1, 1] to (B, N), as `DomainEmbedding.alpha` does.
    """
    for path in paths:
        with torch.no_grad():
            yield alpha(read_image(path))[0].double().cpu().numpy()


def relative_entropy(alphas: np.ndarray) -> np.ndarray:
    r"""Return \( H(\alpha) / \log N \) of each row of (n, N): 1 is uniform (W says nothing), 0 is a single description."""
    logs = np.log(np.clip(alphas, 1e-300, None))
    return -(alphas * logs).sum(axis=1) / math.log(alphas.shape[1])


def draw_alphas(
    images: Sequence[np.ndarray],
    alphas: np.ndarray,
    domains: Sequence[str],
    names: Sequence[str],
    per_domain: int = 3,
) -> Figure:
    """Draw one row per domain: sample images with their alpha bars, then the mean and spread over the whole domain.

    Args:
        images: n RGB images, (H, W, 3) uint8; None where an image is not to be drawn.
        alphas: (n, N), rows sum to 1.
        domains: The domain of each image.
        names: The N description names.
        per_domain: Sample images drawn per domain, spread evenly.

    Returns:
        The figure; one colour per description, a dashed line at 1/N, the same scale everywhere.

    Raises:
        ValueError: If the lengths do not fit.

    Source: Domino, section 2.2 (alpha).
    """
    alphas = np.asarray(alphas, float)
    if not images or alphas.shape != (len(images), len(names)) or len(domains) != len(images):
        raise ValueError(
            f'alphas of shape {alphas.shape} do not fit {len(images)} images, {len(domains)} domains and {len(names)} names'
        )
    order = list(dict.fromkeys(domains))
    columns = min(per_domain, max(map(list(domains).count, order)))
    colours = [f'C{index % 10}' for index in range(len(names))]
    limit = min(1.0, 1.1 * alphas.max())
    row_height = max(1.5, 0.24 * len(names) + 0.5)
    figure = Figure(figsize=(4.4 * columns + 3.6, row_height * len(order) + 0.8), layout='constrained')
    grid = figure.add_gridspec(len(order), 2 * columns + 1, width_ratios=[1.3, 1] * columns + [1.3])

    for row, domain in enumerate(order):
        members = [index for index, other in enumerate(domains) if other == domain]
        samples = [members[round(at)] for at in np.linspace(0, len(members) - 1, min(columns, len(members)))]
        for column, index in enumerate(samples):
            picture = figure.add_subplot(grid[row, 2 * column])
            picture.imshow(images[index])
            picture.set(xticks=[], yticks=[])
            if column == 0:
                picture.set_ylabel(domain, fontsize=11)
            bars = figure.add_subplot(grid[row, 2 * column + 1])
            _draw_bars(bars, alphas[index], None, names, colours, limit, show_names=column == 0)
        mean = figure.add_subplot(grid[row, 2 * columns])
        spread = alphas[members].std(axis=0)
        _draw_bars(mean, alphas[members].mean(axis=0), spread, names, colours, limit, show_names=True)
        entropy = relative_entropy(alphas[members]).mean()
        mean.set_title(f'mean of {len(members)}, entropy {entropy:.2f} of log N', fontsize=9)
    figure.suptitle('alpha: which description each image resembles (dashed: uniform)', fontsize=12)
    return figure


def _draw_bars(axes, values, spread, names, colours, limit, show_names) -> None:
    positions = np.arange(len(names))
    axes.barh(positions, values, xerr=spread, color=colours, height=0.75, error_kw={'lw': 1, 'ecolor': '0.3'})
    axes.axvline(1 / len(names), color='0.4', ls='--', lw=0.8)
    axes.set(xlim=(0, limit), yticks=positions, yticklabels=names if show_names else [], ylim=(len(names) - 0.4, -0.6))
    axes.tick_params(labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)


def shrink(image: Tensor) -> np.ndarray:
    """Turn (1, 3, H, W) in [-1, 1] into (h, w, 3) uint8 with a longer side of at most 320 pixels, for drawing."""
    pixels = ((image[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.array(picture)


def write_table(
    path: str | os.PathLike, paths: Sequence[Path], domains: Sequence[str], alphas: np.ndarray, names: Sequence[str]
) -> None:
    """Write a CSV: domain, image, one column per description, relative entropy."""
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['domain', 'image', *names, 'relative_entropy'])
        for domain, image, row, entropy in zip(domains, paths, alphas, relative_entropy(alphas), strict=True):
            writer.writerow([domain, image, *(f'{value:.6f}' for value in row), f'{entropy:.6f}'])
