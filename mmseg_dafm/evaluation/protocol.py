"""The protocol of a test (scales, crop, data sets, checkpoint, ...), read from the run's config."""

import os.path as osp
import re
from collections.abc import Iterator, Mapping

import torch

from mmseg_dafm import __version__
from mmseg_dafm.core.run_config import for_each_dataset, pipelines

UNKNOWN = 'unknown'


def walk(node) -> Iterator[dict]:
    """Yield every dict in nested dicts and lists, outermost first."""
    if isinstance(node, Mapping):
        yield node
        children = node.values()
    else:
        children = node if isinstance(node, (list, tuple)) else ()
    for child in children:
        yield from walk(child)


def data_sets(dataset: Mapping) -> list[str]:
    """Short names of the data sets in a dataset config, also inside wrappers: type, domain, folder and other options."""
    names = []

    def visit(node: Mapping) -> None:
        if isinstance(node.get('type'), str):
            prefix = (node.get('data_prefix') or {}).get('img_path')
            domain, source, split, *others = map(node.get, ('domain', 'source', 'split', 'sequences', 'conditions'))
            details = [domain, source, split, 'half' if node.get('half') else None, prefix, *others]
            details = ['+'.join(d) if isinstance(d, (list, tuple)) else d for d in details if d]
            names.append(f'{node["type"]}({", ".join(map(str, details))})' if details else node['type'])

    for_each_dataset(dataset, visit)
    return names


def describe_test(cfg: Mapping, stage: str = 'test', experiment: str | None = None, checkpoint: str | None = None) -> dict:
    """Collect what defines a test: scales, mode, crop, stride, augmentation, data sets, checkpoint and versions.

    Args:
        cfg: the run's config as a dict; with {} the values from the config are ``'unknown'``.
        stage: ``'test'`` or ``'val'``, selects the data loader.
        experiment: mmengine's experiment name, ``<config>_<date>_<time>``.
        checkpoint: the tested file; None during training, when the weights have no file yet.

    Returns:
        Keys ``config``, ``checkpoint``, ``data``, ``scales``, ``mode``, ``crop``, ``stride``, ``tta``, ``mmseg_dafm``
        and ``torch``.
    """
    loader = cfg.get(f'{stage}_dataloader') or {}
    dataset = loader.get('dataset') or {}
    model = cfg.get('model') or {}
    # With test-time augmentation, the segmentor is in model.module.
    test_cfg = model.get('test_cfg') or (model.get('module') or {}).get('test_cfg') or {}
    nodes = list(walk(pipelines(dataset)))
    resizes = [node for node in nodes if str(node.get('type', '')).endswith('Resize')]
    scales = {str(node.get('scale') or node.get('scale_factor')) for node in resizes}
    # DomainResize
    scales |= {f'{name} {tuple(scale)}' for node in resizes for name, scale in (node.get('domains') or {}).items()}
    scales = sorted(scales)
    known = bool(cfg)
    return {
        'config': re.sub(r'_\d{8}_\d{6}$', '', experiment) if experiment else UNKNOWN,
        'checkpoint': osp.basename(checkpoint) if checkpoint else UNKNOWN,
        'data': data_sets(dataset) or UNKNOWN,
        'scales': (scales or 'as stored') if known else UNKNOWN,
        'mode': test_cfg.get('mode', UNKNOWN),
        'crop': test_cfg.get('crop_size', 'none' if test_cfg else UNKNOWN),
        'stride': test_cfg.get('stride', 'none' if test_cfg else UNKNOWN),
        'tta': any(node.get('type') == 'TestTimeAug' for node in nodes) if known else UNKNOWN,
        'mmseg_dafm': __version__,
        'torch': torch.__version__,
    }
