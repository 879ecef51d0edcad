"""Predictions of runs on fixed images, on the report page."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
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
from mmseg_dafm.analysis.qualitative import Row
from mmseg_dafm.analysis.robustness import drop_pretrained
from mmseg_dafm.core import run_config
from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import evenly_spread
from mmseg_dafm.evaluation.protocol import walk
from mmseg_dafm.experiments.report.markup import Mark, Markup, join, label_map, photo, swatch, tag
from mmseg_dafm.experiments.suites.results import Result
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.table import Table

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


def choose(domains: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` images of every domain, domains in order of appearance."""
    places: dict[str, list[int]] = {}
    for index, domain in enumerate(domains):
        places.setdefault(domain, []).append(index)
    return [own[i] for own in places.values() for i in evenly_spread(len(own), count)]


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


def gather_shots(
    suite: Suite, results: Mapping[str, Sequence[Result]], out: Path, count: int
) -> tuple[dict[str, list[tuple[str, Shots]]], list[str]]:
    """Part of the table -> (row, what it predicts) for the first seed of every tested run, and a sentence for each that cannot.

    Args:
        suite: Of the runs.
        results: Run -> its finished seeds.
        out: The suite's folder; predictions are kept in its ``predictions``.
        count: Images per domain.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    found: dict[str, list[tuple[str, Shots]]] = {}
    problems = []
    for run in suite.runs:
        if run.row is None or run.kind == 'command' or not results.get(run.name):
            continue
        try:
            shots = cached_shots(results[run.name][0], out / 'predictions' / f'{run.name}.npz', count, device)
        except (ValueError, OSError, RuntimeError, KeyError, ImportError) as error:
            # one picture less is no reason to have no page
            problems.append(f'{run.name}: no prediction, {error}')
            continue
        same = found.setdefault(run.part, [])
        if same and same[0][1].names != shots.names:
            problems.append(f'{run.name}: no prediction, because its test images are not those of {same[0][0]}')
            continue
        same.append((run.row, shots))
    return found, problems


def prediction_section(shown: Sequence[tuple[str, Shots]], table: Table, marks: Mapping[str, Mark]) -> Markup:
    """One block per image: the image, its label, the predictions.

    Args:
        shown: (row, what it predicts), all on the same images.
        table: The suite's, for titles and groups.
        marks: Title of a method -> its mark.
    """
    rows = {row.name: row for row in table.rows}
    first = shown[0][1]
    colours = [
        tag('li', tag('span', class_='colour', style=f'background:rgb({",".join(map(str, colour))})'), name)
        for name, colour in zip(first.classes, first.palette.tolist(), strict=True)
    ]
    legend = tag(
        'ul', *colours, tag('li', tag('span', class_='colour', style='background:#000'), 'not labelled'), class_='legend'
    )
    blocks = []
    for i, (domain, image, label) in enumerate(zip(first.domains, first.images, first.labels, strict=True)):
        count = first.domains[: i + 1].count(domain)
        predictions = {name: shots.predictions[i] for name, shots in shown}
        blocks.append(_block(Row(f'{domain}, image {count}', image, label, predictions), rows, marks, first))
    return join(legend, *blocks)


def _block(row: Row, rows: Mapping, marks: Mapping[str, Mark], shots: Shots) -> Markup:
    tiles = [
        _tile(photo(Image.fromarray(row.image), f'{row.title}: the image'), 'image'),
        _tile(label_map(row.label, shots.palette, f'{row.title}: the label'), 'label'),
    ]
    # few tiles may be large
    width = 15 if len(row.predictions) <= 8 else 10
    group = ''
    for name, ids in row.predictions.items():
        of = rows[name]
        if of.group and of.group != group:
            tiles.append(tag('p', of.group, class_='group'))
        group = of.group
        alt = f'{row.title}: prediction of {of.title}'
        tiles.append(_tile(label_map(ids, shots.palette, alt), swatch(marks[of.title]), of.title))
    return tag('section', tag('h3', row.title), tag('div', *tiles, class_='tiles', style=f'--tile:{width}rem'))


def _tile(picture: Markup, *caption: object) -> Markup:
    return tag('figure', picture, tag('figcaption', *caption))
