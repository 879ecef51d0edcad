"""Whether a checkpoint was written with the adapter that a backbone has: its keys, its sizes and its factor."""

import math
from collections.abc import Mapping

from torch import Tensor

from mmseg_dafm.models.adapters.adapter import FACTOR

REMEDY = 'set backbone.adapter as in the config that wrote it.'
# a checkpoint may hold half precision: bfloat16 has 8 bits
TOLERANCE = 2.0**-8


def check_adapter_state(own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], kind: str | None, prefix: str = '') -> None:
    """Refuse a checkpoint of another adapter.

    mmengine would only log tensors that do not fit, and go on with the random ones of this adapter.

    Args:
        own: The adapter's tensors in the backbone, by their names in its state dict.
        loaded: Those of the checkpoint; none: it is of a plain backbone, and passes. Without the adapter's factor it passes too.
        kind: Type of the backbone's adapter, None without one.
        prefix: Of the names in the whole checkpoint, for the message.

    Raises:
        ValueError: Naming the key and what differs: the key itself, its shape, or the value of the factor.
    """
    what = 'no adapter' if kind is None else f'adapter type {kind}'
    other = (own.keys() - {FACTOR}) ^ (loaded.keys() - {FACTOR}) | (loaded.keys() - own.keys())
    if loaded and other:
        raise ValueError(
            f'the checkpoint has another adapter ({prefix}{min(other)} and others differ) than this backbone with {what}: '
            f'{REMEDY}'
        )
    for key, value in loaded.items():
        if value.shape != own[key].shape:
            raise ValueError(
                f'the checkpoint has {prefix}{key} of shape {tuple(value.shape)}, but this backbone with {what} has '
                f'{tuple(own[key].shape)}: {REMEDY}'
            )
    if FACTOR in loaded and not math.isclose(loaded[FACTOR], own[FACTOR], rel_tol=TOLERANCE):
        raise ValueError(
            f'the checkpoint was trained with {prefix}{FACTOR}={float(loaded[FACTOR]):.4g}, but this backbone with {what} has '
            f"{float(own[FACTOR]):.4g} (LoRA's alpha / rank, AdaptFormer's scale): {REMEDY}"
        )
