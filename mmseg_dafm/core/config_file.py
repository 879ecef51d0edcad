"""Read and check config files: environment values, options, keys and component arguments."""

import argparse
import ast
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import mmseg.registry
from mmengine.config import Config, DictAction
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner

# mmengine's '{{$NAME:default}}'
PLACEHOLDER = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}""")
# A dict in an option's text, even if the shell removed its quotes; not a suite's placeholder such as '{seed}'.
DICT = re.compile(r"""\{\s*(['"\d}]|type\b)""")
# Keys read by mmengine's Runner, mmseg's tools or ours.
KNOWN_KEYS = frozenset((
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer',
    'vis_backends', 'default_scope', 'randomness', 'experiment_name', 'custom_imports', 'work_dir', 'auto_scale_lr',
    'runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile', 'activation_checkpointing',
    'efficient_conv_bn_eval', 'resource_limit', 'tta_model', 'tta_pipeline', 'strategy',
))  # fmt: skip

# Variables by mmseg's convention: the config copies their values into its data sets.
PIPELINES = frozenset(('train_pipeline', 'val_pipeline', 'test_pipeline'))


class ConfigOptions(DictAction):
    """mmengine's ``KEY=VALUE ...``; values with dicts are Python literals, such as ``hooks=[{'type': 'EMAHook'}]``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add the options to the earlier ones; end the tool with one sentence if one cannot be read."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for value in values:
            key, given, text = value.partition('=')
            if not key or not given:
                parser.exit(1, f'error: {option_string} {value}: give it as KEY=VALUE.\n')
            try:
                # mmengine's parser would cut dicts at their commas
                options[key] = ast.literal_eval(text.strip()) if DICT.search(text) else self._parse_iterable(text)
            except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError):
                parser.exit(
                    1,
                    f'error: {option_string} {value}: the value cannot be read. Close its brackets, and put quotes around texts '
                    "inside of dicts, as in \"KEY=[{'type': 'EMAHook'}]\".\n",
                )
        setattr(namespace, self.dest, options)


def load_config(
    path: str | os.PathLike, options: Mapping[str, Any] | None = None, also_read: frozenset[str] = frozenset()
) -> Config:
    """Read a config file and merge the command line's options into it; ``~`` is expanded in every path.

    Args:
        path: The config file.
        options: ``--cfg-options`` as a dict of dotted keys.
        also_read: Further top-level keys that options may set, because the caller reads them.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, an option cannot be merged, or a key is unknown.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'config {path} does not exist. Correct the path.')
    return _read(lambda: Config.fromfile(str(path)), str(path), options, also_read)


def stored_config(
    meta: Mapping[str, Any],
    checkpoint: str | os.PathLike,
    options: Mapping[str, Any] | None = None,
    also_read: frozenset[str] = frozenset(),
) -> Config:
    """Read a checkpoint's training config and merge the command line's options into it.

    Args:
        meta: ``meta`` of the checkpoint.
        checkpoint: Its file, for errors.
        options: See :func:`load_config`.
        also_read: See :func:`load_config`.

    Raises:
        ValueError: If the checkpoint holds no config; see also :func:`load_config`.
    """
    text = meta.get('cfg')
    if not isinstance(text, str):
        raise ValueError(f'checkpoint {checkpoint} holds no config: name the config file, too.')
    return _read(lambda: Config.fromstring(text, '.py'), f'of {checkpoint}', options, also_read)


def _read(read: Callable[[], Config], path: str, options: Mapping[str, Any] | None, also_read: frozenset[str]) -> Config:
    install()
    try:
        cfg = read()
    except Exception as error:  # a config is a program and can fail in any way
        raise ValueError(f'config {path} cannot be read: {type(error).__name__}: {_first_line(error)}') from error
    _check_keys(cfg, path)
    check_options(cfg, options or {}, also_read)
    try:
        cfg.merge_from_dict(dict(options or {}))
    except Exception as error:  # mmengine raises many kinds of exceptions here
        raise ValueError(f'--cfg-options do not fit {path}: {_first_line(error)}') from error
    if not isinstance(cfg.get('model', {}), Mapping):
        raise ValueError(f'{path}: model must be a dict with a type, got {cfg.model!r}.')
    expand_home(cfg._cfg_dict)
    return cfg


def check_options(cfg: Config, options: Mapping[str, Any], also_read: frozenset[str] = frozenset()) -> None:
    """Refuse options without effect: unknown keys, and variables whose values the config has already copied.

    Raises:
        ValueError: If an option has no effect; names it and the nearest key.
    """
    for option in options:
        key = option.split('.')[0]
        if key in KNOWN_KEYS or key in also_read:
            continue
        if key in PIPELINES or (key in cfg and _count(key, cfg) > 1):
            places = 'train_dataloader.dataset.pipeline' if key in PIPELINES else 'model or train_dataloader.dataset'
            raise ValueError(
                f'--cfg-options {option}: {key} is a variable whose value the config has already copied, so this changes '
                f'nothing. Set the keys where it is used, such as those of {places}.'
            )
        if key not in cfg:
            raise ValueError(f'--cfg-options {option}: nobody reads the key {key!r}.{nearest(key, {*cfg, *KNOWN_KEYS})}')


def _check_keys(cfg: Config, path: str | os.PathLike) -> None:
    """Refuse a misspelt top-level key: close to a known key, and used nowhere else in the config and its bases."""
    for key in cfg:
        near = get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.85)
        if key not in KNOWN_KEYS | PIPELINES and near and _count(key, cfg) < 2:
            raise ValueError(f'{path}: nobody reads the key {key!r}. Did you mean {near[0]!r}?')


def _count(key: str, cfg: Config) -> int:
    """Count a name in the text of a config and its bases, without comments."""
    text = re.sub(r'#.*', '', cfg.text)
    return len(re.findall(rf'\b{re.escape(key)}\b', text))


def nearest(name: str, names: set[str] | frozenset[str]) -> str:
    """`` Did you mean NAME?`` with the closest of some names; empty if none is close."""
    near = get_close_matches(name, sorted(names), n=1)
    return f' Did you mean {near[0]!r}?' if near else ''


def expand_home(node: dict | list) -> None:
    """Expand a leading ``~`` in every string of nested dicts and lists, in place."""
    for key, value in list(node.items()) if isinstance(node, Mapping) else enumerate(node):
        if isinstance(value, str) and value.startswith('~'):
            node[key] = os.path.expanduser(value)
        elif isinstance(value, Mapping | list):
            expand_home(value)


def _first_line(error: Exception) -> str:
    """First line of an error's message, without the path of mmengine's temporary config file."""
    text = re.sub(r'\S*/tmp\w+\.py:?\s*', '', str(error))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


def substitute_environment(filename: str, temp_config_name: str) -> dict[str, str]:
    """Replace mmengine's ``Config._substitute_env_variables``: keeps backslashes and quotes in environment values.

    mmengine inserts the value as a regex replacement into the config's source, where backslashes and quotes change it.

    Raises:
        KeyError: If a variable is not set and has no default.
    """
    found: dict[str, str] = {}

    def value_of(match: re.Match) -> str:
        name, default = match.groups()
        if name not in os.environ:
            if not default:
                raise KeyError(f'the environment variable {name} is not set: set it, or give a default in the config.')
            return default
        found[name] = os.environ[name]
        return _as_source(found[name]) if temp_config_name.endswith('.py') else found[name]

    text = PLACEHOLDER.sub(value_of, Path(filename).read_text(encoding='utf-8'))
    Path(temp_config_name).write_text(text, encoding='utf-8')
    return found


def _as_source(value: str) -> str:
    """Escape a value for a Python string in single or double quotes."""
    for old, new in (('\\', '\\\\'), ("'", "\\'"), ('"', '\\"'), ('\n', '\\n')):
        value = value.replace(old, new)
    return value


def install() -> None:
    """Make mmengine keep environment values unchanged; call it before mmengine reads a config."""
    Config._substitute_env_variables = staticmethod(substitute_environment)


# Dicts with a `type` that are not built from registries, or whose builder adds or removes arguments.
NOT_BUILT = ('norm_cfg', 'conv_cfg', 'act_cfg', 'init_cfg', 'upsample_cfg', 'paramwise_cfg', 'dist_cfg', 'sampler')
PARTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator', 'default_hooks',
         'custom_hooks', 'train_cfg', 'val_cfg', 'test_cfg', 'tta_model', 'train_pipeline', 'test_pipeline',
         'optim_wrapper', 'param_scheduler')  # fmt: skip
# Keys that builders consume before they call the class.
BUILDERS = {'type', 'priority', '_scope_', '_delete_', 'by_epoch', 'constructor', 'paramwise_cfg', 'convert_to_iter_based'}


def check_arguments(cfg: Mapping[str, Any]) -> None:
    """Refuse arguments that a component's class does not take, before anything is built.

    A class that passes ``**kwargs`` to anything but its parent is not checked.

    Raises:
        ValueError: If an argument is unknown; names the key, the class and the nearest argument.
    """
    for name in PARTS:
        for where, node in _components(cfg.get(name), name):
            _check(where, node)


def _components(node: Any, where: str) -> Iterator[tuple[str, Mapping]]:
    """Yield every dict with a ``type`` below a node, with its dotted key."""
    if isinstance(node, Mapping):
        if 'type' in node:
            yield where, node
        for key, value in node.items():
            if not key.endswith(NOT_BUILT):
                yield from _components(value, f'{where}.{key}')
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _components(value, f'{where}.{index}')


def _check(where: str, node: Mapping) -> None:
    found = [node['type']] if inspect.isclass(node['type']) else _classes(str(node['type']))
    taken = [arguments(kind) for kind in found]
    if not taken or None in taken:
        return
    # the name may be in several registries: allow the arguments of all
    known = set().union(*taken)
    for key in node:
        if key not in known and key not in BUILDERS:
            kind = getattr(found[0], '__name__', node['type'])
            raise ValueError(f'{where}.{key}: {kind} takes no argument {key!r}.{nearest(key, known)}')


def _classes(name: str) -> list[type]:
    """Classes of a name in mmseg's registries and their parents."""
    plain = name.rsplit('.', 1)[-1]
    found = []
    for registry in (value for value in vars(mmseg.registry).values() if isinstance(value, Registry)):
        while registry is not None:
            kind = registry.module_dict.get(plain)
            if kind is not None and kind not in found:
                found.append(kind)
            registry = registry.parent
    return found


def arguments(kind: Any) -> set[str] | None:
    """Argument names of a class, those passed on to its parents included; None if it takes any."""
    if not inspect.isclass(kind):
        return None
    if kind is CheckpointHook:  # it passes the others to Runner.save_checkpoint
        return {*inspect.signature(CheckpointHook).parameters, *inspect.signature(Runner.save_checkpoint).parameters} - {'self'}
    names: set[str] = set()
    for base in kind.__mro__:
        if '__init__' not in vars(base):
            continue
        init = vars(base)['__init__']
        try:
            parameters, source = inspect.signature(init).parameters.values(), inspect.getsource(init)
        except (ValueError, TypeError, OSError):
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
        others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if others is None:
            return names
        # twice: in the signature and in super().__init__()
        passed_on = re.search(rf'super\(.*?\)\.__init__\([^#]*?\*\*{others}\b', source, re.DOTALL)
        if not passed_on or len(re.findall(rf'\b{others}\b', source)) != 2:
            return None
    return None
