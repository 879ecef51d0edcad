"""Fisher information on disk: safetensors with everything that is needed to rank weights again by another criterion."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.fishertune.candidates import Candidate
from mmseg_dafm.fishertune.criteria import DomainFisher

FORMAT = 'mmseg_dafm.domain_fisher.1'
CLEAN, SHIFTED, STRENGTHS = 'clean/', 'shifted/', 'strengths'


def save_fisher(path: str | os.PathLike, fisher: DomainFisher, weights: str) -> None:
    """Write an estimation.

    Args:
        path: File, by habit ``*.safetensors``; it is either whole or not there.
        fisher: The estimation.
        weights: :func:`fingerprint` of the tensors that it belongs to.
    """
    tensors = {CLEAN + name: part for name, part in fisher.clean.items()}
    tensors.update({SHIFTED + name: part for name, part in fisher.shifted.items()})
    tensors[STRENGTHS] = fisher.strengths
    about = dict(fisher.meta, format=FORMAT, weights=weights, damping=fisher.damping, tau=fisher.tau, order=list(fisher.clean))
    with replacing(path) as temporary:
        save_file({name: part.cpu().contiguous() for name, part in tensors.items()}, temporary, {'about': json.dumps(about)})


def load_fisher(path: str | os.PathLike) -> DomainFisher:
    """Read an estimation; its ``meta`` also holds the fingerprint of the weights as ``weights``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no file of :func:`save_fisher`.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'Fisher scores {path} do not exist: write them with tools/estimate_dr_fim.py.')
    try:
        with safe_open(path, 'pt') as file:
            about = json.loads((file.metadata() or {}).get('about', '{}'))
            if about.get('format') != FORMAT:
                raise ValueError(f'{path} holds no Fisher scores: write them with tools/estimate_dr_fim.py.')
            order = about.pop('order')
            clean = {name: file.get_tensor(CLEAN + name) for name in order}
            shifted = {name: file.get_tensor(SHIFTED + name) for name in order}
            strengths = file.get_tensor(STRENGTHS)
    except SafetensorError as error:
        raise ValueError(f'{path} is no whole safetensors file ({error}): write it with tools/estimate_dr_fim.py.') from None
    return DomainFisher(clean, shifted, strengths, about.pop('damping'), about.pop('tau'), about)


def check_belongs(
    fisher: DomainFisher, tensors: Mapping[str, Tensor], candidates: Sequence[Candidate], path: str | os.PathLike
) -> None:
    """Refuse scores of another architecture, of other candidates or of other weights.

    Args:
        fisher: What the file holds.
        tensors: The run's tensors.
        candidates: The run's candidates. Ranks, means and damping are over the file's, so both must be the same.
        path: The file.

    Raises:
        ValueError: Naming the first tensor that differs.
    """
    here = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    there = {name: tuple(part.shape) for name, part in fisher.clean.items()}
    if list(here.items()) != list(there.items()):
        name = next((name for name in (*there, *here) if there.get(name) != here.get(name)), 'the order of tensors')
        raise ValueError(
            f'{path} holds scores of another model: {name} is {there.get(name)} there and {here.get(name)} here; estimate anew '
            'or use the config that they were estimated with.'
        )
    own, given = set(candidates), set(fisher.candidates)
    if own != given:
        raise ValueError(
            f'{path} holds scores of other candidates: {_parts(given - own)} there, {_parts(own - given)} here; estimate anew, '
            'or take the kinds, include_bias and groups of paramwise_cfg.candidates that they were estimated with.'
        )
    if fisher.meta.get('weights') != fingerprint(tensors):
        raise ValueError(
            f'{path} holds scores of the same architecture with other weights: FisherTune starts from the weights that it '
            'scored; load those or estimate anew.'
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two estimations did not have in common, one text each; values that are hashes are not shown.

    Args:
        there: ``meta['conditions']`` of one: a plain value by dotted key.
        here: The same of the other.
    """
    found = []
    for key in sorted({*there, *here}):
        values = [_short(part[key]) if key in part else 'nothing' for part in (there, here)]
        if key not in there or key not in here or there[key] != here[key]:
            hashed = ' ' in key
            found.append(key if hashed else f'{key} ({values[0]} there, {values[1]} here)')
    return found


def some(texts: Sequence[str], count: int = 4) -> str:
    """The first of some texts, and how many more there are."""
    more = f'; and {len(texts) - count} more' if len(texts) > count else ''
    return '; '.join(texts[:count]) + more


def _short(value: Any, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else f'{text[: length - 3]}...'


def _parts(candidates: Collection[Candidate]) -> str:
    kinds = ', '.join(sorted({candidate.kind for candidate in candidates}))
    return f'{len(candidates)} more parts ({kinds})' if candidates else 'no more'


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of tensors, in their order."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
