"""Delta checkpoints: what training changed in a backbone, as (index, value), and every tensor outside of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.fishertune.score_file import fingerprint

FORMAT = 'mmseg_dafm delta 1'
# Integers of the same size: comparing these compares bits, so that NaN equals itself and -0 differs from 0.
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Delta:
    """The difference between a trained model and its base.

    Attributes:
        module: Path of the backbone in the model.
        base: :func:`base_hash` of the base.
        order: Names of all tensors of the trained model, in their order.
        changed: Name -> positions ``(K,)`` int64 in the flattened tensor, ascending, and values ``(K,)``.
        whole: Name -> tensor: all outside of the backbone, and those of the backbone for which this is smaller.
        sizes: Name -> number of elements of each of the backbone's tensors.
        meta: What JSON can hold of the checkpoint's ``meta``.
    """

    module: str
    base: str
    order: list[str]
    changed: dict[str, tuple[Tensor, Tensor]]
    whole: dict[str, Tensor]
    sizes: dict[str, int]
    meta: dict


def base_hash(state: Mapping[str, Tensor], module: str = 'backbone') -> str:
    """SHA-256 over names, types, shapes and bytes of a module's tensors, in the order of their names.

    Args:
        state: State dict of a segmentor.
        module: Path of the module.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If the state has no tensor of that module.
    """
    names = sorted(_inside(state, module))
    if not names:
        roots = sorted({name.split('.')[0] for name in state})
        raise ValueError(f'the base has no tensors of the module {module!r}, only of {roots}: is it a checkpoint of a segmentor?')
    return fingerprint({name: state[name] for name in names})


def _inside(state: Mapping[str, Tensor], module: str) -> list[str]:
    return [name for name in state if name.startswith(f'{module}.')]


def extract(
    state: Mapping[str, Tensor], base: Mapping[str, Tensor], module: str = 'backbone', meta: Mapping | None = None
) -> Delta:
    """Find what differs from the base, bit by bit.

    Args:
        state: State dict of the trained model.
        base: State dict that holds the module as it was before training; what else it holds is not looked at.
        module: Path of the backbone.
        meta: The checkpoint's ``meta``.

    Returns:
        The delta; :func:`merge` with the base gives the state back to the bit.

    Raises:
        ValueError: If either lacks the module, they have no tensor of it in common, or the state holds something other than
            tensors.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f'the checkpoint holds {name} of type {type(value).__name__}, and a delta can hold tensors only.')
    own = _inside(state, module)
    if not own:
        raise ValueError(f'the checkpoint has no tensors of the module {module!r}: is it a checkpoint of a segmentor?')
    delta = Delta(module, base_hash(base, module), list(state), {}, {}, {n: state[n].numel() for n in own}, _jsonable(meta or {}))
    inside = set(own)
    if not any(name in base and base[name].shape == state[name].shape for name in own):
        raise ValueError(
            f'the base shares no tensor of {module!r} with the checkpoint ({own[0]} is none of its names): give the checkpoint '
            'that the training began with.'
        )
    for name, tensor in state.items():
        tensor, before = tensor.detach().cpu(), base.get(name)
        if name not in inside or before is None or before.shape != tensor.shape or before.dtype != tensor.dtype:
            delta.whole[name] = tensor
            continue
        flat = tensor.reshape(-1)
        index = (_bits(flat) != _bits(before.detach().cpu().reshape(-1))).nonzero().squeeze(1)
        if len(index) * (4 + flat.element_size()) > flat.numel() * flat.element_size():
            delta.whole[name] = tensor
        elif len(index):
            delta.changed[name] = (index, flat[index])
    return delta


def _bits(flat: Tensor) -> Tensor:
    return flat.contiguous().view(BITS[flat.element_size()])


def merge(delta: Delta, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Apply a delta to the base that it was made from.

    Returns:
        The trained model's state dict, every bit of it.

    Raises:
        ValueError: If this is another base.
    """
    found = base_hash(base, delta.module)
    if found != delta.base:
        raise ValueError(
            f'the delta was made from another base: its {delta.module} has SHA-256 {delta.base[:12]}..., this one {found[:12]}...'
        )
    merged = {}
    for name in delta.order:
        if name in delta.whole:
            merged[name] = delta.whole[name].clone()
            continue
        merged[name] = base[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        if name in delta.changed:
            index, values = delta.changed[name]
            merged[name].view(-1).index_copy_(0, index, values)
    return merged


def save_delta(delta: Delta, path: Path) -> None:
    """Write a delta as safetensors; the file appears whole or not at all."""
    tensors = {f'whole/{name}': tensor.clone(memory_format=torch.contiguous_format) for name, tensor in delta.whole.items()}
    for name, (index, values) in delta.changed.items():
        small = delta.sizes[name] <= 2**31
        tensors |= {f'index/{name}': index.to(torch.int32) if small else index, f'value/{name}': values}
    header = dict(module=delta.module, base=delta.base, order=delta.order, sizes=delta.sizes, meta=delta.meta)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=dict(format=FORMAT, delta=json.dumps(header)))


def load_delta(path: Path) -> Delta:
    """Read a delta; nothing is unpickled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no delta.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'delta {path} does not exist')
    try:
        with safe_open(path, 'pt') as file:
            metadata, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f'{path} is no safetensors file: {error}') from None
    if metadata.get('format') != FORMAT:
        raise ValueError(f'{path} is not a delta of this version: its format is {metadata.get("format")!r}, not {FORMAT!r}.')
    header = json.loads(metadata['delta'])
    parts: dict[str, dict[str, Tensor]] = {'index': {}, 'value': {}, 'whole': {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition('/')
        parts[part][name] = tensor
    changed = {name: (index.long(), parts['value'][name]) for name, index in parts['index'].items()}
    return Delta(**header, changed=changed, whole=parts['whole'])


def describe(delta: Delta) -> list[dict[str, Any]]:
    """What a delta holds: a row for each of the backbone's tensors that changed and one for all tensors outside of it.

    Returns:
        Rows ``dict(name, changed, size, bytes)``: elements that changed, elements in all, bytes in the file.
    """
    rows = []
    for name, size in delta.sizes.items():
        if name in delta.changed:
            index, values = delta.changed[name]
            width = 4 if size <= 2**31 else 8
            rows.append(dict(name=name, changed=len(index), size=size, bytes=len(index) * (width + values.element_size())))
        elif name in delta.whole:
            rows.append(dict(name=name, changed=size, size=size, bytes=delta.whole[name].nbytes))
    others = [tensor for name, tensor in delta.whole.items() if name not in delta.sizes]
    count = sum(tensor.numel() for tensor in others)
    rows.append(dict(name=f'outside of {delta.module}', changed=count, size=count, bytes=sum(t.nbytes for t in others)))
    return rows


def _jsonable(value: Any) -> Any:
    """The part of nested dicts and lists that JSON can hold; tuples become lists, anything else is left out."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items() if isinstance(key, str) and _is_jsonable(item)}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value if _is_jsonable(item)]
    return value


def _is_jsonable(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | Mapping | list | tuple)
