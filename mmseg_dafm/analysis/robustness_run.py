"""What a robustness test does to a config and keeps of its finished parts, as functions."""

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.run_config import for_each_dataset, pipelines
from mmseg_dafm.datasets.corruptions import VERSION
from mmseg_dafm.evaluation.tables import without_nan

KEYED = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')
# These change the speed of a test and not its result.
SPEED = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory')


def drop_pretrained(node: dict | list) -> None:
    """Take the sources of pretrained weights out of a model config: the tested checkpoint fills the model.

    ``init_cfg`` of type ``'Pretrained'`` and mmseg's own ``pretrained`` string of the segmentor go; the towers that a backbone
    of ours loads when it is built stay, because checkpoints may lack them.
    """
    children = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    for key, child in children:
        if key == 'init_cfg' and _is_pretrained(child):
            node[key] = None
        elif isinstance(child, dict | list):
            drop_pretrained(child)


def _is_pretrained(init_cfg: object) -> bool:
    parts = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    return any(isinstance(part, dict) and part.get('type') == 'Pretrained' for part in parts)


def corrupted_loader(loader: ConfigDict, corrupt: Mapping | None) -> ConfigDict:
    """A copy of a test data loader whose every pipeline corrupts the image right after it is loaded.

    Args:
        loader: ``cfg.test_dataloader``.
        corrupt: Arguments of ``Corrupt`` without ``type``; None for clean images.

    Raises:
        ValueError: A pipeline loads no image, or has a ``Corrupt`` of its own; the pipeline's transforms are named.
    """
    changed = copy.deepcopy(loader)
    seen = set()
    for pipeline in pipelines(changed.dataset):
        kinds = [str(transform.get('type')).rsplit('.', 1)[-1] for transform in pipeline]
        if id(pipeline) in seen:
            continue
        seen.add(id(pipeline))
        if 'Corrupt' in kinds:
            raise ValueError(f'the test pipeline {kinds} has a Corrupt of its own: test the config without it')
        place = next((index for index, kind in enumerate(kinds) if kind.startswith('LoadImage')), None)
        if place is None:
            raise ValueError(f'the test pipeline {kinds} has no LoadImageFromFile, after which Corrupt belongs: add it')
        if corrupt is not None:
            pipeline.insert(place + 1, ConfigDict(type='Corrupt', **corrupt))
    if not seen:
        raise ValueError('test_dataloader.dataset has no pipeline: give it a test_pipeline with LoadImageFromFile')
    return changed


def limit_images(loader: ConfigDict, limit: int) -> None:
    """Keep at most ``limit`` images of every data set, evenly spread over it, in place.

    Raises:
        ValueError: ``limit`` is not positive.
    """
    if limit < 1:
        raise ValueError(f'--limit must be 1 or more, got {limit}')

    def spread(dataset: ConfigDict) -> None:
        total = len(DATASETS.build({**copy.deepcopy(dataset), 'pipeline': []}))
        indices = dataset.get('indices')
        known = list(indices) if isinstance(indices, list | tuple) else range(total)
        count = min(limit, total)
        dataset['indices'] = [int(known[index * total // count]) for index in range(count)]

    for_each_dataset(loader.dataset, spread)


def run_key(cfg: Config, checkpoint: str | os.PathLike, settings: Mapping) -> str:
    """Checksum of what the scores depend on: the checkpoint's bytes, the tested part of the config, the settings.

    Args:
        cfg: The config after all changes but ``Corrupt``.
        checkpoint: File of the weights.
        settings: Seed, backend and the like.
    """
    tested = {key: cfg.get(key) for key in KEYED}
    tested = json.loads(json.dumps(tested, default=str))
    for name in SPEED:
        (tested['test_dataloader'] or {}).pop(name, None)
    digest = hashlib.blake2b(json.dumps([tested, dict(settings), VERSION], sort_keys=True).encode(), digest_size=8)
    with open(checkpoint, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def condition_name(corruption: str, severity: int) -> str:
    """Name of a condition in files: ``clean``, or corruption and severity."""
    return f'{corruption}-{severity}' if severity else 'clean'


def read_condition(folder: Path, name: str, key: str) -> dict | None:
    """What the finished condition's file holds, or None if there is none of this key."""
    try:
        record = json.loads((folder / f'{name}.json').read_text())
    except (FileNotFoundError, ValueError):
        return None
    if record.get('key') != key:
        return None
    record['scores'] = {domain: float('nan') if value is None else value for domain, value in record['scores'].items()}
    return record


def write_condition(folder: Path, name: str, record: Mapping) -> None:
    """Keep a finished condition: ``key``, ``scores`` (domain -> mIoU) and what else the tool adds; nan becomes null."""
    with replacing(folder / f'{name}.json') as temporary:
        temporary.write_text(json.dumps(without_nan(record), indent=1) + '\n')
