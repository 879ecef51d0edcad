"""Whether the files that a config names exist and its schedule keeps to its rates: asked before anything is built."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, ConfigDict

from mmseg_dafm.models.adapters.config_check import check_adapter_config
from mmseg_dafm.models.domain.data_check import check_data
from mmseg_dafm.models.domain.embedding_file import embed_command
from mmseg_dafm.optim.schedule_check import check_rates
from mmseg_dafm.run_config import for_each_dataset

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


class Missing(NamedTuple):
    """Something that a config names and that does not exist: what, under which key, and the remedy."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f'{self.what}: {self.fix}'


def check_config(cfg: Config, dataloaders: Sequence[str] = DATALOADERS) -> None:
    """Raise if `missing_files` or `check_data` finds anything, or, in training, `check_adapter_config` or `check_rates`.

    Raises:
        FileNotFoundError: With one line per missing file or folder.
        ValueError: As `check_data`, `check_adapter_config` and `check_rates`.
    """
    if 'train_dataloader' in dataloaders:
        check_adapter_config(cfg)
        check_rates(cfg)
    check_data(cfg, dataloaders)
    problems = list(missing_files(cfg, dataloaders))
    if problems:
        raise FileNotFoundError('\n'.join(map(str, problems)))


def missing_files(cfg: Config, dataloaders: Sequence[str] = DATALOADERS) -> Iterator[Missing]:
    """Yield each data folder, embedding file, model folder or checkpoint that does not exist.

    Args:
        cfg: A training or test config.
        dataloaders: Which of its data loaders to look at.

    Yields:
        What is missing, each thing once.
    """
    yield from _missing_data(cfg, dataloaders)
    yield from dict.fromkeys(_missing_model_files(cfg.get('model') or {}, 'model'))
    load_from = cfg.get('load_from')
    if load_from and '://' not in load_from and not Path(load_from).expanduser().is_file():
        yield Missing(f'load_from names {load_from}, which does not exist', 'correct the path or remove the key')


def _missing_data(cfg: Config, dataloaders: Sequence[str]) -> list[Missing]:
    loaders: dict[Missing, list[str]] = {}

    def visit(dataset: ConfigDict) -> None:
        root, kind = dataset.get('data_root'), dataset.get('type')
        if root and not Path(root).expanduser().is_dir():
            remedy = 'put the data there, or set data_root (our configs read it from the environment, see the README)'
            add(Missing(f'{kind} has data_root={root!r}, which is not a folder', remedy))
            return
        for key, folder in (dataset.get('data_prefix') or {}).items():
            if isinstance(folder, str) and not (path := Path(root or '', folder).expanduser()).is_dir():
                what = f'{kind} has data_prefix.{key}={folder!r}, but {path} is not a folder'
                add(Missing(what, 'complete the data or correct the key'))

    def add(missing: Missing) -> None:
        names = loaders.setdefault(missing, [])
        if name not in names:
            names.append(name)

    for name in dataloaders:
        dataset = (cfg.get(name) or {}).get('dataset')
        if dataset:
            for_each_dataset(dataset, visit)
    return [Missing(f'{", ".join(names)}: {missing.what}', missing.fix) for missing, names in loaders.items()]


def _missing_model_files(node: dict | list, where: str) -> Iterator[Missing]:
    """Walk a model config: embedding files, folders and checkpoints of weights."""
    if isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _missing_model_files(child, f'{where}[{index}]')
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == 'path' and isinstance(value, str) and not Path(value).expanduser().exists():
            remedy = 'correct the path'
            if value.endswith('.safetensors'):
                remedy = f'make it with: {embed_command(node.get("classes"), value)}'
            yield Missing(f'{where}.path names {value}, which does not exist', remedy)
        elif key in ('pretrained', 'checkpoint', 'model', 'weights'):
            # A dict gives one source per part of the model.
            for part, source in value.items() if isinstance(value, dict) else [('', value)]:
                if isinstance(source, str) and _is_path(source) and not Path(source).expanduser().exists():
                    name = f'{where}.{key}.{part}'.rstrip('.')
                    what = f'{name} names {source}, which does not exist'
                    yield Missing(what, 'put the weights there or correct the path')
        yield from _missing_model_files(value, f'{where}.{key}')


def _is_path(source: str) -> bool:
    """Tell a local path from a hub id such as `owner/name`, an open_clip tag or a URL."""
    is_file_name = source.endswith(('.pth', '.pt', '.ckpt', '.safetensors'))
    return '://' not in source and (is_file_name or source.startswith(('/', './', '../', '~')))
