"""Named sets to test on, which take the place of a config's own: `tools/test.py --targets` and `--submission`."""

import inspect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS, METRICS

from mmseg_dafm.core.files import data_root
from mmseg_dafm.core.run_config import for_each_dataset, pipelines
from mmseg_dafm.datasets.classes import CLASSES

HALF = (960, 540)


class Target(NamedTuple):
    """A set to test on.

    Attributes:
        root: the set's name among the data roots, ``'acdc'`` for ``ACDC_ROOT``.
        dataset: its config without ``data_root``.
        scales: domain -> (width, height) that its images are fitted into, where the config scales by domain and does not name
            this one; other domains get the config's default.
    """

    root: str
    dataset: Mapping
    scales: Mapping[str, tuple[int, int]]


def _acdc(*conditions: str) -> Target:
    return Target('acdc', dict(type='ACDCDataset', split='val', conditions=conditions), dict.fromkeys(conditions, HALF))


CONDITIONS = ('fog', 'night', 'rain', 'snow')
# As Rein tests them: images of 1920 x 1080 at half the size, BDD100K as stored, others fitted into 1024 x 512.
TARGETS = {
    'cityscapes': Target(
        'cityscapes',
        dict(
            type='TaggedCityscapesDataset', data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        ),
        {},
    ),
    'bdd100k': Target('bdd100k', dict(type='TaggedBDD100KDataset', split='val'), {'bdd100k': (1280, 720)}),
    'mapillary': Target('mapillary', dict(type='TaggedMapillaryDataset', split='validation', half=True), {}),
    'acdc': _acdc(*CONDITIONS),
    **{f'acdc_{condition}': _acdc(condition) for condition in CONDITIONS},
    'foggy_zurich': Target('foggy_zurich', dict(type='FoggyZurichDataset', split='testv2'), {'foggy_zurich': HALF}),
    'foggy_driving': Target('foggy_driving', dict(type='FoggyDrivingDataset'), {}),
    'dark_zurich': Target('dark_zurich', dict(type='TaggedDarkZurichDataset', split='val'), {'dark_zurich': HALF}),
    'nighttime_driving': Target('nighttime_driving', dict(type='TaggedNighttimeDrivingDataset'), {'nighttime_driving': HALF}),
    'gtav': Target('gtav', dict(type='GTAVDataset', drop_unlabelled=True), {}),
    'synthia': Target('synthia', dict(type='SYNTHIADataset'), {}),
}  # fmt: skip
# Lists that tables of the papers test on; adverse is Table 3 of FisherTune.
GROUPS = {
    'cbm': ('cityscapes', 'bdd100k', 'mapillary'),
    'adverse': ('foggy_zurich', 'foggy_driving', 'dark_zurich', 'nighttime_driving', 'acdc_rain', 'acdc_snow'),
}
# The splits whose labels only a server knows.
TEST_SPLITS = {
    'acdc': Target('acdc', dict(type='ACDCDataset', split='test'), dict.fromkeys(CONDITIONS, HALF)),
    'cityscapes': Target(
        'cityscapes', dict(type='TaggedCityscapesDataset', data_prefix=dict(img_path='leftImg8bit/test')), {},
    ),
    'dark_zurich': Target('dark_zurich', dict(type='TaggedDarkZurichDataset', split='test'), {'dark_zurich': HALF}),
}  # fmt: skip


def resolve(names: Sequence[str]) -> list[str]:
    """Names of sets, groups opened, each once, in the order given.

    Raises:
        ValueError: no name, an unknown one, or two that hold the same images.
    """
    if unknown := [name for name in names if name not in TARGETS and name not in GROUPS]:
        known = f'{", ".join(TARGETS)}, and the groups {", ".join(GROUPS)}'
        raise ValueError(f'--targets names {", ".join(unknown)}, but the known sets are {known}: choose among them')
    found = list(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))
    if not found:
        raise ValueError(f'--targets names no set: choose among {", ".join([*TARGETS, *GROUPS])}')
    parts = [name for name in found if name.startswith('acdc_')]
    if 'acdc' in found and parts:
        raise ValueError(f'--targets names acdc and, again, {", ".join(parts)}: take acdc alone, it is tested per condition')
    return found


def select_targets(cfg: Config, names: Sequence[str]) -> None:
    """Make the named sets those that ``cfg`` tests, under its own protocol: its test pipeline, its scales, its model.

    The evaluator becomes one ``DomainIoUMetric``, the config's own if it has one; its ``source`` stays if it is among the sets.

    Args:
        cfg: a config whose data sets have the 19 classes; changed in place.
        names: keys of ``TARGETS`` or ``GROUPS``.

    Raises:
        ValueError: a name is unknown, or the config's data sets have other classes or no common test pipeline.
    """
    targets = [TARGETS[name] for name in resolve(names)]
    _put(cfg, targets, '--targets')
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    own = [evaluator for evaluator in evaluators if evaluator.get('type') == 'DomainIoUMetric']
    evaluator = ConfigDict(own[0] if own else dict(type='DomainIoUMetric'))
    evaluator.pop('target', None)
    if evaluator.get('source') not in names_of_domains(targets):
        evaluator.pop('source', None)
    cfg.test_evaluator = evaluator


def names_of_domains(targets: Sequence[Target]) -> set[str]:
    """Domains of the images of some sets: their conditions, or the set's name."""
    return {domain for target in targets for domain in target.dataset.get('conditions', (target.root,))}


def select_test_split(cfg: Config, name: str, folder: str) -> None:
    """Make ``cfg`` predict a split without public labels: no scores, one PNG of train ids per image in ``folder``.

    Raises:
        ValueError: the name is unknown, or as :func:`select_targets`.
    """
    if name not in TEST_SPLITS:
        raise ValueError(f'--submission names {name}, but the known servers are those of {", ".join(TEST_SPLITS)}: take one')
    _put(cfg, [TEST_SPLITS[name]], '--submission')
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline = without(dataset.pipeline, 'LoadAnnotations')
    if cfg.get('tta_pipeline'):
        cfg.tta_pipeline = without(cfg.tta_pipeline, 'LoadAnnotations')
    cfg.test_evaluator = ConfigDict(type='IoUMetric', format_only=True, output_dir=folder)


def _put(cfg: Config, targets: Sequence[Target], option: str) -> None:
    check_classes(cfg, option)
    own = pipelines(cfg.test_dataloader.dataset)
    if not own or any(pipeline != own[0] for pipeline in own):
        raise ValueError(f'{option} needs one pipeline for all test sets, and {cfg.filename} has {len(own)}: give them one')
    scales = {domain: scale for target in targets for domain, scale in target.scales.items()}
    datasets = [ConfigDict(target.dataset, data_root=data_root(target.root), test_mode=True) for target in targets]
    cfg.test_dataloader.dataset = ConfigDict(type='DomainConcatDataset', pipeline=for_domains(own[0], scales), datasets=datasets)
    if cfg.get('tta_pipeline'):
        cfg.tta_pipeline = for_domains(cfg.tta_pipeline, scales)


def check_classes(cfg: Config, option: str) -> None:
    """Refuse a config whose test sets do not have the 19 classes.

    Raises:
        ValueError: the sentence names the option, the file and the set.
    """

    def visit(dataset: ConfigDict) -> None:
        kind = DATASETS.get(dataset.get('type'))
        classes = (dataset.get('metainfo') or {}).get('classes') or getattr(kind, 'METAINFO', {}).get('classes', ())
        if tuple(classes) != CLASSES:
            raise ValueError(
                f'{option} needs a config for the 19 classes of Cityscapes, and {cfg.filename} tests {dataset.get("type")} with '
                f'{len(classes)} others: take another config'
            )

    for_each_dataset(cfg.test_dataloader.dataset, visit)


def for_domains(pipeline: Sequence, scales: Mapping[str, tuple[int, int]]) -> list:
    """A copy of a test pipeline that serves every set.

    ``DomainResize`` learns the scales of domains that it does not name; images are loaded without their EXIF rotation, as the
    labels are; ``PackSegInputs`` becomes ``PackDomainInputs``, which keeps the domain.
    """
    changed = []
    for node in pipeline:
        if isinstance(node, list | tuple):
            changed.append(for_domains(node, scales))
            continue
        node = ConfigDict(node)
        if node.type == 'DomainResize':
            node.domains = {**scales, **(node.get('domains') or {})}
        elif node.type == 'LoadImageFromFile':
            node.setdefault('color_type', 'color_ignore_orientation')
        elif node.type == 'PackSegInputs':
            node.type = 'PackDomainInputs'
            if 'meta_keys' in node:
                node.meta_keys = (*node.meta_keys, 'domain')
        if 'transforms' in node:
            node.transforms = for_domains(node.transforms, scales)
        changed.append(node)
    return changed


def without(pipeline: Sequence, kind: str) -> list:
    """A copy of a pipeline without the transforms of a type; lists that this leaves empty go, too."""
    changed = []
    for node in pipeline:
        if isinstance(node, list | tuple):
            node = without(node, kind)
            if node:
                changed.append(node)
        elif node['type'] != kind:
            inner = {'transforms': without(node['transforms'], kind)} if 'transforms' in node else {}
            changed.append(ConfigDict(node, **inner))
    return changed


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
