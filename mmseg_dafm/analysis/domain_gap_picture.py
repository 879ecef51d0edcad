"""The t-SNE picture of domains (FisherTune, figure 7)."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmseg_dafm.analysis.drift_picture import COLOURS
from mmseg_dafm.core.files import replacing

MARKERS = 'osD^vPX*'


def embed(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE in two dimensions of standardised features, started at their principal components.

    Args:
        features: ``(N, D)``.
        seed: Of scikit-learn.

    Returns:
        ``(N, 2)``.

    Raises:
        ValueError: For fewer than four images.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    count = len(features)
    if count < 4:
        raise ValueError(f't-SNE needs at least four images, got {count}.')
    reduced = PCA(min(50, count, features.shape[1]), random_state=seed).fit_transform(StandardScaler().fit_transform(features))
    # the usual 30 neighbours, fewer where there are not three times as many images
    return TSNE(perplexity=min(30.0, (count - 1) / 3), init='pca', random_state=seed).fit_transform(reduced)


def draw_domains(
    panels: Mapping[str, np.ndarray], domains: Sequence[str], tables: Mapping[str, Mapping], path: str | os.PathLike
) -> None:
    """One panel per network, one colour and marker per domain; under it the numbers that can be compared.

    Args:
        panels: Name -> ``(N, 2)``.
        domains: Domain of each row.
        tables: Name -> what :func:`mmseg_dafm.analysis.domain_gap.gap_table` returns.
        path: PNG to write, whole or not at all.
    """
    names, domains = list(dict.fromkeys(domains)), np.asarray(domains)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 4.7 * lines + 0.5), layout='constrained')
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, points) in zip(grid, panels.items(), strict=False):
        for place, name in enumerate(names):
            at = points[domains == name]
            style = dict(color=COLOURS[place % len(COLOURS)], marker=MARKERS[place % len(MARKERS)])
            axes.scatter(*at.T, s=22, alpha=0.75, linewidths=0.3, edgecolors='white', label=name, **style)
        axes.set_title(title, fontsize=11)
        # distances in a t-SNE picture mean nothing
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_box_aspect(1)
        table = tables[title]
        worst = max(table['pairs'].values(), key=lambda pair: pair['mmd2'], default=None)
        text = f'domain classifier {100 * table["accuracy"]:.0f} % (chance {100 * table["chance"]:.0f} %)'
        if worst:
            low, high = table['null']['mmd2_range']
            text += f'\nlargest MMD² {worst["mmd2"]:.2f} (halves of {table["reference"]}: {low:.2f} to {high:.2f})'
        axes.set_xlabel(text, fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=min(len(names), 6), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=140)
