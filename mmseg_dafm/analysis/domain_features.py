"""Pooled features of a sample of images of each domain."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from mmseg_dafm.analysis.drift import pooled
from mmseg_dafm.analysis.feature_hooks import layer_features
from mmseg_dafm.core.tool_output import track


def draw_images(domains: Sequence[str], per_domain: int, seed: int = 0) -> list[int]:
    """Numbers of at most ``per_domain`` images of each domain, drawn at random, in their order.

    Args:
        domains: Domain of every image.
        per_domain: Images per domain; a smaller domain gives all that it has.
        seed: Two draws with one seed are equal.

    Raises:
        ValueError: If ``per_domain`` is not positive.
    """
    if per_domain < 1:
        raise ValueError(f'--per-domain must be 1 or more, got {per_domain}.')
    domains, chosen = np.asarray(domains), []
    rng = np.random.default_rng(seed)
    for name in sorted(set(domains.tolist())):
        members = np.flatnonzero(domains == name)
        chosen += rng.permutation(members)[:per_domain].tolist()
    return sorted(chosen)


def sample_of(loader: ConfigDict, per_domain: int, seed: int = 0) -> tuple[DataLoader, list[dict]]:
    """A loader of the drawn images, one at a time, and what is known of each.

    Args:
        loader: Config of a test data loader.
        per_domain: See :func:`draw_images`.
        seed: See :func:`draw_images`.

    Returns:
        The loader, and per image its ``domain`` (``'all'`` without any), ``path`` and ``recording`` (the folder).
    """
    dataset: Dataset = Runner.build_dataloader({**loader, 'num_workers': 0, 'persistent_workers': False}).dataset
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    chosen = draw_images([info.get('domain') or 'all' for info in infos], per_domain, seed)
    known = []
    for i in chosen:
        path = str(infos[i].get('img_path', f'image {i}'))
        known.append(dict(domain=infos[i].get('domain') or 'all', path=path, recording=str(Path(path).parent)))
    return DataLoader(Subset(dataset, chosen), batch_size=1, collate_fn=pseudo_collate), known


def collect(model: nn.Module, loader: DataLoader, layers: Sequence[str], title: str) -> Mapping[str, np.ndarray]:
    """Mean over positions of each layer's output, one row per image.

    Args:
        model: A segmentor in test mode.
        loader: Of :func:`sample_of`.
        layers: Names of parts.
        title: For the progress line.

    Returns:
        Layer -> ``(N, C)`` float32.
    """
    rows: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for batch in track(loader, len(loader), title, lambda line: print(line, flush=True)):
            data = model.data_preprocessor(batch, False)
            for layer, features in layer_features(model, data, layers).items():
                rows.setdefault(layer, []).append(pooled(features).cpu().numpy())
    return {layer: np.concatenate(parts).astype(np.float32) for layer, parts in rows.items()}
