"""What a sweep has tried and chosen, as JSON, as Markdown and as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mmseg_dafm.core.files import replacing
from mmseg_dafm.experiments.sweep.plan import Outcome, Trial, axis_value

NAMES = {'feature': 'feature_lr', 'head': 'head_lr', 'tied': 'learning rate'}
TITLES = {'feature': 'features ($\\eta_\\theta$)', 'head': 'head ($\\eta_w$)', 'tied': 'both'}
CHOSEN, DIVERGED, LINES = '#c44e52', '#7f7f7f', ('#4c72b0', '#dd8452', '#55a868', '#8172b3')


def to_dict(outcome: Outcome, options: list[str], settings: Mapping) -> dict:
    """The sweep as plain data: settings, number of trials, every trial, the chosen one and its ``--cfg-options``."""
    return dict(
        **settings,
        trials_run=len(outcome.trials),
        diverged=sum(trial.diverged for trial in outcome.trials),
        chosen=_as_dict(outcome.chosen),
        cfg_options=options,
        notes=list(outcome.notes),
        trials=[_as_dict(trial) for trial in outcome.trials],
    )


def _as_dict(trial: Trial) -> dict:
    score = None if trial.diverged else trial.score
    return dict(step=trial.step, **trial.point._asdict(), score=score, diverged=trial.diverged)


def to_markdown(outcome: Outcome, options: list[str], settings: Mapping) -> str:
    """A table of the trials, best first, with the settings above it and the chosen options below."""
    lines = [f'# Learning rate sweep of {settings["config"]}', '']
    lines += [f'- {key}: {value}' for key, value in settings.items() if value is not None and key != 'config']
    lines += [f'- trials run: {len(outcome.trials)}', '']
    lines += [f'| step | feature_lr | head_lr | {settings["metric"]} | |', '|---|---|---|---|---|']
    for trial in sorted(outcome.trials, key=lambda trial: (trial.diverged, -trial.score if not trial.diverged else 0)):
        score = 'diverged' if trial.diverged else f'{trial.score:.2f}'
        mark = 'chosen' if trial == outcome.chosen else ''
        lines.append(f'| {trial.step} | {trial.point.feature_lr:g} | {trial.point.head_lr:g} | {score} | {mark} |')
    lines += ['', *outcome.notes, '', f'`--cfg-options {" ".join(options)}`', '']
    return '\n'.join(lines)


def draw(outcome: Outcome, axes: list[str], metric: str, title: str) -> Figure:
    """Draw the metric over each rate that was swept, on logarithmic axes.

    Trials are joined where the other rate is the same. Diverged ones stand as crosses below the lowest score; a star marks
    the chosen trial.

    Args:
        outcome: the sweep.
        axes: the axis of each step; each axis is drawn once, with the lines that its steps went along.
        metric: label of the vertical axis.
        title: title of the picture.
    """
    shown = list(dict.fromkeys(axes))
    figure = Figure(figsize=(5.2 * len(shown), 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    scores = [trial.score for trial in outcome.trials if not trial.diverged]
    floor = min(scores) - max(0.1 * (max(scores) - min(scores)), 1e-3)
    for panel, axis in zip(panels, shown, strict=True):
        other = {'feature': 'head', 'head': 'feature', 'tied': 'tied'}[axis]
        # tied rates form one line; else a line has one value of the other rate
        where = [0.0 if axis == 'tied' else axis_value(trial.point, other) for trial in outcome.trials]
        walked = {value for value, trial in zip(where, outcome.trials, strict=True) if axes[trial.step - 1] == axis}
        for number, value in enumerate(sorted(walked, reverse=True)):
            line = [trial for place, trial in zip(where, outcome.trials, strict=True) if place == value]
            line.sort(key=lambda trial: axis_value(trial.point, axis))
            alive = [trial for trial in line if not trial.diverged]
            label = None if axis == 'tied' else f'{NAMES[other]}={value:g}'
            rates = [axis_value(trial.point, axis) for trial in alive]
            panel.plot(rates, [trial.score for trial in alive], 'o-', color=LINES[number % len(LINES)], label=label)
            lost = [axis_value(trial.point, axis) for trial in line if trial.diverged]
            panel.plot(lost, [floor] * len(lost), 'x', color=DIVERGED, markersize=9, mew=2)
        chosen = outcome.chosen
        panel.plot(axis_value(chosen.point, axis), chosen.score, '*', color=CHOSEN, markersize=17, zorder=3, label='chosen')
        if len(scores) < len(outcome.trials):
            panel.plot([], [], 'x', color=DIVERGED, markersize=9, mew=2, label='diverged')
        panel.set(xscale='log', xlabel=NAMES[axis], title=TITLES[axis])
        # the rates that were tried, and no others
        ticks = sorted({line_x for line in panel.lines for line_x in line.get_xdata()})
        panel.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    panels[0].set_ylabel(metric)
    return figure


def write_report(folder: Path, outcome: Outcome, axes: list[str], options: list[str], settings: Mapping) -> None:
    """Write sweep.json, sweep.md and sweep.png."""
    with replacing(folder / 'sweep.json') as path:
        path.write_text(json.dumps(to_dict(outcome, options, settings), indent=1))
    with replacing(folder / 'sweep.md') as path:
        path.write_text(to_markdown(outcome, options, settings))
    with replacing(folder / 'sweep.png') as path:
        title = f'{Path(settings["config"]).stem}, {len(outcome.trials)} trials'
        draw(outcome, axes, settings['metric'], title).savefig(path, dpi=120)
