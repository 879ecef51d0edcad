"""How a segmentor joins its parts: channel counts filled into configs, and the losses of its heads."""

import copy
import inspect
from collections.abc import Callable

from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_dafm.models.layers.domino_norm import conditioned


def with_domain_channels(cfg: dict | list | None, channels: int | None):
    """Copy a component's config and tell every part that takes W how wide it is.

    Args:
        cfg: Config of a backbone, neck or head, or a list of them; never changed.
        channels: Width of W; None returns a plain copy.

    Returns:
        The copy. ``domain_channels`` is set where a component has this argument and its config leaves it out.
    """
    cfg = copy.deepcopy(cfg)
    if channels is None:
        return cfg
    stack = [cfg]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if _takes_width(item.get('type')) and item.get('domain_channels') is None:
                item['domain_channels'] = channels
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
    return cfg


def _takes_width(kind: str | type | None) -> bool:
    """Whether a registered class has the argument ``domain_channels``."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(found, type) and 'domain_channels' in inspect.signature(found).parameters


def with_head_channels(cfg: dict | list | None, out_channels: tuple[int, ...] | None):
    """Copy a decode head's config with the channels of the maps that it reads.

    Args:
        cfg: Config of the head; one that gives ``in_channels``, or a list of heads, is copied as it is.
        out_channels: Channels of the maps that the neck, or else the backbone, gives; None when it does not tell.

    Returns:
        The copy, with ``in_channels`` filled in where it was left out: of the maps ``in_index`` if that is given, else of all.
    """
    cfg = copy.deepcopy(cfg)
    if isinstance(cfg, dict) and out_channels is not None and cfg.get('in_channels') is None:
        index = cfg.get('in_index')
        chosen = range(len(out_channels)) if index is None else index
        cfg['in_channels'] = out_channels[chosen] if isinstance(chosen, int) else [out_channels[i] for i in chosen]
    return cfg


def with_in_channels(cfg: dict | None, out_channels: tuple[int, ...] | None, backbone: str) -> dict | None:
    """Copy a neck's config with the backbone's channels.

    Args:
        cfg: Config of the neck; ``in_channels`` may be absent.
        out_channels: The backbone's ``out_channels``, or None when it does not tell.
        backbone: Its name, for the error.

    Returns:
        The copy, with ``in_channels`` filled in.

    Raises:
        ValueError: If the configured channels differ from the backbone's.
    """
    if cfg is None or out_channels is None:
        return copy.deepcopy(cfg)
    given = cfg.get('in_channels')
    if given is not None and list(given) != list(out_channels):
        raise ValueError(
            f'neck.in_channels={list(given)} does not fit {backbone}, which gives {list(out_channels)} '
            f'(features plus one map per class): leave in_channels out.'
        )
    return {**copy.deepcopy(cfg), 'in_channels': list(out_channels)}


def head_losses(model: EncoderDecoder, features: tuple[Tensor, ...], data_samples: list) -> dict:
    """Losses of the decode head and of the auxiliary heads.

    Args:
        model: Its heads are used.
        features: What its neck, or its backbone, gave: maps ``(B, C, h, w)``.
        data_samples: ``SegDataSample`` per image.
    """
    losses = dict(model._decode_head_forward_train(features, data_samples))
    if model.with_auxiliary_head:
        losses.update(model._auxiliary_head_forward_train(features, data_samples))
    return losses


def head_losses_per_image(
    model: EncoderDecoder,
    features: tuple[Tensor, ...],
    data_samples: list,
    before: Callable[[int], None],
    domain: Tensor | None = None,
) -> list[dict]:
    """Losses of each image as if it were alone, from features of the whole batch.

    Args:
        model: Its heads are used.
        features: Maps ``(B, C, h, w)``.
        data_samples: ``SegDataSample`` per image.
        before: Called with an image's number before its heads run.
        domain: W ``(B, D)`` for heads that take it.
    """
    found = []
    for i in range(len(data_samples)):
        before(i)
        with conditioned(model, None if domain is None else domain[i : i + 1]):
            found.append(head_losses(model, tuple(feature[i : i + 1] for feature in features), data_samples[i : i + 1]))
    return found
