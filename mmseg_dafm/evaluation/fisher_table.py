"""The table of FisherTune's experiment on street photos."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

TITLES = {
    'freeze': 'Freeze',
    'random': 'Random',
    'F': 'F',
    'dF': 'ΔF',
    'rank': 'DRF (rank)',
    'eq7': 'DRF (eq. 7)',
    'eq15': 'DRF (eq. 15)',
    'full': 'Full',
}
DOMAINS = ('day', 'dusk', 'cities')


def to_markdown(methods: Sequence[str], runs: Iterable[Mapping]) -> str:
    """One row per method: mIoU in percent on each domain and the gain over Freeze, means and deviations over seeds.

    Args:
        methods: Rows in order; one without runs says so.
        runs: Finished runs with ``method``, ``seed``, ``commit`` and the mIoU of :data:`DOMAINS`.
    """
    titles = ['method', 'day', 'dusk', 'other cities', 'mean of unseen', 'unseen over Freeze', 'seeds', 'commit']
    lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
    runs = list(runs)
    frozen = {run['seed']: _unseen(run) for run in runs if run['method'] == 'freeze'}
    for method in methods:
        found = [run for run in runs if run['method'] == method]
        if not found:
            lines.append(f'| {TITLES[method]} | not run ' + '| ' * (len(titles) - 2) + '|')
            continue
        cells = [_spread([run[domain] for run in found]) for domain in DOMAINS]
        cells.append(_spread([_unseen(run) for run in found]))
        # seeds differ in the head's start far more than methods do, so the difference is taken within a seed
        gains = [_unseen(run) - frozen[run['seed']] for run in found if run['seed'] in frozen]
        cells.append(_spread(gains, '+') if gains else '')
        cells.append(', '.join(str(run['seed']) for run in sorted(found, key=lambda run: run['seed'])))
        cells.append(', '.join(sorted({run['commit'] for run in found})))
        lines.append(f'| {TITLES[method]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _unseen(run: Mapping) -> float:
    return (run['dusk'] + run['cities']) / 2


def _spread(values: Sequence[float], sign: str = '') -> str:
    return f'{mean(values):{sign}.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')
