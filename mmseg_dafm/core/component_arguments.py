"""Compare the arguments that a config gives to its components with those that their classes take."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mmseg.registry
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner

from mmseg_dafm.core.config_file import nearest

# Dicts with a `type` that are not built from the registries, or whose builder adds or takes away arguments.
NOT_BUILT = ('norm_cfg', 'conv_cfg', 'act_cfg', 'init_cfg', 'upsample_cfg', 'paramwise_cfg', 'dist_cfg', 'sampler')
PARTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator', 'default_hooks',
         'custom_hooks', 'train_cfg', 'val_cfg', 'test_cfg', 'tta_model', 'train_pipeline', 'test_pipeline',
         'optim_wrapper', 'param_scheduler')  # fmt: skip
# Taken by the builders themselves: of hooks, of scopes, of inherited configs, of optimizers and schedules.
BUILDERS = {'type', 'priority', '_scope_', '_delete_', 'by_epoch', 'constructor', 'paramwise_cfg', 'convert_to_iter_based'}


def check_arguments(cfg: Mapping[str, Any]) -> None:
    """Refuse an argument that a component's class does not take, before anything is built.

    Classes that pass ``**kwargs`` on to something else than their parents take anything, as far as can be told.

    Raises:
        ValueError: Names the key, the class and the nearest argument.
    """
    for name in PARTS:
        for where, node in _components(cfg.get(name), name):
            _check(where, node)


def _components(node: Any, where: str) -> Iterator[tuple[str, Mapping]]:
    """Every dict with a ``type`` below a node, with its place in the config."""
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
    # a name that several registries know may mean any of them
    known = set().union(*taken)
    for key in node:
        if key not in known and key not in BUILDERS:
            kind = getattr(found[0], '__name__', node['type'])
            raise ValueError(f'{where}.{key}: {kind} takes no argument {key!r}.{nearest(key, known)}')


def _classes(name: str) -> list[type]:
    """The classes that mmseg's registries and their parents know under a name."""
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
    """Names that a class takes as arguments, those that it passes on to its parents included; None if it takes any."""
    if not inspect.isclass(kind):
        return None
    if kind is CheckpointHook:  # its other arguments are those of Runner.save_checkpoint, hours later
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
        # in the signature and in the call of the parent's constructor, nowhere else
        passed_on = re.search(rf'super\(.*?\)\.__init__\([^#]*?\*\*{others}\b', source, re.DOTALL)
        if not passed_on or len(re.findall(rf'\b{others}\b', source)) != 2:
            return None
    return None
