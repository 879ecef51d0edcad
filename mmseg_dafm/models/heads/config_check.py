"""Compare the heads of a config with its classes and its backbone, before anything is built."""

import inspect
from collections.abc import Mapping

from mmseg.registry import MODELS

from mmseg_dafm.core.run_config import heads_of
from mmseg_dafm.datasets.checks import IGNORED, check_ignored


def check_head_config(cfg: Mapping) -> None:
    """Refuse heads that leave a class out of the training, or whose lists do not fit their classes or the backbone.

    Args:
        cfg: A config, or its dict.

    Raises:
        ValueError: ``ignore_index`` of a head or of its losses is a class, ``class_weight`` has another length than there are
            classes, or ``in_index`` names a map that the backbone does not give.
    """
    model = cfg.get('model') or {}
    # a model for test-time augmentation wraps the model proper
    model = model.get('module') or model
    for key, head in heads_of(model):
        where, classes = f'model.{key}', head.get('num_classes')
        if isinstance(classes, int):
            check_ignored(head.get('ignore_index', IGNORED), classes, f'{where}.ignore_index')
            _check_losses(head, classes, where)
        _check_inputs(head, model, where)


def _check_losses(head: Mapping, classes: int, where: str) -> None:
    ignored = head.get('ignore_index', IGNORED)
    losses = head.get('loss_decode') or ()
    for loss in losses if isinstance(losses, list | tuple) else (losses,):
        name = f'{where}.loss_decode of {loss.get("type")}'
        if 'ignore_index' in loss:
            check_ignored(loss['ignore_index'], classes, f'{name}: ignore_index')
            if ignored is not None and loss['ignore_index'] not in (None, ignored):
                raise ValueError(
                    f'{name}: ignore_index={loss["ignore_index"]}, and {where}.ignore_index={ignored}: make them equal.'
                )
        weights = loss.get('class_weight')
        # one logit tells two classes apart
        if isinstance(weights, list | tuple) and head.get('out_channels') != 1 and len(weights) != classes:
            raise ValueError(
                f'{name}: class_weight has {len(weights)} numbers, and {where}.num_classes={classes}: give one number per class, '
                'or leave class_weight out.'
            )


def _check_inputs(head: Mapping, model: Mapping, where: str) -> None:
    indices, channels = head.get('in_index', -1), head.get('in_channels')
    many = isinstance(indices, list | tuple)
    if many and isinstance(channels, list | tuple) and len(indices) != len(channels):
        raise ValueError(
            f'{where}.in_index={list(indices)} and in_channels={list(channels)} differ in length: give each map one.'
        )
    count = None if model.get('neck') else _number_of_maps(model.get('backbone') or {})
    for index in indices if many else (indices,):
        if count is not None and isinstance(index, int) and not -count <= index < count:
            raise ValueError(
                f'{where}.in_index={list(indices) if many else index}: model.backbone gives {count} maps, 0 to {count - 1}; name '
                'one of these, or add a stage to model.backbone.out_indices.'
            )


def _number_of_maps(backbone: Mapping) -> int | None:
    """How many maps a backbone's config makes it return; None where neither the config nor the class tells."""
    kind = backbone.get('type')
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(kind):
        return None
    # what a class takes with **kwargs need not be the maps that it returns
    default = inspect.signature(kind).parameters.get('out_indices')
    found = backbone.get('out_indices', default.default) if default is not None else None
    return len(found) if isinstance(found, list | tuple) else None
