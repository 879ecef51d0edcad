"""Compare checkpoints with models, and load them."""

import collections
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmseg_dafm.core.checkpoint import CheckpointError, check_finite, read_checkpoint, some, state_dict_of

# batch norm's batch counter: unused while momentum is a number, and missing from older files
COUNTER = 'num_batches_tracked'


@dataclass(frozen=True)
class Fit:
    """How a state dict fits a model.

    Attributes:
        state: Tensors that fit by name and shape, under the model's names.
        total: Number of tensors that the model expects.
        missing: Names that the checkpoint lacks.
        misshapen: ``name: (shape in the checkpoint), not (shape in the model)``.
        left: Names in the checkpoint that the model does not have.
        prefix: Prefix that was stripped from the checkpoint's names.
    """

    state: dict[str, Tensor]
    total: int
    missing: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    prefix: str = ''

    @property
    def complete(self) -> bool:
        """Whether every expected tensor fits."""
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

    The model expects the tensors of its own state dict, so a frozen tower that is not saved is not expected. Batch norm's batch
    counters and the names in a module's ``optional_in_checkpoints`` may be missing.

    Args:
        model: The module to load into, not wrapped.
        state: Name -> tensor.
        needed: Names that must be present; None: all that the model saves.

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
    """Load a checkpoint that must cover the model: every expected tensor, in its shape and finite.

    Args:
        model: The module, not wrapped.
        path: File of the checkpoint, or a URL that mmengine can load.
        needed: Names that must be present; None: all that the model saves.

    Returns:
        The content of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file cannot be read or does not fit; see :func:`require_fit`.
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
    """Compare a state dict that must cover the model.

    Raises:
        CheckpointError: If a tensor is missing, misshapen or not finite; names the file, the coverage and the first tensors.
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
    """Compare a state dict from which a training starts: one fitting tensor is enough.

    Raises:
        CheckpointError: If no tensor fits, or a fitting tensor is not finite.
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
    """Parameters and running statistics of a state dict. Other buffers, such as attention masks, may hold infinity on purpose."""
    masks = {name for name, _ in model.named_buffers() if not name.endswith(('running_mean', 'running_var'))}
    return {name: value for name, value in state.items() if name not in masks}


def _best_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Prefix whose removal gives most matches by name and shape; empty if no removal helps."""
    scores: collections.Counter[str] = collections.Counter()
    for key, value in state.items():
        for prefix in _prefixes(key):
            name = key[len(prefix) :]
            if name in own:
                # matching names alone decide only if no shape fits
                scores[prefix] += 1000 if own[name].shape == value.shape else 1
    best = max(scores.values(), default=0)
    if best <= scores['']:
        return ''
    winners = [prefix for prefix, score in scores.items() if score == best]
    if len(winners) > 1:
        raise CheckpointError(
            f'the checkpoint holds this model {len(winners)} times, under {some(winners)}: save the one that you want to a '
            'separate file.'
        )
    return winners[0]


def _prefixes(key: str, depth: int = 3) -> Iterable[str]:
    """``'a.b.c'`` -> ``''``, ``'a.'``, ``'a.b.'``."""
    parts = key.split('.')
    return ('.'.join([*parts[:count], '']) for count in range(min(depth + 1, len(parts))))
