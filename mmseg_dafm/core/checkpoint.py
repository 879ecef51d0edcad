"""Read checkpoints without running code from them, and compare them with the model that is to hold them."""

import argparse
import codecs
import collections
import io
import os
import pickle
import types
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from mmseg_dafm.core.finite import is_finite

# set to 1: checkpoints may run code while they are read; --trust-checkpoint of the tools sets it
TRUST = 'MMSEG_DAFM_TRUST_CHECKPOINT'
# torch's count of training batches; nothing reads it while momentum is a number, and older files lack it
COUNTER = 'num_batches_tracked'
# keys under which a file holds its state dict, in the order in which they are tried
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'module')


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the sentence names the file."""


class TrustCheckpoint(argparse.Action):
    """The option ``--trust-checkpoint`` of a tool: unpickle in full, here and in the processes that it starts."""

    def __init__(self, option_strings, dest, **kwargs):
        text = 'unpickle checkpoints in full, which runs code from them: only for files from people you trust'
        super().__init__(option_strings, dest, nargs=0, default=False, help=text)

    def __call__(self, parser, namespace, values, option_string=None):
        """Set the option and the environment variable."""
        setattr(namespace, self.dest, True)
        os.environ[TRUST] = '1'


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint from the local disk.

    Only tensors, numbers, containers, NumPy arrays and mmengine's log history are built. A file that asks for anything else is
    refused unless the environment variable ``MMSEG_DAFM_TRUST_CHECKPOINT`` is 1.

    Args:
        path: A file of ``torch.save``, a TorchScript archive (its state dict is returned) or a ``.safetensors`` file.
        map_location: As for ``torch.load``.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is cut off, of another kind, or asks for code to be run. The sentence names the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: correct the path.')
    trusted = os.environ.get(TRUST) == '1'
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path, device=str(map_location or 'cpu'))
        if _is_torchscript(path):
            return torch.jit.load(path, map_location=map_location).state_dict()
        if not trusted and not _may_be_torch(path):
            raise pickle.UnpicklingError('neither a zip archive nor a pickle')
        # not weights_only: torch < 2.4 knows no list of allowed classes, and mmengine's log history needs one
        return torch.load(path, map_location, pickle if trusted else _PLAIN, weights_only=False)
    except _CodeRefused as error:
        raise CheckpointError(
            f'checkpoint {path} asks for {error} to be run while it is read. If you trust whoever wrote it, give '
            f'--trust-checkpoint to the tool or set {TRUST}=1; else take a .safetensors release of it.'
        ) from None
    except Exception as error:  # a file of another kind makes pickle raise almost anything
        reason = (str(error).strip().splitlines() or [''])[0][:120]
        state = 'is empty' if path.stat().st_size == 0 else 'cannot be read: it is cut off or no checkpoint'
        raise CheckpointError(
            f'checkpoint {path} {state} ({type(error).__name__}: {reason}). Give a whole file of torch.save or safetensors.'
        ) from None


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU, without the key that wraps it and without DDP's ``module.``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read, holds no tensors by name, or weights that are not finite.
    """
    state = state_dict_of(read_checkpoint(path))
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    if not state:
        raise CheckpointError(f'{path} holds no tensors by name: give a checkpoint.')
    check_finite(state, path)
    return state


def state_dict_of(content: Any) -> dict[str, Tensor]:
    """The tensors by name in what a checkpoint holds: under one of `WRAPPERS`, else at the top level; empty if there are none."""
    for inner in (*(content.get(key) for key in WRAPPERS), content) if isinstance(content, Mapping) else ():
        found = {key: value for key, value in inner.items() if isinstance(value, Tensor)} if isinstance(inner, Mapping) else {}
        if found:
            return found
    return {}


def check_finite(state: Mapping[str, Tensor], what: str | os.PathLike) -> None:
    """Refuse weights that are not finite.

    Raises:
        CheckpointError: Naming the first tensors and how many there are.
    """
    bad = [key for key, value in state.items() if not is_finite(value)]
    if bad:
        raise CheckpointError(
            f'{what}: {len(bad)} of {len(state)} tensors are not finite ({some(bad)}). The training that wrote it has diverged: '
            'take an earlier checkpoint.'
        )


@dataclass(frozen=True)
class Fit:
    """How a state dict fits a model.

    Attributes:
        state: What fits by name and shape, by the model's names.
        total: Number of tensors that the model expects.
        missing: Names that the checkpoint lacks.
        misshapen: ``name: (shape there), (shape in the model)``.
        left: Names of the checkpoint that the model has no place for.
        prefix: What was stripped from the checkpoint's names.
    """

    state: dict[str, Tensor]
    total: int
    missing: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    prefix: str = ''

    @property
    def complete(self) -> bool:
        """Whether every expected tensor is there."""
        return not (self.missing or self.misshapen)

    def __str__(self) -> str:
        covered = self.total - len(self.missing) - len(self.misshapen)
        parts = [f'{covered} of {self.total} tensors fit']
        if self.prefix:
            parts[0] += f" (after stripping '{self.prefix}')"
        parts += [f'{len(self.missing)} are missing ({some(self.missing)})'] if self.missing else []
        parts += [f'{len(self.misshapen)} have another shape ({some(self.misshapen)})'] if self.misshapen else []
        parts += [f'{len(self.left)} are left over ({some(self.left)})'] if self.left else []
        return ', '.join(parts)


def compare(model: nn.Module, state: Mapping[str, Tensor], needed: Sequence[str] | None = None) -> Fit:
    """Compare a state dict with a model, under the prefix that fits best (``module.``, ``model.``, ``backbone.``, ...).

    What a model leaves out of its own state dict, such as a frozen tower that is not saved, is not expected. Counters of batch
    norm and the names in a module's ``optional_in_checkpoints`` may be missing.

    Args:
        model: The module to be filled, not wrapped.
        state: Tensors by name.
        needed: The names that must be there; None: all that the model saves.

    Raises:
        CheckpointError: If two prefixes fit equally well, as in a file with student and teacher.
    """
    own = model.state_dict()
    state = {key.replace('_orig_mod.', ''): value for key, value in state.items()}
    prefix = _best_prefix(own, state)
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    optional = set()
    for name, module in model.named_modules():
        optional.update(f'{name}.{key}'.lstrip('.') for key in getattr(module, 'optional_in_checkpoints', ()))
    expected = [key for key in (own if needed is None else needed) if not key.endswith(COUNTER) and key not in optional]
    misshapen = [key for key in expected if key in found and found[key].shape != own[key].shape]
    return Fit(
        state={key: value for key, value in found.items() if key in own and value.shape == own[key].shape},
        total=len(expected),
        missing=[key for key in expected if key not in found],
        misshapen=[f'{key}: {tuple(found[key].shape)}, not {tuple(own[key].shape)}' for key in misshapen],
        left=[key for key in state if key.removeprefix(prefix) not in own or not key.startswith(prefix)],
        prefix=prefix,
    )


def load_weights(model: nn.Module, path: str | os.PathLike, needed: Sequence[str] | None = None) -> Any:
    """Fill a model that is to be used: whatever it expects must be in the file, with its shape and finite.

    Args:
        model: The module, not wrapped.
        path: File of the checkpoint, or a URL that mmengine can load.
        needed: Names that must be there; None: all that the model saves.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read or does not fit; see :func:`require_fit`.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    content = CheckpointLoader.load_checkpoint(str(path), 'cpu') if '://' in str(path) else read_checkpoint(path)
    state = state_dict_of(content)
    if not state:
        raise CheckpointError(f'{path} holds no tensors by name: give a checkpoint.')
    fit = require_fit(model, state, path, needed)
    model.load_state_dict(fit.state, strict=False)
    return content


def require_fit(
    model: nn.Module, state: Mapping[str, Tensor], what: str | os.PathLike, needed: Sequence[str] | None = None
) -> Fit:
    """The fit of a state dict that must cover a model.

    Raises:
        CheckpointError: Naming the file, how much is covered, and the first tensors that are missing, misshapen or not finite.
    """
    fit = compare(model, state, needed)
    if not fit.complete:
        raise CheckpointError(
            f'{what} does not fit the {type(model).__name__} of the config: {fit}. Give a checkpoint of this config, or the '
            'config that wrote it.'
        )
    check_finite(learned(model, fit.state), what)
    return fit


def require_some(model: nn.Module, state: Mapping[str, Tensor], what: str | os.PathLike) -> Fit:
    """The fit of a state dict from which a training starts: a part is enough.

    Raises:
        CheckpointError: If nothing fits, or something is not finite.
    """
    fit = compare(model, state)
    if not fit.state and model.state_dict():
        raise CheckpointError(
            f'{what}: no tensor fits {type(model).__name__} ({fit}; its own names begin with {some(list(state)) or "nothing"}). '
            'Give weights of this architecture, or convert the file first.'
        )
    check_finite(learned(model, fit.state), what)
    return fit


def learned(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters and running statistics of a state dict: other buffers, such as attention masks, may hold infinity on purpose."""
    masks = {name for name, _ in model.named_buffers() if not name.endswith(('running_mean', 'running_var'))}
    return {name: value for name, value in state.items() if name not in masks}


def some(names: Sequence[str], count: int = 3) -> str:
    """The first names of a list, in one line."""
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


def _best_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """The prefix under which most names are the model's, by name and shape; none where stripping gains nothing."""
    scores: collections.Counter[str] = collections.Counter()
    for key, value in state.items():
        for prefix in _prefixes(key):
            name = key[len(prefix) :]
            if name in own:
                # a name alone counts little: it decides where no shape fits at all
                scores[prefix] += 1000 if own[name].shape == value.shape else 1
    best = max(scores.values(), default=0)
    if best <= scores['']:
        return ''
    winners = [prefix for prefix, score in scores.items() if score == best]
    if len(winners) > 1:
        raise CheckpointError(
            f'the checkpoint holds this model {len(winners)} times, under {some(winners)}: write the one that you want to a file '
            'of its own.'
        )
    return winners[0]


def _prefixes(key: str, depth: int = 3) -> Iterable[str]:
    """``'a.b.c'`` -> ``''``, ``'a.'``, ``'a.b.'``."""
    parts = key.split('.')
    return ('.'.join([*parts[:count], '']) for count in range(min(depth + 1, len(parts))))


class _CodeRefused(Exception):
    """A pickle asks for something that is not on the list."""


def _history_method(owner: object, name: str) -> object:
    """What ``getattr`` may do in a pickle: name a statistic of mmengine's log history."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise _CodeRefused(f'getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _allowed(module: str, name: str) -> object | None:
    """What a pickle may use by this name: classes and functions that only build data."""
    module = {'__builtin__': 'builtins', 'numpy.core.multiarray': 'numpy._core.multiarray'}.get(module, module)
    if module == 'torch':
        found = getattr(torch, name, None)
        plain = isinstance(found, torch.dtype | torch.layout) or name in ('Size', 'device', 'Tensor') or name.endswith('Storage')
        return found if plain else None
    if module == 'torch._utils' and name.startswith('_rebuild_'):
        return getattr(torch._utils, name, None)
    if module == 'numpy.dtypes' and name.endswith('DType'):
        return getattr(np.dtypes, name, None)
    return _ALLOWED.get((module, name))


_multiarray = (np._core if np.lib.NumpyVersion(np.__version__) >= '2.0.0' else np.core).multiarray
_ALLOWED = {
    **{
        ('builtins', kind.__name__): kind
        for kind in (set, frozenset, slice, complex, bytearray, list, dict, tuple, int, float, object)
    },
    ('builtins', 'getattr'): _history_method,
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('collections', 'defaultdict'): collections.defaultdict,
    ('collections', 'deque'): collections.deque,
    ('collections', 'Counter'): collections.Counter,
    ('_codecs', 'encode'): codecs.encode,
    ('argparse', 'Namespace'): argparse.Namespace,
    ('torch.nn.parameter', 'Parameter'): nn.Parameter,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('numpy._core.multiarray', '_reconstruct'): _multiarray._reconstruct,
    ('numpy._core.multiarray', 'scalar'): _multiarray.scalar,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): HistoryBuffer,
}


class _PlainUnpickler(pickle.Unpickler):
    """Builds what :func:`_allowed` names, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        found = _allowed(module, name)
        if found is None:
            raise _CodeRefused(f'{module}.{name}')
        return found


# torch.load takes a module with an Unpickler and, for files of before torch 1.6, load
_PLAIN = types.SimpleNamespace(
    __name__='plain', Unpickler=_PlainUnpickler, load=lambda file, **options: _PlainUnpickler(file, **options).load(),
    loads=lambda data, **options: _PlainUnpickler(io.BytesIO(data), **options).load(),
)  # fmt: skip


def _may_be_torch(path: Path) -> bool:
    # a text would be read as a pickle of the oldest protocol; torch writes zip archives, and protocol 2 before torch 1.6
    with open(path, 'rb') as file:
        return file.read(1) == b'\x80' or zipfile.is_zipfile(path)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())
