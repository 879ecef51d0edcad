"""The table of the small DAFT experiment: scores, corruption and drift of each method over seeds."""

import statistics
from collections.abc import Mapping, Sequence

TITLES = {
    'lp': 'LP',
    'ft': 'FT',
    'lp_ft': 'LP-FT',
    'ft_conversion': 'FT + conversion',
    'integrated': 'integrated LP-FT',
    'daft': 'DAFT',
}
SCORES = {
    'boston': 'Boston',
    'misc': 'other cities',
    'percent': 'mIoU%',
    'corrupted_boston': 'Boston corrupted',
    'corrupted_misc': 'other cities corrupted',
}
DRIFT = {'pooled_cosine': 'pooled cosine', 'pixel_cosine': 'pixel cosine', 'cka': 'CKA'}


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean, and sample standard deviation if there are two values or more; 'not run' for none."""
    if not values:
        return 'not run'
    spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.{digits}f}{spread}'


def to_markdown(methods: Sequence[str], runs: Sequence[Mapping], drifts: Mapping[int, Mapping]) -> str:
    """One row per method.

    Args:
        methods: Rows, keys of ``TITLES``.
        runs: Finished runs: ``method``, ``seed``, ``commit``, ``rates`` (config options) and the keys of ``SCORES``.
        drifts: seed -> method -> the keys of ``DRIFT``, of :func:`last_layer`.

    Returns:
        Markdown with mean and sample standard deviation over the seeds.
    """
    columns = [*SCORES.values(), *DRIFT.values(), 'feature_lr', 'head_lr', 'seeds', 'commit']
    lines = ['| method | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
    for method in methods:
        found = [run for run in runs if run['method'] == method]
        cells = [mean_and_spread([run[key] for run in found]) for key in SCORES]
        for key in DRIFT:
            cells.append(mean_and_spread([drift[method][key] for drift in drifts.values() if method in drift], 3))
        chosen = [option.split('=') for run in found for option in run['rates']]
        rates = {key.rsplit('.', 1)[-1]: value for key, value in chosen}
        cells += [rates.get(name, '') for name in ('feature_lr', 'head_lr')]
        cells.append(', '.join(str(run['seed']) for run in found))
        cells.append(', '.join(sorted({run['commit'] for run in found})))
        lines.append(f'| {TITLES[method]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def last_layer(features: Mapping) -> dict[str, dict[str, float]]:
    """Medians over all images, and CKA, of the last layer.

    Args:
        features: ``features`` in drift.json: method -> layer -> domain -> ``median`` and ``cka``.
    """
    last = {method: list(layers.values())[-1]['all'] for method, layers in features.items()}
    return {method: {**values['median'], 'cka': values['cka']} for method, values in last.items()}
