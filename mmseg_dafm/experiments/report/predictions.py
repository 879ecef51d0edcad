"""Predictions of a finished run on a few fixed images of every domain, kept on disk."""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, METRICS
from PIL import Image

from mmseg_dafm.analysis.feature_hooks import filled_model
from mmseg_dafm.analysis.robustness_run import drop_pretrained
from mmseg_dafm.core import run_config
from mmseg_dafm.core.files import replacing
from mmseg_dafm.evaluation.protocol import walk
from mmseg_dafm.experiments.suites.results import Result

# in pixels; the page shows no picture larger
WIDTH = 512


@dataclass(frozen=True)
class Shots:
    """What one run predicts.

    Attributes:
        names: Paths of the images, which tell whether two runs saw the same.
        domains: Of each image.
        images: RGB uint8 ``(H, W, 3)``.
        labels: Class ids ``(H, W)``.
        predictions: Class ids ``(H, W)``.
        classes: Names of the C classes.
        palette: ``(C, 3)`` uint8.
    """

    names: list[str]
    domains: list[str]
    images: list[np.ndarray]
    labels: list[np.ndarray]
    predictions: list[np.ndarray]
    classes: list[str]
    palette: np.ndarray


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` places among ``total``, evenly spread, the same at every call."""
    count = min(total, count)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def choose(domains: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` images of every domain, domains in order of appearance."""
    places: dict[str, list[int]] = {}
    for index, domain in enumerate(domains):
        places.setdefault(domain, []).append(index)
    return [own[i] for own in places.values() for i in spread(len(own), count)]


def cached_shots(result: Result, path: Path, count: int, device: str = 'cpu') -> Shots:
    """What a run predicts: from the file that an earlier call left if it fits the checkpoint, else from the model.

    A checkpoint that is gone leaves its file valid.

    Args:
        result: Of the run; its protocol names checkpoint and config beside its file.
        path: Of the file, .npz.
        count: Images per domain.
        device: Where the model runs.

    Raises:
        ValueError: If checkpoint or config are gone, or the data is not there.
    """
    folder = result.file.parent
    checkpoint = folder / str(result.protocol.get('checkpoint'))
    key = [count, WIDTH, folder.name]
    if checkpoint.is_file():
        key += [checkpoint.name, checkpoint.stat().st_size, checkpoint.stat().st_mtime_ns]
    if (shots := _read(path, key)) is not None:
        return shots
    config = folder / f'{result.protocol.get("config")}.py'
    for file, kind in ((checkpoint, 'checkpoint'), (config, 'config')):
        if not file.is_file():
            raise ValueError(f'the {kind} {file.name} is gone from {folder.name}')
    shots = predict(Config.fromfile(str(config)), checkpoint, count, device)
    _write(path, key, shots)
    return shots


def predict(cfg: Config, checkpoint: Path, count: int, device: str = 'cpu') -> Shots:
    """Build a run's test set and model, and predict ``count`` images of every domain.

    Raises:
        ValueError: If the data is not there or the checkpoint is of another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    run_config.adapt_to_device(cfg)
    drop_pretrained(cfg.model)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    domain_of = _domain_of(cfg)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    indices = choose([domain_of(info) for info in infos], count)
    model = filled_model(cfg, checkpoint).to(device).eval()
    lists: tuple[list, list, list] = ([], [], [])
    for index in indices:
        sample = dataset[index]
        with torch.no_grad():
            tested = model.test_step(pseudo_collate([sample]))[0].cpu()
        label, prediction = (item.data[0].numpy() for item in (tested.gt_sem_seg, tested.pred_sem_seg))
        # mmcv reads BGR
        image = np.ascontiguousarray(sample['inputs'].numpy()[::-1].transpose(1, 2, 0))
        height, width = label.shape
        size = (min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width)))
        lists[0].append(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)))
        for found, ids in zip(lists[1:], (label, prediction), strict=True):
            found.append(np.asarray(Image.fromarray(ids.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)))
    names = [str(infos[index]['img_path']) for index in indices]
    meta = dataset.metainfo
    palette = np.asarray(meta['palette'], np.uint8)
    return Shots(names, [domain_of(infos[index]) for index in indices], *lists, list(meta['classes']), palette)


def _domain_of(cfg: Config) -> Callable[[dict], str]:
    """The domain of a data info, as the run's own metric sees it."""
    found = next((node for node in walk(cfg.test_evaluator) if node.get('type') == 'DomainIoUMetric'), None)
    # a prefix only keeps mmengine from warning that there is none
    return METRICS.build({**(found or {'type': 'DomainIoUMetric'}), 'output_dir': None, 'prefix': 'report'}).domain_of


def _write(path: Path, key: list, shots: Shots) -> None:
    arrays = {'palette': shots.palette}
    for i in range(len(shots.names)):
        arrays.update({f'image{i}': shots.images[i], f'label{i}': shots.labels[i], f'prediction{i}': shots.predictions[i]})
    about = json.dumps(dict(key=key, names=shots.names, domains=shots.domains, classes=shots.classes))
    with replacing(path) as temporary:
        np.savez_compressed(temporary, about=about, **arrays)


def _read(path: Path, key: list) -> Shots | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            about = json.loads(str(file['about']))
            if about['key'][: len(key)] != key:
                return None
            lists = [[file[f'{kind}{i}'] for i in range(len(about['names']))] for kind in ('image', 'label', 'prediction')]
            return Shots(about['names'], about['domains'], *lists, about['classes'], file['palette'])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        # written by something else, or damaged: it is made anew
        return None
