"""VPDOptimWrapperConstructor: parameter groups of VPD and Domino, made explicit."""

import re

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.optim.named_rates import group_table

# first match wins
ROLES = (
    ('unet', r'^backbone\.unet\.'),
    ('gamma', r'^backbone\.text_adapter\.gamma$'),
    ('text adapter', r'^backbone\.(text_adapter|domain_projection)\.'),
    ('clip image', r'^domain_embedding\.image_encoder\.'),
    ('temperature', r'^domain_embedding\.log_temperature$'),
    ('backbone', r'^backbone\.'),
    ('domain mlp', r'\.bn\d*\.(hidden|gamma|mu|domain_norm)\.'),
    ('neck', r'^neck\.'),
    ('head', r'^(decode_head|auxiliary_head)\.'),
)
# LayerNorms and entry GroupNorm of the U-Net's transformers: the only norms that VPD's key 'norm' matches
LEGACY_NORMS = re.compile(r'^backbone\.unet\..*attentions\.\d+\.(norm|transformer_blocks\.\d+\.norm[123])\.')
OPTIONS = ('unet_lr_mult', 'clip_lr_mult', 'backbone_lr_mult', 'legacy_norm_lr')


def role_of(name: str) -> str:
    """Role of a parameter by its name in a DomainAwareEncoderDecoder; ``other`` if no pattern matches."""
    return next((role for role, pattern in ROLES if re.search(pattern, name)), 'other')


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    unet_lr_mult: float = 0.1,
    clip_lr_mult: float = 0.1,
    backbone_lr_mult: float = 1.0,
    legacy_norm_lr: bool = False,
) -> list[dict]:
    """Split the trainable parameters by role and by weight decay.

    The U-Net trains at ``lr * unet_lr_mult``, the CLIP image tower at ``lr * clip_lr_mult``, everything else at ``lr``. Vectors
    and scalars (norms, biases, gamma, temperature) are not decayed. All matrices are decayed: the MLPs of text adapter and time
    embedding as in VPD, CLIP's position embeddings as in CLIP's own training.

    Args:
        model: The segmentor.
        lr: Base learning rate.
        weight_decay: Decay of matrices and kernels.
        unet_lr_mult: Factor for the U-Net.
        clip_lr_mult: Factor for the CLIP image tower.
        backbone_lr_mult: Factor for any other backbone (ResNet).
        legacy_norm_lr: Reproduce the effect of VPD's published config: the U-Net's transformer norms train at the full
            ``lr`` without decay (its key 'norm' wins over 'unet'), everything else is decayed, biases and norms included.

    Returns:
        Groups ``dict(name, params, lr, weight_decay)``; each trainable parameter is in exactly one.

    Raises:
        ValueError: If nothing is trainable.

    Source: VPD's config (AdamW 8e-5, decay 1e-3, U-Net x0.1); Domino, sec. 3, whose "learning rate of 0.1" is that factor.
    Deviation: without ``legacy_norm_lr``, 128 norms of SD-1.5's U-Net train at a tenth of the rate that VPD's code gives
    them, and 299 vectors of ``vpd_cityscapes.py`` that VPD's code decays are not decayed.
    """
    factors = {'unet': unet_lr_mult, 'clip image': clip_lr_mult, 'backbone': backbone_lr_mult}
    groups: dict[tuple, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        role, decayed = role_of(name), parameter.ndim > 1
        rate = lr * factors.get(role, 1.0)
        if legacy_norm_lr:
            legacy = bool(LEGACY_NORMS.match(name))
            rate, decayed = (lr if legacy else rate), not legacy
        key = (role, rate, decayed)
        label = role if decayed else f'{role} (no decay)'
        group = groups.setdefault(key, dict(name=label, params=[], lr=rate, weight_decay=weight_decay * decayed))
        group['params'].append(parameter)
    if not groups:
        raise ValueError('no parameter requires a gradient: unfreeze a part of the model.')
    return list(groups.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class VPDOptimWrapperConstructor:
    """Parameter groups of VPD: U-Net at a tenth of the rate, norms and biases without decay; printed as a table.

    The groups are those of :func:`parameter_groups`.

    Args:
        optim_wrapper_cfg: mmengine's, with an ``optimizer`` that has ``lr``.
        paramwise_cfg: Any of ``unet_lr_mult``, ``clip_lr_mult``, ``backbone_lr_mult``, ``legacy_norm_lr``.

    Raises:
        ValueError: If a key is unknown or the optimizer has no ``lr``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.options = dict(paramwise_cfg or {})
        unknown = sorted(self.options.keys() - set(OPTIONS))
        if unknown:
            raise ValueError(f'optim_wrapper.paramwise_cfg has unknown keys {unknown}: use {sorted(OPTIONS)}.')
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer', None) or {})
        if self.optimizer_cfg.get('lr') is None:
            raise ValueError('optim_wrapper.optimizer needs a type and lr, for example dict(type="AdamW", lr=8e-5).')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, with or without a distributed wrapper."""
        model = unwrapped(model)
        decay = self.optimizer_cfg.get('weight_decay', 0.0)
        groups = parameter_groups(model, self.optimizer_cfg['lr'], decay, **self.options)
        print_log(f'parameter groups:\n{group_table(groups)}', logger='current')
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        wrapper_cfg = {'type': 'OptimWrapper', **self.wrapper_cfg}
        return OPTIM_WRAPPERS.build(wrapper_cfg, default_args=dict(optimizer=optimizer))
