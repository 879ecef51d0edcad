"""Read checkpoints without running code from them; refuse weights that are not finite."""

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

# 1: unpickle checkpoints in full, which may run code; the tools' --trust-checkpoint sets it
TRUST = 'MMSEG_DAFM_TRUST_CHECKPOINT'
# keys that may hold a file's state dict, in order of trial
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'module')


class CheckpointError(ValueError):
    """A checkpoint cannot be read, written or resumed, or does not fit; the message names the file."""


class TrustCheckpoint(argparse.Action):
    """Option ``--trust-checkpoint``: unpickle in full, in this process and its child processes."""

    def __init__(self, option_strings, dest, **kwargs):
        text = 'unpickle checkpoints in full, which may run code from them: only for files that you trust'
        super().__init__(option_strings, dest, nargs=0, default=False, help=text)

    def __call__(self, parser, namespace, values, option_string=None):
        """Set the option and the environment variable."""
        setattr(namespace, self.dest, True)
        os.environ[TRUST] = '1'


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint from the local disk.

    The file may hold tensors, numbers, containers, NumPy arrays and mmengine's log history. Any other class or function is
    refused, unless the environment variable ``MMSEG_DAFM_TRUST_CHECKPOINT`` is 1.

    Args:
        path: A file of ``torch.save``, a TorchScript archive (its state dict is returned) or a ``.safetensors`` file.
        map_location: See ``torch.load``.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file is cut off, is not a checkpoint, or would run code.
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
        # not weights_only: mmengine's log history needs an allow list, which torch < 2.4 lacks
        return torch.load(path, map_location, pickle if trusted else _PLAIN, weights_only=False)
    except _CodeRefused as error:
        raise CheckpointError(
            f'checkpoint {path} would run {error} while it is read. If you trust its author, give --trust-checkpoint to the tool '
            f'or set {TRUST}=1; else use a .safetensors release of it.'
        ) from None
    except Exception as error:  # on a file of another kind, pickle may raise any exception
        reason = (str(error).strip().splitlines() or [''])[0][:120]
        state = 'is empty' if path.stat().st_size == 0 else 'cannot be read: it is cut off or no checkpoint'
        raise CheckpointError(
            f'checkpoint {path} {state} ({type(error).__name__}: {reason}). Give a whole file of torch.save or safetensors.'
        ) from None


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read a checkpoint's state dict to the CPU, without a wrapping key and without DDP's ``module.``.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file cannot be read, holds no state dict, or holds weights that are not finite.
    """
    state = state_dict_of(read_checkpoint(path))
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    if not state:
        raise CheckpointError(f'{path} holds no tensors by name: give a checkpoint.')
    check_finite(state, path)
    return state


def state_dict_of(content: Any) -> dict[str, Tensor]:
    """Find the state dict in a checkpoint's content: under a key of `WRAPPERS`, else at the top level; empty if there is none."""
    for inner in (*(content.get(key) for key in WRAPPERS), content) if isinstance(content, Mapping) else ():
        found = {key: value for key, value in inner.items() if isinstance(value, Tensor)} if isinstance(inner, Mapping) else {}
        if found:
            return found
    return {}


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values of a tensor are finite; True for integers and for tensors on the meta device.

    One sum shows nan and infinity without a copy. If it is not finite, overflow is possible, and each value is checked.
    """
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    # torch cannot sum 8-bit floats
    tensor = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
    total = tensor.sum(dtype=torch.float64 if tensor.device.type == 'cpu' else torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())


def check_finite(state: Mapping[str, Tensor], what: str | os.PathLike) -> None:
    """Refuse weights that are not finite.

    Raises:
        CheckpointError: If a tensor is not finite; names the first ones and their number.
    """
    bad = [key for key, value in state.items() if not is_finite(value)]
    if bad:
        raise CheckpointError(
            f'{what}: {len(bad)} of {len(state)} tensors are not finite ({some(bad)}). The training that wrote it has diverged: '
            'take an earlier checkpoint.'
        )


def some(names: Sequence[str], count: int = 3) -> str:
    """Join the first names of a list, with ``...`` if there are more."""
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


class _CodeRefused(Exception):
    """A pickle uses a class or function that is not allowed."""


def _history_method(owner: object, name: str) -> object:
    """``getattr`` for pickles: allows only statistics of mmengine's log history."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise _CodeRefused(f'getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _allowed(module: str, name: str) -> object | None:
    """Look up a class or function that a pickle may use; None if it is not allowed. All of them only build data."""
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
    """Unpickler for the classes and functions of :func:`_allowed` only."""

    def find_class(self, module: str, name: str) -> object:
        found = _allowed(module, name)
        if found is None:
            raise _CodeRefused(f'{module}.{name}')
        return found


# torch.load needs a module with Unpickler and, for files older than torch 1.6, load
_PLAIN = types.SimpleNamespace(
    __name__='plain', Unpickler=_PlainUnpickler, load=lambda file, **options: _PlainUnpickler(file, **options).load(),
    loads=lambda data, **options: _PlainUnpickler(io.BytesIO(data), **options).load(),
)  # fmt: skip


def _may_be_torch(path: Path) -> bool:
    # torch writes zip archives, before 1.6 pickles of protocol 2; a text file would pass as a pickle of protocol 0
    with open(path, 'rb') as file:
        return file.read(1) == b'\x80' or zipfile.is_zipfile(path)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())
