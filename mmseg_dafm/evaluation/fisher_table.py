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
    """One row per method: mIoU in percent on each domain, mean and standard deviation over seeds.

    Args:
        methods: Rows in order; one without runs says so.
        runs: Finished runs with ``method``, ``seed``, ``commit`` and the mIoU of :data:`DOMAINS`.
    """
    lines = ['| method | day | dusk | other cities | mean of unseen | seeds | commit |', '|---|---|---|---|---|---|---|']
    runs = list(runs)
    for method in methods:
        found = [run for run in runs if run['method'] == method]
        if not found:
            lines.append(f'| {TITLES[method]} | not run | | | | | |')
            continue
        cells = [_spread([run[domain] for run in found]) for domain in DOMAINS]
        cells.append(_spread([(run['dusk'] + run['cities']) / 2 for run in found]))
        cells.append(', '.join(str(run['seed']) for run in sorted(found, key=lambda run: run['seed'])))
        cells.append(', '.join(sorted({run['commit'] for run in found})))
        lines.append(f'| {TITLES[method]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _spread(values: Sequence[float]) -> str:
    return f'{mean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')
