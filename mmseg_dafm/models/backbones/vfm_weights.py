"""Weights of vision foundation models for timm's ViTs: read and converted by timm, complete or refused."""

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmseg_dafm.core.checkpoint import CheckpointError, check_finite, read_checkpoint, state_dict_of
from mmseg_dafm.models.adapters.adapter import is_adapter_key

# the parts of a ViT before its final norm and head; a left-over tensor of one of them means another network
BACKBONE_PARTS = ('patch_embed.', 'cls_token', 'reg_token', 'pos_embed', 'norm_pre.', 'blocks.')


def read_timm_weights(model: nn.Module, pretrained_cfg: Mapping, path: str | None = None) -> dict[str, Tensor]:
    """Read weights and convert them to a timm model's names, patch size and position embedding, all of it by timm.

    Args:
        model: timm's ViT, as it is to be filled; the classifier and late blocks may be pruned.
        pretrained_cfg: timm's description of the model's published weights.
        path: ``.pth``, ``.pt`` or ``.safetensors`` file in timm's format, or in one that timm's ``checkpoint_filter_fn`` of
            this model reads (the original releases of DINOv2, DINOv3, CLIP, EVA02, SAM and MAE); None: timm's download.

    Returns:
        Tensors by timm's names; not yet compared with the model.

    Raises:
        FileNotFoundError: If the file is not there, or the hub cannot be reached.
        ValueError: If the file is no checkpoint of tensors, or timm cannot convert it.
    """
    from timm.models import load_pretrained

    cfg, what = dict(pretrained_cfg), f'timm weights of {pretrained_cfg.get("architecture")}'
    if path is not None:
        what = str(path)
        if not Path(path).expanduser().is_file():
            raise FileNotFoundError(f'weights={what!r}: there is no such file; correct the path or set pretrained=True.')
        try:
            state = _tensors(read_checkpoint(Path(path).expanduser()))
        except CheckpointError as error:
            raise ValueError(
                f'weights={what!r} cannot be read as a checkpoint of plain tensors ({_reason(error)}); give a .pth, .pt or '
                '.safetensors file with a state dict.'
            ) from error
        # timm takes a state dict here before any other source
        cfg.update(source='', state_dict=state, custom_load=False)
    converted: dict[str, Tensor] = {}
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)

    def keep(state: dict, model: nn.Module) -> dict:
        converted.update(convert(state, model) if convert else state)
        # nothing for timm to copy: it would pass over what is missing
        return {}

    try:
        load_pretrained(model, cfg, filter_fn=keep, strict=False)
    except Exception as error:
        if path is not None:
            raise ValueError(f'weights={what!r} cannot be converted for {_name(model)} ({_reason(error)}).') from error
        raise FileNotFoundError(
            f'{what} cannot be had ({_reason(error)}): give a local file with weights=, make the hub reachable, or set '
            'pretrained=False.'
        ) from error
    if not converted:
        raise ValueError(f'{what} hold no tensors for {_name(model)}; give a .safetensors or .pth file with weights=.')
    check_finite(converted, what)
    return converted


def _tensors(content: Any) -> dict[str, Tensor]:
    """The state dict in a checkpoint, averaged weights first, as timm takes it."""
    for key in ('state_dict_ema', 'model_ema'):
        if isinstance(content, Mapping) and key in content:
            content = content[key]
    state = state_dict_of(content)
    return {key.removeprefix('module.').replace('_orig_mod.', ''): value for key, value in state.items()}


def fill_vit(model: nn.Module, state: Mapping[str, Tensor], what: str) -> list[str]:
    """Copy weights into a ViT; every parameter must be covered, and only heads and pruned blocks may be left over.

    Args:
        model: timm's ViT without head, final norm and the blocks after the last one that is used. Matrices that an adapter has
            put into it keep their values.
        state: Tensors by timm's names.
        what: File or model name for the message.

    Returns:
        Keys that were left over: head, final norm, decoder, pruned blocks.

    Raises:
        ValueError: Naming missing keys, keys without a place and shapes that differ.
    """
    own = {key: value for key, value in model.state_dict().items() if not is_adapter_key(key)}
    missing = sorted(own.keys() - state.keys())
    left = sorted(state.keys() - own.keys())
    pruned = range(len(model.blocks), len(model.feature_info))
    # where tensors are missing, any that are left may be the same ones under another name
    homeless = [key for key in left if missing or (key.startswith(BACKBONE_PARTS) and _block(key) not in pruned)]
    other = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or homeless or other:
        shape = f': {other[0]} is {tuple(state[other[0]].shape)}, not {tuple(own[other[0]].shape)}' if other else ''
        raise ValueError(
            f'{what} does not fit {_name(model)}: {len(missing)} of {len(own)} tensors are missing {_some(missing)}, '
            f'{len(homeless)} are unexpected {_some(homeless)}, {len(other)} have another shape{shape}; set model_name '
            '(and embed_dim, depth, img_size) to those of the file. A checkpoint of a whole segmentor belongs in load_from or '
            'init_cfg.'
        )
    # complete as checked above, but for an adapter's matrices
    model.load_state_dict({key: state[key] for key in own}, strict=False)
    return left


def summary(keys: list[str]) -> str:
    """Names of left-over tensors, in one line: ``blocks.23 (14), head (2)``."""
    counts = Counter('.'.join(key.split('.')[: 2 if key.startswith('blocks.') else 1]) for key in keys)
    return ', '.join(f'{name} ({count})' for name, count in counts.items()) or 'nothing'


def _block(key: str) -> int | None:
    """Index of the block that a tensor belongs to."""
    found = re.match(r'blocks\.(\d+)\.', key)
    return int(found[1]) if found else None


def _some(keys: list[str]) -> str:
    return f'({", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""})' if keys else '(none)'


def _name(model: nn.Module) -> str:
    return getattr(model, 'pretrained_cfg', {}).get('architecture') or type(model).__name__


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:160]}' if lines else type(error).__name__
