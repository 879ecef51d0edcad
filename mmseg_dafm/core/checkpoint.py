"""Read checkpoints without running code from them, and refuse numbers that are not finite."""

import argparse
import codecs
import collections
import io
import os
import pickle
import types
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

# set to 1: checkpoints may run code while they are read; --trust-checkpoint of the tools sets it
TRUST = 'MMSEG_DAFM_TRUST_CHECKPOINT'
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


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a tensor of any shape and type are finite; one on the meta device holds none.

    A sum keeps nan and infinity, in one pass and without a copy. Where it overflows, each number is looked at.
    """
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    # torch cannot add up numbers of eight bits
    tensor = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
    total = tensor.sum(dtype=torch.float64 if tensor.device.type == 'cpu' else torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())


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


def some(names: Sequence[str], count: int = 3) -> str:
    """The first names of a list, in one line."""
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


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
