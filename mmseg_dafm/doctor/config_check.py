"""Check a config before building: named files and packages exist, arguments are known, the schedule keeps per-group rates."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict

from mmseg_dafm.core.config_file import check_arguments
from mmseg_dafm.core.run_config import for_each_dataset
from mmseg_dafm.datasets.config_check import check_data_sets
from mmseg_dafm.models.adapters.adapter import check_adapter_config
from mmseg_dafm.models.domain.data_check import check_data
from mmseg_dafm.models.domain.embedding_file import embed_command
from mmseg_dafm.models.heads.config_check import check_head_config
from mmseg_dafm.optim.schedule_check import check_rates

# Keys of optimizers, gradient clipping, parameter groups and schedules whose values must be numbers of 0 or more.
NUMBERS = (
    'lr', 'weight_decay', 'momentum', 'eps', 'max_norm', 'lr_mult', 'decay_mult', 'bias_lr_mult', 'bias_decay_mult',
    'norm_decay_mult', 'feature_lr', 'head_lr', 'eta_min', 'eta_min_ratio', 'power', 'factor', 'start_factor', 'end_factor',
    'gamma', 'begin',
)  # fmt: skip
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


class Missing(NamedTuple):
    """A file, folder or package that a config names and that is missing: its key and value, and the fix."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f'{self.what}: {self.fix}'


def check_config(cfg: Config, dataloaders: Sequence[str] = DATALOADERS) -> None:
    """Run all config checks before a run; training, testing and the doctor share them.

    Raises:
        FileNotFoundError: If a package, file or folder is missing; one line each.
        ValueError: See the checks in `refusals`, and `check_data_sets`.
    """
    for check in refusals(dataloaders):
        check(cfg)
    problems = [*missing_packages(cfg), *missing_files(cfg, dataloaders)]
    if problems:
        raise FileNotFoundError('\n'.join(map(str, problems)))
    check_data_sets(cfg, dataloaders)


def refusals(dataloaders: Sequence[str] = DATALOADERS) -> list[Callable[[Config], None]]:
    """List the config checks that raise ValueError; training checks only if `dataloaders` holds the training loader."""
    checks = [check_arguments, check_numbers, check_workers, check_head_config, partial(check_data, dataloaders=dataloaders)]
    return checks + [check_adapter_config, check_rates] if 'train_dataloader' in dataloaders else checks


def check_numbers(cfg: Config) -> None:
    """Refuse invalid lengths, batch sizes, seeds, rates and normalisations: the run would do nothing or give nan.

    Raises:
        ValueError: If a value is invalid; names the key and the value.
    """
    counts = [(f'train_cfg.{key}', (cfg.get('train_cfg') or {}).get(key)) for key in ('max_iters', 'max_epochs')]
    counts += [(f'{name}.batch_size', (cfg.get(name) or {}).get('batch_size')) for name in DATALOADERS]
    for key, value in counts:
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f'{key}={value!r} must be a whole number of 1 or more.')
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**32):
        raise ValueError(f'randomness.seed={seed!r} must be a whole number from 0 to 2**32 - 1.')
    for key, value in _rates(cfg):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf):
            raise ValueError(f'{key}={value!r} must be a number of 0 or more.')
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        value = preprocessor.get(key)
        if value is not None and (len(value) not in (1, 3) or key == 'std' and not all(float(one) > 0 for one in value)):
            raise ValueError(
                f'model.data_preprocessor.{key}={list(value)} must be one number or three{", above 0" if key == "std" else ""}.'
            )


def _rates(cfg: Mapping) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of the optimizer and its schedule with their dotted keys."""
    wrapper = cfg.get('optim_wrapper') or {}
    places = {'optim_wrapper.optimizer': wrapper.get('optimizer'), 'optim_wrapper.clip_grad': wrapper.get('clip_grad')}
    paramwise = wrapper.get('paramwise_cfg') or {}
    places['optim_wrapper.paramwise_cfg'] = paramwise
    for name, custom in (paramwise.get('custom_keys') or {}).items():
        places[f'optim_wrapper.paramwise_cfg.custom_keys.{name}'] = custom
    schedulers = cfg.get('param_scheduler') or ()
    for index, scheduler in enumerate(schedulers if isinstance(schedulers, list | tuple) else (schedulers,)):
        places[f'param_scheduler.{index}'] = scheduler
    for where, node in places.items():
        if isinstance(node, Mapping):
            yield from ((f'{where}.{key}', node[key]) for key in NUMBERS if key in node)


def check_workers(cfg: Config) -> None:
    """Refuse loaders that PyTorch would refuse.

    Raises:
        ValueError: If a loader has `persistent_workers` and no workers.
    """
    for name in DATALOADERS:
        loader = cfg.get(name) or {}
        if loader.get('persistent_workers') and not loader.get('num_workers'):
            raise ValueError(f'{name} has persistent_workers=True and num_workers=0: set {name}.persistent_workers=False.')


# Component or provider -> the packages that it needs, and the extra that installs them.
PACKAGES = {
    'VFMBackbone': (('timm',), 'vfm'),
    'MaskCLIPBackbone': (('timm',), 'vfm'),
    'TIMMPyramid': (('timm',), 'vfm'),
    'TIMMBackbone': (('timm',), 'vfm'),
    'HFMask2FormerHead': (('scipy',), 'vfm'),
    'LoRA': (('peft',), 'peft'),
    'open_clip': (('open_clip',), 'openclip'),
}


def missing_packages(cfg: Config) -> Iterator[Missing]:
    """Yield each missing package that the config's components need."""
    wanted = {}
    for where, value in _texts({key: cfg.get(key) for key in ('model', *DATALOADERS)}, ''):
        if where.rsplit('.', 1)[-1] in ('type', 'provider'):
            for package in PACKAGES.get(value, ((), ''))[0]:
                wanted.setdefault(package, (where.lstrip('.'), value))
    for package, (where, value) in wanted.items():
        if find_spec(package) is None:
            command = f'pip install -e ".[{PACKAGES[value][1]}]", or ".[all]" for everything'
            yield Missing(f'{where}={value} needs the package {package}, which is not installed', command)


def _texts(node: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield every string in nested dicts and lists with its dotted key."""
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f'{where}.{key}')
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _texts(value, f'{where}.{index}')


def missing_files(cfg: Config, dataloaders: Sequence[str] = DATALOADERS) -> Iterator[Missing]:
    """Yield each data folder, embedding file, model folder or checkpoint that does not exist.

    Args:
        cfg: A training or test config.
        dataloaders: The data loaders to check.

    Yields:
        Each missing file or folder once.
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
            remedy = 'put the data there, or set data_root (our configs read it from the environment, see docs/data.md)'
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
    """Yield the missing embedding files, model folders and checkpoints of a model config."""
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
    """Whether a source is a local path, not a hub id such as `owner/name`, an open_clip tag or a URL."""
    is_file_name = source.endswith(('.pth', '.pt', '.ckpt', '.safetensors'))
    return '://' not in source and (is_file_name or source.startswith(('/', './', '../', '~')))
