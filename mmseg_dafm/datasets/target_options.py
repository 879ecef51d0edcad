"""`--cfg-options` for the parts of a config that `tools/test.py --targets` and `--submission` replace."""

import inspect
from collections.abc import Mapping

from mmengine.config import Config
from mmseg.registry import DATASETS, METRICS

DATASET = 'test_dataloader.dataset'
EVALUATOR = 'test_evaluator'


def split_options(options: Mapping[str, object]) -> tuple[dict, dict]:
    """Part options into those for the config's own parts and those for what takes the place of others.

    The pipeline is the config's own: the selected sets take it over.

    Args:
        options: dotted key -> value.

    Returns:
        Options to merge before the selection, and options for :func:`apply_options` after it.
    """
    late = {
        key: value
        for key, value in options.items()
        if _below(key, DATASET) and not _below(key, f'{DATASET}.pipeline') or _below(key, EVALUATOR)
    }
    return {key: value for key, value in options.items() if key not in late}, late


def apply_options(cfg: Config, options: Mapping[str, object], option: str) -> None:
    """Apply options to the selected sets, and to the metric that scores them.

    ``test_dataloader.dataset.KEY`` goes to each set, ``test_dataloader.dataset.datasets.N.KEY`` to the one at place N.

    Args:
        cfg: a config after the selection, changed in place.
        options: dotted key -> value.
        option: ``'--targets'`` or ``'--submission'``, for the message.

    Raises:
        ValueError: an option cannot apply to what was selected.
    """
    sets = cfg.test_dataloader.dataset.datasets
    final = {}
    for key, value in options.items():
        parts = key.split('.')
        if parts[0] == EVALUATOR:
            if option == '--submission':
                raise ValueError(f'--cfg-options {key}: {option} predicts without scores, so no metric takes it: leave it out')
            _check_taken(key, ''.join(parts[1:2]), METRICS.get(cfg.test_evaluator.type), option)
            final[key] = value
            continue
        places, rest = range(len(sets)), parts[2:]
        if rest[:1] == ['datasets']:
            if len(rest) < 3 or not rest[1].isdecimal() or int(rest[1]) >= len(sets):
                names = ', '.join(f'{place} ({part.type})' for place, part in enumerate(sets))
                raise ValueError(f'--cfg-options {key}: {option} tests the sets {names}: write {DATASET}.datasets.PLACE.KEY')
            places, rest = [int(rest[1])], rest[2:]
        for place in places:
            _check_taken(key, ''.join(rest[:1]), DATASETS.get(sets[place].type), option, several=True)
            final['.'.join([DATASET, 'datasets', str(place), *rest])] = value
    cfg.merge_from_dict(final)


def _below(key: str, parent: str) -> bool:
    return key == parent or key.startswith(f'{parent}.')


def _check_taken(key: str, argument: str, kind: type, option: str, several: bool = False) -> None:
    """Refuse an argument that a class does not have; `DomainConcatDataset` alone holds the pipeline."""
    taken = {
        name for parent in kind.__mro__ if '__init__' in vars(parent) for name in inspect.signature(parent.__init__).parameters
    }
    if argument not in taken - {'self', 'args', 'kwargs', 'pipeline'}:
        remedy = f'write {DATASET}.datasets.PLACE.KEY for one of several sets, or leave it out' if several else 'leave it out'
        raise ValueError(f'--cfg-options {key}: {option} tests with {kind.__name__}, which takes no {argument!r}: {remedy}')
