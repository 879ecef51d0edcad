"""Build the data sets of a config before anything else is, and check their files and the sizes of test images."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_dafm.core.run_config import for_each_dataset
from mmseg_dafm.datasets.checks import check_label_ids, check_listed, check_not_empty, find_unlabelled
from mmseg_dafm.datasets.domain_tagged import DomainTagged
from mmseg_dafm.datasets.transforms.check_labels import loads_labels

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
            sizes come into one batch of a validation or test.
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
            if isinstance(leaf, BaseSegDataset) and not isinstance(leaf, DomainTagged):
                check_foreign_set(leaf)
        if key != 'train_dataloader' and loader.get('batch_size', 1) > 1:
            check_batches(dataset, loader['batch_size'], key, int(os.environ.get('WORLD_SIZE', 1)))


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
