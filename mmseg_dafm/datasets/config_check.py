"""Build the data sets of a config before anything else is, and check their files and the sizes of test images."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, METRICS
from PIL import Image

from mmseg_dafm.core.run_config import for_each_dataset, heads_of
from mmseg_dafm.datasets.checks import IGNORED, check_ignored, check_label_ids, check_listed, check_not_empty, find_unlabelled
from mmseg_dafm.datasets.domain_tagged import DomainTagged
from mmseg_dafm.datasets.transforms.check_labels import loads_labels, transform_lists

# Label files of a set that is not ours that are read, as our own sets do.
CHECK_IDS = 3


def check_data_sets(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Build the data sets of some data loaders and refuse what would stop the run later.

    Our data sets check themselves when they are built. For every other :class:`mmseg.datasets.BaseSegDataset` the same is done
    here, because here all train and test runs of our tools pass, before the model is built. Each label's ids and size are
    checked when it is loaded, by ``CheckLabels`` in the pipeline.

    Args:
        cfg: a config.
        dataloaders: the keys of its data loaders.

    Raises:
        ValueError: a data set has no image, images or labels are missing, labels are no ids of its classes, or images of several
            sizes come into one batch of a validation or test, or a metric names a domain that no image has.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    for key in dataloaders:
        loader = cfg.get(key) or {}
        if not isinstance(loader.get('dataset'), Mapping):
            continue
        try:
            dataset = DATASETS.build(loader['dataset'])
        except (AssertionError, ValueError, FileNotFoundError) as error:
            text = _own_words(error)
            if text.startswith('need at least one array'):
                # what mmengine says of a data set without a single image
                text = f'no image was found in {_image_folders(loader["dataset"])}: check data_prefix, img_suffix and ann_file'
            raise ValueError(f'{key}: {text}') from error
        for leaf in leaves(dataset):
            if isinstance(leaf, BaseSegDataset) and loads_labels(leaf.pipeline):
                check_ignored_labels(cfg, leaf, key)
            if isinstance(leaf, BaseSegDataset) and not isinstance(leaf, DomainTagged):
                check_foreign_set(leaf)
        if key != 'train_dataloader' and loader.get('batch_size', 1) > 1:
            check_batches(dataset, loader['batch_size'], key, int(os.environ.get('WORLD_SIZE', 1)))
        if key != 'train_dataloader':
            check_domains(cfg, dataset, key.removesuffix('_dataloader'))


def _image_folders(dataset: Mapping) -> str:
    folders: list[str] = []

    def visit(leaf: Mapping) -> None:
        folders.append(os.path.join(leaf.get('data_root') or '', (leaf.get('data_prefix') or {}).get('img_path') or ''))

    for_each_dataset(dataset, visit)
    return ' or '.join(folders)


def _own_words(error: BaseException) -> str:
    """A sentence of an error, without the name of the class that mmengine's registry puts in front for each level."""
    while isinstance(error.__context__, type(error)) and str(error).endswith(str(error.__context__)):
        error = error.__context__
    # mmseg asserts the existence of ann_file and of folders, at times without a word
    return str(error).strip().removesuffix(':') or 'ann_file or a folder of data_prefix does not exist'


def leaves(dataset: object) -> Iterator[object]:
    """Yield the data sets inside wrappers such as mmengine's ``ConcatDataset`` and ``RepeatDataset``, or the set itself."""
    inner = getattr(dataset, 'datasets', None) or [
        part for part in (getattr(dataset, 'dataset', None), getattr(dataset, 'real', None)) if part is not None
    ]
    for part in inner:
        yield from leaves(part)
    if not inner:
        yield dataset


def data_infos(dataset: object) -> list[dict] | None:
    """The data infos of all images inside wrappers; None if a set gives none."""
    sets = list(leaves(dataset))
    if not all(isinstance(leaf, BaseSegDataset) for leaf in sets):
        return None
    return [leaf.get_data_info(i) for leaf in sets for i in range(len(leaf))]


def check_ignored_labels(cfg: Config, dataset: BaseSegDataset, key: str) -> None:
    """Refuse a data set whose ignored pixels are others than those of the heads, of the padding or of the metric.

    Args:
        cfg: a config.
        dataset: one of its data sets, built, with labels.
        key: its data loader.

    Raises:
        ValueError: the ignored label is a class, differs between two of them, or ``LoadAnnotations`` shifts labels and its data
            set does not, or the other way round.
    """
    name, ignored, classes = f'{key}: {type(dataset).__name__}', dataset.ignore_index, dataset.metainfo.get('classes')
    if classes:
        check_ignored(ignored, len(classes), f'{name}.ignore_index')
    for part in transform_lists(dataset.pipeline):
        for transform in part:
            shifts = getattr(transform, 'reduce_zero_label', None)
            if shifts not in (None, dataset.reduce_zero_label):
                raise ValueError(
                    f'{name}.reduce_zero_label={dataset.reduce_zero_label}, and {type(transform).__name__} of its pipeline has '
                    f'reduce_zero_label={shifts}: set it in the data set alone.'
                )
    # mmseg's loading gives these pixels 255, whatever ignore_index is
    always = dataset.reduce_zero_label or 255 in (dataset.label_map or {}).values()
    for where, value in _ignored_by(cfg, key):
        if value is not None and classes:
            check_ignored(value, len(classes), where)
        for label, source in ((ignored, 'ignore_index'), *([(255, 'reduce_zero_label or label map')] if always else [])):
            if value not in (None, label):
                raise ValueError(
                    f'{where}={value}, and {name} marks pixels that do not count with {label} ({source}): make them equal.'
                )


def _ignored_by(cfg: Config, key: str) -> Iterator[tuple[str, int | None]]:
    """The labels that those who read a data loader's labels ignore, with their keys."""
    if key == 'train_dataloader':
        model = cfg.get('model') or {}
        for name, head in heads_of(model):
            yield f'model.{name}.ignore_index', head.get('ignore_index', IGNORED)
        preprocessor = model.get('data_preprocessor') or {}
        if preprocessor.get('size') or preprocessor.get('size_divisor'):
            yield 'model.data_preprocessor.seg_pad_val', preprocessor.get('seg_pad_val', IGNORED)
        return
    stage = key.removesuffix('_dataloader')
    for metric in _metrics(cfg, stage):
        if str(metric.get('type')).rsplit('.', 1)[-1] in ('IoUMetric', 'DomainIoUMetric') and not metric.get('format_only'):
            yield f'{stage}_evaluator.ignore_index', metric.get('ignore_index', IGNORED)


def _metrics(cfg: Config, stage: str) -> Iterator[Mapping]:
    """The configs of the metrics of a stage."""
    evaluators = cfg.get(f'{stage}_evaluator') or ()
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else (evaluators,):
        metrics = evaluator.get('metrics', evaluator)
        yield from metrics if isinstance(metrics, list | tuple) else (metrics,)


def check_domains(cfg: Config, dataset: object, stage: str) -> None:
    """Refuse metrics that name a domain which no image of the data set has.

    Args:
        cfg: a config.
        dataset: its data set for the stage, built.
        stage: ``'val'`` or ``'test'``.

    Raises:
        ValueError: as :meth:`mmseg_dafm.evaluation.DomainIoUMetric.require_domains`.
    """
    for metric in _metrics(cfg, stage):
        if str(metric.get('type')).rsplit('.', 1)[-1] == 'DomainIoUMetric' and (infos := data_infos(dataset)) is not None:
            # a prefix only keeps mmengine from warning that there is none
            built = METRICS.build({**metric, 'output_dir': None, 'format_only': False, 'prefix': 'check'})
            built.require_domains(infos, stage)


def check_foreign_set(dataset: BaseSegDataset) -> None:
    """Check a data set of mmseg or of a user as ours check themselves.

    Raises:
        ValueError: no image was found, listed images or labels are missing, or one of the first label files is no map of the
            data set's ids.
    """
    name, prefix = type(dataset).__name__, dataset.data_prefix
    dataset.full_init()
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    layout = f'*{dataset.img_suffix} with labels *{dataset.seg_map_suffix}'
    check_not_empty(infos, dataset.ann_file or str(prefix.get('img_path')), layout, name)
    local = dataset.backend_args is None and not any('://' in str(info['img_path']) for info in infos[:1])
    if not local:
        return
    if dataset.ann_file and not os.path.isdir(dataset.ann_file):
        check_listed(infos, dataset.ann_file, dataset.img_suffix, name)
    if not loads_labels(dataset.pipeline):
        return
    if missing := find_unlabelled(infos):
        raise ValueError(
            f'{name}: {len(missing)} of {len(infos)} images have no label file, the first is {missing[0]}: complete the labels, '
            f'or check seg_map_path and seg_map_suffix={dataset.seg_map_suffix!r}.'
        )
    classes = type(dataset).METAINFO.get('classes') or dataset.metainfo.get('classes')
    paths = [info['seg_map_path'] for info in infos[:CHECK_IDS] if 'seg_map_path' in info]
    if classes:
        check_label_ids(paths, len(classes) + int(dataset.reduce_zero_label), name, dataset.ignore_index)


def check_batches(dataset: object, batch_size: int, key: str, world: int = 1) -> None:
    """Refuse a validation or test whose batches mix images of several sizes, which a network cannot take.

    The headers of all images are read. Where a batch mixes sizes, domains or data sets, the pipeline shows whether it makes
    them equal.

    Args:
        dataset: the built data set.
        batch_size: images per batch and process.
        key: the data loader, for the message.
        world: number of processes, which take turns.

    Raises:
        ValueError: two images of one batch have different sizes after the pipeline; the sentence names both.
    """
    members = [(leaf, i) for leaf in leaves(dataset) if isinstance(leaf, BaseSegDataset) for i in range(len(leaf))]
    infos = [leaf.get_data_info(i) for leaf, i in members]
    if len(members) != len(dataset) or any('://' in str(info['img_path']) for info in infos):
        return
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_image_size, [info['img_path'] for info in infos]))
    kinds = [(id(leaf), info.get('domain'), size) for (leaf, _), info, size in zip(members, infos, sizes, strict=True)]
    shapes: dict[tuple, tuple[int, ...]] = {}
    for rank in range(world):
        order = range(rank, len(members), world)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            if len({kinds[i] for i in batch}) == 1:
                continue
            for i in batch:
                if kinds[i] not in shapes:
                    shapes[kinds[i]] = _shape(dataset[i])
                if shapes[kinds[i]] != shapes[kinds[batch[0]]]:
                    first, other = (f'{infos[n]["img_path"]} ({" x ".join(map(str, shapes[kinds[n]]))})' for n in (batch[0], i))
                    raise ValueError(
                        f'{key}.batch_size={batch_size}: {first} and {other} (height x width) come into one batch, which takes '
                        f'images of one size: set {key}.batch_size=1.'
                    )


def _image_size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        # what is damaged is told by the pipeline that loads it
        return None


def _shape(sample: Mapping) -> tuple[int, ...]:
    """Height and width of a packed sample; of the first of its augmentations."""
    inputs = sample['inputs']
    return tuple((inputs[0] if isinstance(inputs, list | tuple) else inputs).shape[-2:])
