"""Read the outputs of chosen parts of a segmentor, and load the weights that they depend on."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.core.fit import load_weights
from mmseg_dafm.daft.layers import within
from mmseg_dafm.datasets.target_batches import FEATURE_PARTS, takes_domain


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse names of layers that the model does not have.

    Raises:
        ValueError: Naming the layer and what is nearest to it in the model.
    """
    modules = dict(model.named_modules())
    for layer in layers:
        if layer not in modules or not layer:
            parent = layer
            while parent and parent not in modules:
                parent = parent.rpartition('.')[0]
            own = ', '.join(name for name, _ in modules[parent].named_children())
            raise ValueError(f"--layers: the model has no '{layer}'; {parent or type(model).__name__} holds {own}.")


@contextmanager
def captured(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what the named parts return while the model runs inside the ``with``.

    Yields:
        Filled by each forward pass: name -> ``(B, C, ...)``. A part that returns several tensors, as a backbone does,
        gives ``name[0]``, ``name[1]``, ...

    Raises:
        TypeError: In the forward pass, if a part returns something else than tensors with a batch and a channel dimension.
    """
    found: dict[str, Tensor] = {}

    def keep(layer: str):
        def hook(_module, _inputs, output) -> None:
            several = isinstance(output, list | tuple)
            for index, value in enumerate(output if several else [output]):
                if not isinstance(value, Tensor) or value.dim() < 2:
                    raise TypeError(f"--layers: '{layer}' returns {type(value).__name__}, expected feature maps.")
                found[f'{layer}[{index}]' if several else layer] = value.detach()

        return hook

    modules = dict(model.named_modules())
    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def layer_features(model: nn.Module, data: Mapping, layers: Sequence[str]) -> dict[str, Tensor]:
    """Features of one preprocessed batch.

    Args:
        model: A segmentor in test mode.
        data: ``inputs`` ``(B, 3, H, W)`` and ``data_samples``, out of the model's data preprocessor.
        layers: Names of parts.

    Returns:
        name -> ``(B, C, ...)``, in the order of ``layers``.

    Raises:
        ValueError: If a named part did not run.
    """
    features_do = all(layer.split('.')[0] in FEATURE_PARTS for layer in layers) and not takes_domain(model)
    with captured(model, layers) as found:
        # extract_feat alone would leave out the padding to the backbone's divisor
        if features_do and hasattr(model, 'extract_feat') and not hasattr(model.backbone, 'size_divisor'):
            model.extract_feat(data['inputs'])
        else:
            model(data['inputs'], data.get('data_samples'), mode='tensor')
    for layer in layers:
        if not any(name == layer or name.startswith(f'{layer}[') for name in found):
            raise ValueError(f"--layers: '{layer}' does not run in a test of this model; name another part.")
    order = {layer: place for place, layer in enumerate(layers)}
    return dict(sorted(found.items(), key=lambda item: order[item[0].rpartition('[')[0] if '[' in item[0] else item[0]]))


def needed_keys(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """Tensors of the state dict on which the layers' outputs depend.

    These are the backbone's; for a layer behind it also those of the neck, of the domain embedding and of the head that the
    layer is in. A head's last convolution ``conv_seg`` counts only if it is the layer or the head is named as a whole.
    """
    parts = {layer.split('.')[0] for layer in layers} | {'backbone'}
    if parts != {'backbone'}:
        parts |= {'neck'}
    if takes_domain(model):
        parts |= {'domain_embedding'}

    def needed(key: str) -> bool:
        part, _, rest = key.partition('.')
        if part not in parts or key.endswith('num_batches_tracked'):
            return False
        return not rest.startswith('conv_seg.') or any(within(key, [layer]) for layer in layers)

    return [key for key in model.state_dict() if needed(key)]


def filled_model(cfg: Config, path: str | os.PathLike, layers: Sequence[str] | None = None) -> nn.Module:
    """Build a config's model and fill it from a checkpoint: what the layers depend on must be there, without layers all of it.

    Raises:
        ValueError: See :func:`check_layers` and :func:`~mmseg_dafm.core.fit.load_weights`.
    """
    model = MODELS.build(copy.deepcopy(cfg.model))
    check_layers(model, layers or ())
    load_weights(model, path, None if layers is None else needed_keys(model, layers))
    return model
