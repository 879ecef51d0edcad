"""Whether the data of a config fit its text embeddings and its image tower: their class names, and the size of whole images."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log
from mmseg.registry import DATASETS

from mmseg_dafm.core.run_config import for_each_dataset, heads_of, pipelines
from mmseg_dafm.core.runner import running_config
from mmseg_dafm.models.domain.embedding_file import build_bank
from mmseg_dafm.models.domain.text_bank import clean_text

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_data(cfg: Mapping, dataloaders: Sequence[str] = DATALOADERS) -> None:
    """Compare heads and class embeddings with the classes of each data set, and the sizes of whole images.

    Names are compared without case, hyphens and runs of white space; one common synonym (`car; automobile`) is enough.
    An embedding file that does not exist is passed over, it is refused elsewhere.

    Args:
        cfg: A training or test config, or its dict.
        dataloaders: Which of its data loaders to look at.

    Raises:
        ValueError: If names, ``num_classes`` or ``KeepDomainImage.size`` do not fit; both lists of differing names are given.
    """
    model = cfg.get('model') or {}
    # a model for test-time augmentation wraps the model proper
    model = model.get('module') or model
    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        if dataset:
            check_size(dataset, model, name)
    embeddings = (model.get('backbone') or {}).get('class_embeddings')
    names = None if embeddings is None else class_names(embeddings)
    if names is not None:
        check_embeddings(names, cfg, model, dataloaders)
    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        if dataset:
            for_each_dataset(dataset, lambda leaf, name=name: check_heads(model, leaf, name))


def check_embeddings(names: Sequence[str], cfg: Mapping, model: Mapping, dataloaders: Sequence[str]) -> None:
    """Compare the names of class embeddings with each data set's, and their number with the heads'."""
    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        if dataset:
            for_each_dataset(
                dataset, lambda leaf, name=name: check_names(names, data_classes(leaf), f'{name}: {leaf.get("type")}')
            )
    for key, head in heads_of(model):
        if (count := head.get('num_classes')) is not None and count != len(names):
            raise ValueError(
                f'model.{key}.num_classes={count}, and model.backbone.class_embeddings name {len(names)} classes: make them '
                "equal to the data set's number of classes."
            )


def check_running_data(names: Sequence[str], dataloaders: Sequence[str]) -> None:
    """As :func:`check_data`, with the config of the run that this process is in, so that any tool's run is checked.

    Args:
        names: The names of the model's class embeddings; the check is passed over if the run's config gives others.
        dataloaders: Which of its data loaders to look at.
    """
    cfg = running_config()
    model = cfg.get('model') or {}
    embeddings = ((model.get('module') or model).get('backbone') or {}).get('class_embeddings')
    if embeddings is not None and class_names(embeddings) == tuple(names):
        check_data(cfg, dataloaders)


def class_names(embeddings: Mapping) -> tuple[str, ...] | None:
    """Names of the rows that a config of class embeddings gives; None if its file is not there."""
    if isinstance(embeddings, Mapping) and 'path' in embeddings and not Path(embeddings['path']).expanduser().is_file():
        return None
    return tuple(build_bank(embeddings, 'model.backbone.class_embeddings').names)


def data_classes(dataset: Mapping) -> tuple[str, ...] | None:
    """Class names of a data set's config: of its metainfo, else of its type; None where neither tells."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    # a string names a file, which mmengine reads when the set is built
    return None if classes is None or isinstance(classes, str) else tuple(classes)


def check_names(names: Sequence[str], classes: Sequence[str] | None, where: str) -> None:
    """Refuse class embeddings whose names are not the classes of a data set; warn if only the order differs.

    Args:
        names: Names of the embeddings.
        classes: Classes of the data set; None passes.
        where: The data loader and the data set, for the message.
    """
    if classes is None:
        return
    embedded, wanted = [_words(name) for name in names], [_words(name) for name in classes]
    missing = [name for name, words in zip(classes, wanted, strict=True) if not any(words & other for other in embedded)]
    extra = [name for name, words in zip(names, embedded, strict=True) if not any(words & other for other in wanted)]
    if missing or extra or len(names) != len(classes):
        raise ValueError(
            f'model.backbone.class_embeddings name {len(names)} classes, {where} has {len(classes)}: without an embedding '
            f"{missing}, embedded without being a class {extra}. Set class_embeddings.classes to the data set's, with aliases "
            'where the file has other names, or embed its names with tools/embed_text.py.'
        )
    if any(not words & other for words, other in zip(embedded, wanted, strict=True)):
        print_log(
            f'model.backbone.class_embeddings have the classes of {where} in another order: class maps follow the embeddings, '
            'labels the data set.',
            'current',
            logging.WARNING,
        )


def check_heads(model: Mapping, dataset: Mapping, where: str) -> None:
    """Refuse heads of another number of classes than a data set has: its labels or its scores would be of other classes."""
    classes = data_classes(dataset)
    for key, head in heads_of(model):
        count = head.get('num_classes')
        if classes is not None and count is not None and count != len(classes):
            raise ValueError(
                f'model.{key}.num_classes={count}, and {where}: {dataset.get("type")} has {len(classes)} classes: make them '
                'equal.'
            )


def check_size(dataset: Mapping, model: Mapping, where: str) -> None:
    """Refuse pipelines whose KeepDomainImage keeps less than the image tower takes."""
    encoder = (model.get('domain_embedding') or {}).get('image_encoder')
    if not isinstance(encoder, Mapping):
        return
    size = encoder.get('image_size', 224)
    steps = [step for pipeline in pipelines(dataset) for step in pipeline if isinstance(step, Mapping)]
    for step in steps:
        if str(step.get('type')).rsplit('.', 1)[-1] == 'KeepDomainImage' and step.get('size', 224) < size:
            raise ValueError(
                f'{where}: KeepDomainImage keeps {step.get("size", 224)} pixels and the image tower takes {size} '
                f'(image_encoder.image_size): set KeepDomainImage.size={size} in every pipeline.'
            )


def _words(name: str) -> frozenset[str]:
    """The synonyms of a name in one spelling."""
    plain = clean_text(name).casefold().replace('_', ' ').replace('-', ' ')
    return frozenset(' '.join(word.split()) for word in plain.split(';') if word.strip())
