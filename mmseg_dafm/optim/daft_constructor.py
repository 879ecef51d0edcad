"""DAFTOptimWrapperConstructor: one absolute learning rate for the features and one for the head."""

import math
from collections.abc import Iterator, Sequence

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.optim.named_rates import NamedRates, group_table

FEATURES, HEAD = 'features', 'head'
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
RATES = ('feature_lr', 'head_lr')
OPTIONS = (*RATES, 'feature_modules', 'norm_decay_mult', 'bias_decay_mult')


def is_feature(name: str, feature_modules: Sequence[str]) -> bool:
    """Whether a parameter is in one of the modules: ``backbone`` holds ``backbone.conv1.weight``, not ``backbone2.x``."""
    return any(name == prefix or name.startswith(f'{prefix}.') for prefix in feature_modules)


def named_kinds(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield name, kind (``norm``, ``bias`` or ``weight``) and tensor of each parameter; shared parameters once."""
    seen = set()
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            kind = 'norm' if isinstance(module, NORMS) else 'bias' if key == 'bias' else 'weight'
            yield f'{path}.{key}' if path else key, kind, parameter


def parameter_groups(
    model: nn.Module,
    feature_lr: float,
    head_lr: float,
    weight_decay: float = 0.0,
    feature_modules: Sequence[str] = ('backbone',),
    norm_decay_mult: float = 1.0,
    bias_decay_mult: float = 1.0,
) -> list[dict]:
    """Split the trainable parameters into features (theta, ``feature_lr``) and head (w, all others, ``head_lr``).

    Both rates are absolute: changing one does not change the other.

    Args:
        model: The model, not wrapped.
        feature_lr: eta_theta. With 0 the feature modules must be frozen already (linear probing).
        head_lr: eta_w.
        weight_decay: Decay of every parameter, times the factors below.
        feature_modules: Paths of the modules that hold the features.
        norm_decay_mult: Factor on the decay of gamma and beta of norm layers; 0: no decay.
        bias_decay_mult: Factor on the decay of all other biases.

    Returns:
        Groups ``dict(name, params, lr, weight_decay)``, one per role and decay, features first. Each trainable
        parameter is in exactly one.

    Raises:
        ValueError: If a module path holds no parameter, a role with a rate has no trainable parameter, or ``feature_lr`` is
            0 and the features are not frozen.

    Source: DAFT, paragraph "Integrated LP-FT" (eta_theta and eta_w are independent) and Table 1.
    """
    factors = {'norm': norm_decay_mult, 'bias': bias_decay_mult, 'weight': 1.0}
    parameters = list(named_kinds(model))
    for prefix in feature_modules:
        if not any(is_feature(name, [prefix]) for name, _, _ in parameters):
            children = [name for name, _ in model.named_children()]
            raise ValueError(f'paramwise_cfg.feature_modules names {prefix!r}, which holds no parameter: choose from {children}.')
    groups: dict[tuple, dict] = {}
    for name, kind, parameter in parameters:
        if not parameter.requires_grad:
            continue
        role = FEATURES if is_feature(name, feature_modules) else HEAD
        rate, decay = (feature_lr if role == FEATURES else head_lr), weight_decay * factors[kind]
        label = role if decay == weight_decay else f'{role} (weight decay {decay:g})'
        group = groups.setdefault((role, decay), dict(name=label, params=[], lr=rate, weight_decay=decay))
        group['params'].append(parameter)
    trained = {role for role, _ in groups}
    if feature_lr and FEATURES not in trained:
        raise ValueError(
            f'paramwise_cfg.feature_lr={feature_lr:g}, but no parameter of {list(feature_modules)} requires a gradient: '
            'unfreeze them or set feature_lr=0.'
        )
    if not feature_lr and FEATURES in trained:
        raise ValueError(f'paramwise_cfg.feature_lr=0, but {list(feature_modules)} is not frozen: freeze it first.')
    if HEAD not in trained:
        raise ValueError(
            f'paramwise_cfg.head_lr={head_lr:g}, but no parameter outside {list(feature_modules)} requires a gradient: '
            'unfreeze the head or narrow feature_modules.'
        )
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0] != FEATURES, -key[1]))]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DAFTOptimWrapperConstructor:
    """Absolute learning rates of features and head, printed as a table and logged in every iteration.

    The groups are those of :func:`parameter_groups`.

    With any wrapper type, the scalars ``features_lr`` and ``head_lr`` are logged beside mmengine's ``lr``. A schedule that
    raises a rate above its given value is refused (:class:`mmseg_dafm.optim.named_rates.NamedRates`). ``feature_lr=0``
    freezes the feature modules (linear probing): their parameters get no gradient and are in no group. Their BatchNorm still
    updates its running statistics: add ``BNModeHook(modes=dict(backbone='eval'))`` to stop that.

    Args:
        optim_wrapper_cfg: mmengine's. Its ``optimizer`` needs no ``lr``; if given, it must equal ``head_lr``.
        paramwise_cfg: ``feature_lr`` and ``head_lr``, absolute; optional ``feature_modules`` (``('backbone',)``),
            ``norm_decay_mult`` and ``bias_decay_mult`` (1.0 each).

    Raises:
        ValueError: If a key is missing, unknown or contradictory, or a rate is invalid.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.options = dict(paramwise_cfg or {})
        unknown = sorted(self.options.keys() - set(OPTIONS))
        if unknown:
            raise ValueError(f'optim_wrapper.paramwise_cfg has unknown keys {unknown}: use {sorted(OPTIONS)}.')
        for key in RATES:
            self._check_number(key, positive=key == 'head_lr')
        for key in ('norm_decay_mult', 'bias_decay_mult'):
            if key in self.options:
                self._check_number(key)
        modules = self.options.setdefault('feature_modules', ('backbone',))
        if isinstance(modules, str) or not modules:
            raise ValueError(f'optim_wrapper.paramwise_cfg.feature_modules must be a list of module paths, got {modules!r}.')
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer', None) or {})
        if 'type' not in self.optimizer_cfg:
            raise ValueError('optim_wrapper.optimizer needs a type, for example dict(type="SGD", momentum=0.9).')
        # mmengine logs the optimizer's lr as base_lr.
        head_lr = self.options['head_lr']
        if self.optimizer_cfg.setdefault('lr', head_lr) != head_lr:
            raise ValueError(
                f'optim_wrapper.optimizer.lr={self.optimizer_cfg["lr"]} contradicts paramwise_cfg.head_lr={head_lr}: remove it, '
                'the rates are feature_lr and head_lr.'
            )

    def _check_number(self, key: str, positive: bool = False) -> None:
        value, kind = self.options.get(key), 'a number above 0' if positive else 'a number of 0 or more'
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < 0 or (positive and value == 0):
            raise ValueError(f'optim_wrapper.paramwise_cfg.{key} must be {kind}, got {value!r}.')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, with or without a distributed wrapper.

        Raises:
            ValueError: See :func:`parameter_groups`. Also if ``feature_lr=0`` would freeze features that a distributed
                wrapper waits for.
        """
        inner = unwrapped(model)
        if self.options['feature_lr'] == 0:
            self._freeze(inner, waits=inner is not model and not getattr(model, 'find_unused_parameters', False))
        groups = parameter_groups(inner, weight_decay=self.optimizer_cfg.get('weight_decay', 0.0), **self.options)
        print_log(f'parameter groups:\n{group_table(groups)}', logger='current')
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        kind = self.wrapper_cfg.get('type', 'OptimWrapper')
        base = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
        if base is None:
            raise ValueError(f'optim_wrapper.type={kind!r} is not registered: use OptimWrapper or AmpOptimWrapper.')
        wrapper = type(base.__name__, (NamedRates, base), {})
        return OPTIM_WRAPPERS.build({**self.wrapper_cfg, 'type': wrapper}, default_args=dict(optimizer=optimizer))

    def _freeze(self, model: nn.Module, waits: bool) -> None:
        """Set ``requires_grad=False`` for every feature parameter."""
        modules = self.options['feature_modules']
        features = [p for name, _, p in named_kinds(model) if is_feature(name, modules) and p.requires_grad]
        if features and waits:
            raise ValueError(
                f'paramwise_cfg.feature_lr=0 freezes {list(modules)} after the model was wrapped for distributed training: '
                'freeze it in the model config (frozen_stages) or set find_unused_parameters=True.'
            )
        for parameter in features:
            parameter.requires_grad_(False)
        if features:
            print_log(f'feature_lr=0: froze {len(features)} tensors of {", ".join(modules)}', logger='current')
