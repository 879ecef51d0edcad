"""Picture of a robustness test: mIoU over severity, one panel per group of corruptions."""

import os
from collections.abc import Mapping

from matplotlib.figure import Figure

from mmseg_dafm.core.files import replacing
from mmseg_dafm.datasets.corruptions import GROUPS
from mmseg_dafm.evaluation.robustness import LARGEST_NOISE

COLOURS = ('#1f5fa8', '#b3452c', '#3d8a4f', '#8a5fb0')


def draw_robustness(summary: Mapping, path: str | os.PathLike, title: str = '') -> None:
    """Draw the mIoU of each corruption against its severity, the clean score as severity 0.

    The means of what counts stand in the titles and, per corruption, in brackets.

    Args:
        summary: What :func:`mmseg_dafm.evaluation.robustness.summarise` returns.
        path: The picture to write, whole or not at all.
        title: Words above the picture, for example config and checkpoint.
    """
    rows = summary['corruptions']
    groups = {group: [name for name in names if name in rows] for group, names in GROUPS.items()}
    groups = {group: names for group, names in groups.items() if names}
    figure = Figure(figsize=(3.5 * len(groups) + 0.6, 4.2), layout='constrained')
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (group, names) in zip(panels, groups.items(), strict=True):
        for name, colour, marker in zip(names, COLOURS, 'osD^', strict=False):
            scores = {0: summary['clean'], **rows[name]['severities']}
            label = f'{name.replace("_", " ")} ({rows[name]["mean"]:.1f})'
            axes.plot(list(scores), list(scores.values()), marker=marker, color=colour, markersize=4, label=label)
        axes.axhline(summary['clean'], color='0.5', linewidth=0.8, linestyle='--')
        mean = summary['groups'].get(group)
        axes.set_title(group if mean is None else f'{group}: mean {mean:.1f}', fontsize=10)
        axes.set(xlabel='severity', xticks=range(6), ylim=(0, None))
        if group == 'noise':
            axes.axvspan(LARGEST_NOISE + 0.5, 5.5, color='0.93', zorder=0)
            axes.text(
                4.5, 1, 'does not count', color='0.45', fontsize=7, ha='center', va='top', transform=axes.get_xaxis_transform()
            )
        axes.set_xlim(-0.3, 5.5)
        axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False, handlelength=1.2)
        axes.grid(axis='y', alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('mIoU')
    numbers = f'clean {summary["clean"]:.2f}, mPC {summary["mPC"]:.2f}, rPC {summary["rPC"]:.1f} %'
    figure.suptitle(f'{title}: {numbers}' if title else numbers, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
