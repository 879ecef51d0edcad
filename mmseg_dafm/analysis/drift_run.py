"""Compare the features of several checkpoints with those of their common origin, in one pass over the test images."""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.analysis.cka import LinearCKA
from mmseg_dafm.analysis.drift import MEASURES, class_cosine, image_drift, pooled, weight_changes
from mmseg_dafm.analysis.drift_picture import draw_changes, draw_features
from mmseg_dafm.analysis.drift_report import summarise, write_report
from mmseg_dafm.analysis.feature_hooks import check_layers, filled_model, layer_features, needed_keys
from mmseg_dafm.analysis.robustness import drop_pretrained, limit_images
from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import read_weights
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.doctor.config_check import check_config

CONVERTED = 'daft_converted.pth'


def measure_drift(
    cfg: Config,
    reference: str | os.PathLike | None,
    checkpoints: Mapping[str, str | os.PathLike],
    out_dir: str | os.PathLike,
    limit: int | None = None,
    *,
    converted: Mapping[str, str | os.PathLike] | None = None,
    dataloader: str = 'test_dataloader',
    layers: Sequence[str] = ('backbone',),
    device: str | torch.device = 'cpu',
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure feature drift and weight change, write tables and pictures, and return the last layer's summary.

    All models are held at once and see every batch one after another; no features are stored.

    Args:
        cfg: A config with the model and the data; it is not changed.
        reference: Checkpoint of the pre-trained network; None for the weights of the config's own ``init_cfg``, whose
            changes are then reported without those of the head.
        checkpoints: Name of the method -> checkpoint after training.
        out_dir: Folder for ``drift.csv``, ``drift.md``, ``drift.json``, ``changes.csv``, ``fig1.png``, ``fig2.png``.
        limit: At most this many images of each data set, evenly spread; None for all.
        converted: Name of the method -> checkpoint between conversion and training. By default ``daft_converted.pth`` beside the
            checkpoint, if there is one.
        dataloader: Key of the data loader whose images are used.
        layers: Names of parts whose outputs are compared, in order; the last output is the last layer.
        device: Where the models run.

    Returns:
        method -> domain -> ``pooled_cosine``, ``pixel_cosine`` (medians over images), ``cka``; for every domain that the images
        carry, and for ``'all'``. CKA is nan for fewer than four images.

    Raises:
        ValueError: Unknown layer, a checkpoint that lacks a needed weight, a config without pretrained weights or data,
            no method, bad ``limit``.
        FileNotFoundError: A checkpoint or data folder does not exist.
    """
    cfg = copy.deepcopy(cfg)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    converted = _prepare(cfg, reference, checkpoints, converted or {}, dataloader)
    if limit is not None:
        limit_images(cfg[dataloader], limit)
    origin = _reference_model(cfg, reference, layers)
    models = {name: filled_model(cfg, path, layers) for name, path in checkpoints.items()}
    pretrained = _pretrained_state(origin, reference, layers)
    changes, left_out = {}, {}
    for name in models:
        start = read_weights(converted[name]) if name in converted else None
        changes[name], left_out[name] = weight_changes(pretrained, read_weights(checkpoints[name]), start)
    for model in (origin, *models.values()):
        model.to(device).eval()
    loader = Runner.build_dataloader(cfg[dataloader], seed=0)
    rows, cka, classes = compare(origin, models, loader, layers)
    summary = summarise(rows, cka)
    protocol = dict(
        config=Path(cfg.filename or 'config').name,
        reference='init_cfg of the config' if reference is None else str(reference),
        checkpoints={name: str(path) for name, path in checkpoints.items()},
        converted={name: str(path) for name, path in converted.items()},
        dataloader=dataloader,
        limit=limit or 'none',
        left_out={name: names for name, names in left_out.items() if names},
    )
    write_report(Path(out_dir), rows, summary, classes, changes, protocol)
    draw_features(rows, Path(out_dir) / 'fig1.png')
    draw_changes(changes, Path(out_dir) / 'fig2.png', set(converted))
    last = list(dict.fromkeys(row['layer'] for row in rows))[-1]
    wanted = ('pooled_cosine', 'pixel_cosine')
    return {
        name: {
            domain: {**{key: values['median'][key] for key in wanted}, 'cka': values['cka']}
            for domain, values in summary[name][last].items()
        }
        for name in models
    }


def compare(
    origin: nn.Module, models: Mapping[str, nn.Module], loader, layers: Sequence[str]
) -> tuple[list[dict], dict, dict[tuple[str, str], dict[str, float]]]:
    """One pass over the images.

    Args:
        origin: The reference, in test mode.
        models: method -> tuned model of the same architecture, in test mode.
        loader: Test data loader.
        layers: Names of parts.

    Returns:
        Rows per image, layer and method (``image``, ``domain``, ``layer``, ``method`` and
        :data:`~mmseg_dafm.analysis.drift.MEASURES`); (method, layer, domain or ``'all'``) -> CKA of the pooled features; and
        (method, layer) -> class -> mean cosine of its positions, where the images come with labels.
    """
    rows, cka, sums = [], {}, {}
    names = (getattr(loader.dataset, 'metainfo', None) or {}).get('classes') or ()
    for batch in track(loader, len(loader), 'feature drift', lambda line: print(line, flush=True)):
        data = origin.data_preprocessor(batch, False)
        samples = data['data_samples']
        domains = [sample.metainfo.get('domain') or 'all' for sample in samples]
        before = layer_features(origin, data, layers)
        for method, model in models.items():
            for layer, after in layer_features(model, data, layers).items():
                measured = {key: value.tolist() for key, value in image_drift(before[layer], after).items()}
                vectors = pooled(before[layer]).cpu(), pooled(after).cpu()
                for index, (sample, domain) in enumerate(zip(samples, domains, strict=True)):
                    image = str(sample.metainfo.get('img_path', f'image {len(rows)}'))
                    values = {key: measured[key][index] for key in MEASURES}
                    rows.append(dict(image=image, domain=domain, layer=layer, method=method, **values))
                    for group in {domain, 'all'}:
                        one = (part[index : index + 1] for part in vectors)
                        cka.setdefault((method, layer, group), LinearCKA()).update(*one)
                _add_classes(sums, (method, layer), before[layer], after, samples, len(names))
    by_class = {
        key: {name: value for name, value in zip(names, (total / count).tolist(), strict=True) if value == value}
        for key, (total, count) in sums.items()
    }
    return rows, {key: value.value() for key, value in cka.items()}, by_class


def _add_classes(sums: dict, key: tuple, before: Tensor, after: Tensor, samples: list, num_classes: int) -> None:
    """Add the cosines by class of images that have labels; tokens and vectors have no place for them."""
    if not num_classes or before.dim() != 4:
        return
    for index, sample in enumerate(samples):
        if 'gt_sem_seg' in sample:
            label = sample.gt_sem_seg.data.to(before.device)
            part = slice(index, index + 1)
            total, count = class_cosine(before[part], after[part], label, num_classes)
            old = sums.get(key, (0, 0))
            sums[key] = old[0] + total, old[1] + count


def _prepare(cfg: Config, reference, checkpoints: Mapping, converted: Mapping, dataloader: str) -> dict[str, Path]:
    """Look at the input before anything is built; returns the converted checkpoints that there are."""
    if not checkpoints:
        raise ValueError('no checkpoint to compare: give --checkpoints NAME=FILE')
    if not cfg.get(dataloader):
        raise ValueError(f'{cfg.filename} defines no {dataloader}: name one that it has with --dataloader')
    unknown = [name for name in converted if name not in checkpoints]
    if unknown:
        raise ValueError(f"--converted names '{unknown[0]}', which is none of the methods {', '.join(checkpoints)}")
    for path in [*([] if reference is None else [reference]), *checkpoints.values(), *converted.values()]:
        if not os.path.isfile(path):
            raise FileNotFoundError(f'checkpoint {path} does not exist')
    run_config.adapt_to_device(cfg)
    # the checkpoints are what is tested
    cfg.load_from = None
    if reference is None:
        before = copy.deepcopy(cfg.model)
        drop_pretrained(before)
        if before == cfg.model and not _names_weights(cfg.model):
            raise ValueError(f'the model of {cfg.filename} has no pretrained weights in its init_cfg: give --reference FILE')
    else:
        drop_pretrained(cfg.model)
    check_config(cfg, (dataloader,))
    found = {name: Path(path).parent / CONVERTED for name, path in checkpoints.items()}
    found = {name: path for name, path in found.items() if path.is_file()}
    return {**found, **{name: Path(path) for name, path in converted.items()}}


def _names_weights(node: object) -> bool:
    """Whether a model config names a source of weights, for a tower of ours or in mmseg's own ``pretrained``."""
    if isinstance(node, dict):
        return bool(node.get('pretrained')) or any(map(_names_weights, node.values()))
    return isinstance(node, list | tuple) and any(map(_names_weights, node))


def _reference_model(cfg: Config, reference, layers: Sequence[str]) -> nn.Module:
    if reference is not None:
        return filled_model(cfg, reference, layers)
    model = MODELS.build(copy.deepcopy(cfg.model))
    check_layers(model, layers)
    logger = MMLogger.get_current_instance()
    level = logger.level
    # mmengine would print several lines per tensor
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
    return model


def _pretrained_state(origin: nn.Module, reference, layers: Sequence[str]) -> dict[str, Tensor]:
    """The reference's tensors that can have changed; a head that was drawn here, and not in the training, is none of them."""
    if reference is not None:
        return read_weights(reference)
    state = origin.state_dict()
    return {key: state[key] for key in needed_keys(origin, layers)}
