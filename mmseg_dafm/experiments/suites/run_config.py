"""What a run's config says before it is run: its identity, and the name of its final checkpoint."""

import argparse
import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_dafm.core.config_file import ConfigOptions
from mmseg_dafm.experiments.suites.suite_file import Run, Suite
from mmseg_dafm.experiments.suites.suite_load import needed
from mmseg_dafm.experiments.tool_runs import ROOT

# where files lie differs between machines and does not make another run
PATHS = ('checkpoint', 'pretrained', 'weights', 'path', 'load_from')

# what mmengine reads from the top of a config, whether it is there or not
RUNNER = {*inspect.signature(Runner.__init__).parameters, 'find_unused_parameters', 'sync_bn', 'model_wrapper_cfg', 'compile'}
RUNNER |= {'activation_checkpointing', 'efficient_conv_bn_eval', 'tta_model', 'tta_pipeline'}


class RunConfig(NamedTuple):
    """A run's config file, the length of its training, the name of its final checkpoint, and its content without paths."""

    file: Path
    length: int
    checkpoint: str
    content: dict


def find_config(name: str) -> Path:
    """A config's path: as it stands, or below the project's root.

    Raises:
        ValueError: If there is none.
    """
    for path in (Path(name), ROOT / name):
        if path.is_file():
            return path.resolve()
    raise ValueError(f'config {name!r} does not exist: correct the path, relative to the current folder or to the project.')


@cache
def _read(file: Path, options: tuple[str, ...]) -> tuple[dict, dict]:
    # train_cfg, and everything without paths
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=ConfigOptions, default={})
    cfg = Config.fromfile(str(file))
    changes = parser.parse_args(['--options', *options]).options
    for key in changes:
        part = key.split('.')[0]
        # merging would add it, where nobody reads it
        if part not in cfg and part not in RUNNER:
            known = ', '.join(sorted(str(name) for name in cfg))
            raise ValueError(f'the option {key!r} begins with {part!r}, which is not in {file}: correct it to one of {known}.')
    cfg.merge_from_dict(changes)
    return cfg.get('train_cfg') or {}, _without_paths(cfg._cfg_dict.to_dict())


def read_config(suite: Suite, run: Run) -> RunConfig:
    """Read the config of a run with its options, placeholders left as they are.

    Raises:
        ValueError: Naming suite, run and key, for a config that does not exist or an option that does not fit.
    """
    where = f'{suite.file}: run {run.name!r}'
    try:
        file = find_config(run.config)
        loop, content = _read(file, tuple(option for option in run.options if '=' in option))
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from None
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f'{where}: options {list(run.options)} do not fit {run.config}: {error}; correct the keys.') from error
    for key, stem in (('max_iters', 'iter'), ('max_epochs', 'epoch')):
        if isinstance(loop.get(key), int):
            return RunConfig(file, loop[key], f'{stem}_{loop[key]}.pth', content)
    raise ValueError(f'{where}: {run.config} gives neither train_cfg.max_iters nor max_epochs: add one.')


def batch_size(content: Mapping, processes: int) -> int | None:
    """Images behind one step of the optimizer, over all processes; None for a config that does not say.

    Args:
        content: Of the config.
        processes: Of the training, each with a batch of its own.
    """
    images = (content.get('train_dataloader') or {}).get('batch_size')
    steps = (content.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    return images * steps * processes if isinstance(images, int) and isinstance(steps, int) else None


def run_hash(suite: Suite, run: Run) -> str:
    """Identity of a run: what it is trained and tested with, and the runs that it starts from; not its seed.

    Files of weights count by their name, data by everything but their root, so that moving them repeats nothing.
    """
    parents = {name: run_hash(suite, suite.run(name)) for name in needed(run)}
    if run.kind == 'config':
        content = [read_config(suite, run).content, list(run.targets), [option for option in run.options if '=' not in option]]
    else:
        content = [run.command, run.output]
    text = json.dumps([run.kind, content, parents], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_paths(node, path: bool = False):
    if isinstance(node, dict):
        return {str(key): _without_paths(value, path or key in PATHS) for key, value in node.items() if key != 'data_root'}
    if isinstance(node, list | tuple):
        return [_without_paths(value, path) for value in node]
    return node.rsplit('/', 1)[-1] if path and isinstance(node, str) and '{' not in node else node
