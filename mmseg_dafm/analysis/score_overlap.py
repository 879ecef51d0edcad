"""How far criteria, and independent estimations, agree on which weights to select."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmseg_dafm.fishertune.criteria import DomainFisher, fisher_criteria, ranking, relative_change, score
from mmseg_dafm.fishertune.selection import quantiles
from mmseg_dafm.fishertune.summary import jaccard


@dataclass(frozen=True)
class Agreement:
    """Two score lists compared.

    Attributes:
        first: Name of the one.
        second: Name of the other.
        jaccard: |A and B| / |A or B| of their selected sets; two random sets of a share p give p / (2 - p).
        spearman: Rank correlation over all candidates.
    """

    first: str
    second: str
    jaccard: float
    spearman: float


def selected_size(fisher: DomainFisher, share: float) -> int:
    """Number of weights that ``share`` of the backbone's parameters are.

    Raises:
        ValueError: Share out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share={share} must lie in (0, 1]: 0.05 is 5 %.')
    return max(int(share * fisher.meta['backbone_parameters']), 1)


def candidate_values(scores: Mapping[str, Tensor], fisher: DomainFisher) -> Tensor:
    """The scores of all candidates, one after the other, (n,)."""
    return torch.cat([scores[c.parameter][slice(*c.rows)].flatten() for c in fisher.candidates])


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two (n,) score lists."""
    a, b = (quantiles([values])[0].double() for values in (first, second))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def compare(
    files: Mapping[str, DomainFisher],
    criteria: Sequence[str] | None = None,
    share: float = 0.05,
    coef: str | float = 'abs',
) -> list[Agreement]:
    """Compare each two criteria within each estimation, and each criterion between estimations.

    Args:
        files: Name -> estimation.
        criteria: Which scores; None takes all that need data.
        share: Selected share of the backbone's parameters.
        coef: Rule of the coefficient.

    Raises:
        ValueError: If the estimations are of different models or candidates, or there are fewer candidates than the share.
    """
    names = list(files)
    shapes = [{name: tuple(part.shape) for name, part in fisher.clean.items()} for fisher in files.values()]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f'{names} are estimations of different models: compare those of one.')
    if any(fisher.candidates != files[names[0]].candidates for fisher in files.values()):
        raise ValueError(f'{names} are estimations of different candidates (kinds, biases, groups): compare those of one choice.')
    found: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
    for name, fisher in files.items():
        for criterion in criteria or fisher_criteria():
            scores = score(criterion, fisher, coef)
            top = ranking(scores, fisher.candidates, selected_size(fisher, share), criterion)
            found[name, criterion] = top, candidate_values(scores, fisher)

    def agreement(first: tuple[str, str], second: tuple[str, str]) -> Agreement:
        (top, values), (other_top, other_values) = found[first], found[second]
        return Agreement(
            ' '.join(filter(None, first if len(names) > 1 else first[1:])),
            ' '.join(filter(None, second if len(names) > 1 else second[1:])),
            jaccard(top, other_top),
            spearman(values, other_values),
        )

    pairs = [((name, a), (name, b)) for name in names for i, a in enumerate(criteria) for b in criteria[i + 1 :]]
    pairs += [((a, c), (b, c)) for i, a in enumerate(names) for b in names[i + 1 :] for c in criteria]
    return [agreement(*pair) for pair in pairs]


def change_curves(files: Mapping[str, DomainFisher]) -> dict[str, Tensor]:
    """Damped relative changes of all candidates: of the shift in each estimation, and of none between two of them.

    Two estimations on disjoint images differ only by sampling; what the shift does beyond this null is signal. Files that are
    not of disjoint parts give no null line.
    """
    curves = {f'{name}: x against x′': _changes(fisher.clean, fisher.shifted, fisher) for name, fisher in files.items()}
    names = list(files)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if not disjoint(files[first], files[second]):
                continue
            curves[f'null: {first} against {second}, x'] = _changes(files[first].clean, files[second].clean, files[first])
    return curves


def disjoint(first: DomainFisher, second: DomainFisher) -> bool:
    """Whether two estimations are on different parts (i, n) of the images of one order."""
    parts = [fisher.meta.get('part') for fisher in (first, second)]
    if None in parts or first.meta.get('seed') != second.meta.get('seed'):
        return False
    return parts[0][1] == parts[1][1] and parts[0][0] != parts[1][0]


def _changes(clean: Mapping[str, Tensor], other: Mapping[str, Tensor], fisher: DomainFisher) -> Tensor:
    changes = {name: relative_change(F, other[name], fisher.damping, eps=0.0) for name, F in clean.items()}
    return candidate_values(changes, fisher)


def to_markdown(agreements: Sequence[Agreement], curves: Mapping[str, Tensor]) -> str:
    """Both tables."""
    lines = ['| scores | scores | Jaccard | rank correlation |', '|---|---|---:|---:|']
    lines += [f'| {a.first} | {a.second} | {a.jaccard:.3f} | {a.spearman:.3f} |' for a in agreements]
    lines += ['', '| damped relative change of F | median | mean |', '|---|---:|---:|']
    for name, values in curves.items():
        lines.append(f'| {name} | {float(values.median()):.4f} | {float(values.double().mean()):.4f} |')
    return '\n'.join(lines) + '\n'


def draw_curves(curves: Mapping[str, Tensor], path) -> None:
    """Draw the share of weights that change by more than a value; the null lines are dashed.

    Args:
        curves: From :func:`change_curves`.
        path: Picture file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.subplots()
    values = {name: np.sort(curve.numpy()[:: max(len(curve) // 200_000, 1)]) for name, curve in curves.items()}
    floor = max(min(float(v[len(v) // 100]) for v in values.values()), 1e-6)
    for name, v in values.items():
        null = name.startswith('null')
        axes.plot(np.maximum(v, floor), 1 - np.arange(len(v)) / len(v), '--' if null else '-', color='0.4' if null else None,
                  label=name)  # fmt: skip
    axes.set_xscale('log')
    axes.set_xlabel('relative change  |F(x) − F(x′)| / (min + m)')
    axes.set_ylabel('share of weights that change more')
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=140)
