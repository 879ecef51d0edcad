"""FisherTuneOptimWrapperConstructor: parameter groups by mmengine's rules for an optimizer of selected weights."""

import inspect
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmseg_dafm.core.eager import uncompiled
from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.fishertune.candidates import KINDS, candidate_tensors, find_candidates
from mmseg_dafm.optim.fisher_wrapper import TENSORS, SelectedWeights
from mmseg_dafm.optim.named_rates import group_table

OPTIONS = ('module', 'kinds', 'include_bias', 'extra_rules', 'groups')
# Keys of mmengine's groups that are not settings of the optimizer.
FACTORS = ('params', 'lr_mult', 'decay_mult')
# Packages whose optimizers shard parameters, and classes whose modules do; by name, as some PyTorch versions lack them.
SHARDING_PACKAGES = ('deepspeed', 'colossalai', 'fairscale')
SHARDING_CLASSES = {'FullyShardedDataParallel', 'FSDPModule'}


def merge_groups(groups: Sequence[dict], name: str) -> list[dict]:
    """Merge groups with equal settings (learning rate, weight decay, ...).

    Args:
        groups: ``dict(params, lr, weight_decay, ...)``; repeated parameters are dropped.
        name: Name of the merged groups, with a number if there are several.

    Returns:
        Groups ``dict(name, params, lr, weight_decay, ...)`` in the order of their first parameter.
    """
    merged: dict[str, dict] = {}
    seen = set()
    for group in groups:
        settings = {key: value for key, value in group.items() if key not in FACTORS}
        own = [parameter for parameter in group['params'] if id(parameter) not in seen]
        seen.update(map(id, own))
        if own:
            key = repr(sorted(settings.items()))
            merged.setdefault(key, dict(name=name, params=[], **settings))['params'] += own
    for number, group in enumerate(merged.values()):
        group['name'] = name if len(merged) == 1 else f'{name} {number}'
    return list(merged.values())


def check_growth(optimizer: dict, device: torch.device) -> None:
    """Refuse an optimizer that cannot train 1-D parameters that join its groups later.

    The trial on a few numbers makes two growths, steps in between, and a resume.

    Args:
        optimizer: Config of the optimizer, without parameters.
        device: Device of the weights; the optimizer's kernels depend on it.

    Raises:
        ValueError: If the trial fails; names the optimizer's error.
    """
    build = lambda: OPTIMIZERS.build({**optimizer, 'params': [dict(params=[])]})  # noqa: E731
    first, second = (nn.Parameter(torch.ones(size, device=device)) for size in (2, 3))
    trained, resumed = build(), build()
    try:
        for joined in ([first], [], [second], []):
            own = trained.param_groups[0]['params']
            own += joined
            for parameter in own:
                parameter.grad = torch.ones_like(parameter)
            trained.step()
        resumed.param_groups[0]['params'] += [first, second]
        resumed.load_state_dict(trained.state_dict())
        resumed.step()
    except Exception as error:
        remedy = 'remove fused=True' if optimizer.get('fused') else 'use another, such as AdamW'
        text = ' '.join(str(error).split())[:160]
        raise ValueError(
            f'optim_wrapper.optimizer={optimizer} cannot train a set of weights that grows ({type(error).__name__}: {text}): '
            f'{remedy}.'
        ) from None


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FisherTuneOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups for FisherTune's wrappers by mmengine's rules, printed as a table; defines the candidates.

    The backbone's candidate tensors get groups that are empty until the wrapper's set grows. The other parameters of the
    backbone are in no group. Everything outside the backbone trains as usual. ``requires_grad`` is not changed here but by
    :meth:`~mmseg_dafm.optim.fisher_wrapper.SelectedWeights.freeze_unused`.

    Args:
        optim_wrapper_cfg: mmengine's, with ``type`` FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper.
        paramwise_cfg: mmengine's; ``custom_keys=dict(backbone=dict(lr_mult=0.1))`` is the usual rate of the selected weights.
            One more key: ``candidates=dict(module='backbone', kinds=('q', 'k', 'v', 'ffn'), include_bias=False)``, the path of
            the backbone and the kinds of weights that may be selected. In it, ``extra_rules=[dict(tail=..., parts=...)]``
            names the weights of an unknown architecture, and ``groups=[dict(kind='q', blocks=(0, 7))]`` allows only these
            weights. (To tune all of them as in figure 3, set the hook's ``criterion='random'``, ``schedule='constant'`` and
            ``delta_max=1.0``.)

    Raises:
        ValueError: If a key is wrong, the module does not exist or has no candidates, the model or optimizer is sharded, or
            the optimizer cannot train a growing set (:func:`check_growth`).

    Source: FisherTune, eq. 3 (candidates); the groups are ours.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        paramwise_cfg = dict(paramwise_cfg or {})
        options = dict(paramwise_cfg.pop('candidates', None) or {})
        unknown = sorted(options.keys() - set(OPTIONS))
        if unknown:
            raise ValueError(f'optim_wrapper.paramwise_cfg.candidates has unknown keys {unknown}: use {list(OPTIONS)}.')
        self.module = options.pop('module', 'backbone')
        self.options = {'kinds': KINDS, **options}
        optimizer = optim_wrapper_cfg.get('optimizer') or {}
        if 'type' not in optimizer or optimizer.get('lr') is None:
            raise ValueError('optim_wrapper.optimizer needs a type and lr, for example dict(type="AdamW", lr=1e-4).')
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        kind = self.optim_wrapper_cfg.get('type')
        self.wrapper = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
        if not (inspect.isclass(self.wrapper) and issubclass(self.wrapper, SelectedWeights)):
            raise ValueError(
                f'optim_wrapper.type={kind!r} cannot train selected weights: use FisherTuneOptimWrapper or '
                'FisherTuneAmpOptimWrapper.'
            )
        self._refuse_sharding_optimizer()

    def _refuse_sharding_optimizer(self) -> None:
        kind = self.optimizer_cfg['type']
        found = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
        name = getattr(found, '__name__', str(kind))
        if name == 'ZeroRedundancyOptimizer' or getattr(found, '__module__', '').split('.')[0] in SHARDING_PACKAGES:
            raise ValueError(
                f'optim_wrapper.optimizer.type={name} splits parameters among processes, which FisherTune cannot follow: use an '
                "ordinary optimizer; the selected weights' state is small."
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, with or without a DDP wrapper.

        Raises:
            ValueError: If the model is sharded, lacks the module, or has no candidates in it.
        """
        if any(SHARDING_CLASSES & {kind.__name__ for kind in type(module).__mro__} for module in model.modules()):
            raise ValueError(
                'model_wrapper_cfg or strategy shards the model (FSDP), but FisherTune selects from whole tensors: use DDP.'
            )
        model = uncompiled(unwrapped(model))
        modules = dict(model.named_modules())
        if self.module not in modules or not self.module:
            raise ValueError(
                f'optim_wrapper.paramwise_cfg.candidates.module={self.module!r} is no module of {type(model).__name__}: choose '
                f'from {[name for name, _ in model.named_children()]}.'
            )
        # names of the uncompiled backbone, so that a score file fits with and without torch.compile
        backbone = uncompiled(modules[self.module])
        candidates = find_candidates(backbone, **self.options)
        tensors = candidate_tensors(backbone, candidates)
        names = {id(tensor): name for name, tensor in tensors.items()}
        inside = {id(parameter) for parameter in backbone.parameters()}
        decoder, selected = [], []
        for group in self._default_groups(model, tensors.values()):
            parameter = group['params'][0]
            if id(parameter) in names:
                selected.append(group)
            elif id(parameter) not in inside:
                decoder.append(group)
        decoder, selected = merge_groups(decoder, 'decoder'), merge_groups(selected, 'candidates')
        check_growth(self.optimizer_cfg, next(iter(tensors.values())).device)
        compact = [{**group, 'params': [], TENSORS: [names[id(p)] for p in group['params']]} for group in selected]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': [*decoder, *compact]})
        # The table shows the optimizer's defaults and the sizes of the dense tensors.
        dense = [group['params'] for group in (*decoder, *selected)]
        rows = [{'weight_decay': 0.0, **group, 'params': own} for group, own in zip(optimizer.param_groups, dense, strict=True)]
        print_log(f'parameter groups:\n{group_table(rows)}', logger='current')
        cfg = {**self.optim_wrapper_cfg, 'type': self.wrapper}
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer, backbone=backbone, candidates=candidates))

    def _default_groups(self, model: nn.Module, tensors: Sequence[nn.Parameter]) -> list[dict]:
        """Groups of one parameter each by mmengine's rules, frozen candidates included."""
        frozen = [tensor for tensor in tensors if not tensor.requires_grad]
        groups: list[dict] = []
        for tensor in frozen:
            tensor.requires_grad_(True)
        try:
            self.add_params(groups, model)
        finally:
            for tensor in frozen:
                tensor.requires_grad_(False)
        return groups
