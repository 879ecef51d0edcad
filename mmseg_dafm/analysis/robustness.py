"""Test under corruptions: configs, pictures of the corruptions and of the result."""

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import evenly_spread
from mmseg_dafm.core.run_config import for_each_dataset, pipelines
from mmseg_dafm.datasets.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, VERSION, corrupt
from mmseg_dafm.evaluation.robustness import LARGEST_NOISE
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

    def keep(dataset: ConfigDict) -> None:
        total = len(DATASETS.build({**copy.deepcopy(dataset), 'pipeline': []}))
        indices = dataset.get('indices')
        known = list(indices) if isinstance(indices, list | tuple) else range(total)
        dataset['indices'] = [int(known[place]) for place in evenly_spread(total, limit)]

    for_each_dataset(loader.dataset, keep)


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


COLOURS = ('#1f5fa8', '#b3452c', '#3d8a4f', '#8a5fb0')


def draw_robustness(summary: Mapping, path: str | os.PathLike, title: str = '') -> None:
    """Draw the mIoU of each corruption against its severity, the clean score as severity 0.

    The means of what counts stand in the titles and, per corruption, in brackets.

    Args:
        summary: What :func:`mmseg_dafm.evaluation.robustness.summarise` returns.
        path: The picture to write, whole or not at all.
        title: Words above the picture, for example config and checkpoint.
    """
    rows = summary['corruptions']
    groups = {group: [name for name in names if name in rows] for group, names in GROUPS.items()}
    groups = {group: names for group, names in groups.items() if names}
    figure = Figure(figsize=(3.5 * len(groups) + 0.6, 4.2), layout='constrained')
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (group, names) in zip(panels, groups.items(), strict=True):
        for name, colour, marker in zip(names, COLOURS, 'osD^', strict=False):
            scores = {0: summary['clean'], **rows[name]['severities']}
            label = f'{name.replace("_", " ")} ({rows[name]["mean"]:.1f})'
            axes.plot(list(scores), list(scores.values()), marker=marker, color=colour, markersize=4, label=label)
        axes.axhline(summary['clean'], color='0.5', linewidth=0.8, linestyle='--')
        mean = summary['groups'].get(group)
        axes.set_title(group if mean is None else f'{group}: mean {mean:.1f}', fontsize=10)
        axes.set(xlabel='severity', xticks=range(6), ylim=(0, None))
        if group == 'noise':
            axes.axvspan(LARGEST_NOISE + 0.5, 5.5, color='0.93', zorder=0)
            axes.text(
                4.5, 1, 'does not count', color='0.45', fontsize=7, ha='center', va='top', transform=axes.get_xaxis_transform()
            )
        axes.set_xlim(-0.3, 5.5)
        axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False, handlelength=1.2)
        axes.grid(axis='y', alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('mIoU')
    numbers = f'clean {summary["clean"]:.2f}, mPC {summary["mPC"]:.2f}, rPC {summary["rPC"]:.1f} %'
    figure.suptitle(f'{title}: {numbers}' if title else numbers, fontsize=11)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def draw_corruptions(image: np.ndarray, path: str | os.PathLike, seed: int = 0) -> None:
    """Draw a sheet of sixteen rows, one per corruption, with the clean image and the five severities beside each other.

    Args:
        image: (H, W, 3) uint8 BGR.
        path: The picture to write, whole or not at all.
        seed: Seed of each corruption.

    Raises:
        ValueError: The image is of another shape or type.
    """
    height, width = image.shape[:2]
    cell = 2.6
    columns = ['clean', *(f'severity {severity}' for severity in SEVERITIES)]
    size = (cell * len(columns) + 0.5, (cell * height / width + 0.06) * len(CORRUPTIONS) + 0.4)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(CORRUPTIONS), len(columns), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for name, line in zip(CORRUPTIONS, axes, strict=True):
        pictures = [image, *(corrupt(image, name, severity, np.random.default_rng(seed)) for severity in SEVERITIES)]
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
