"""ChildTuning-F: each step keeps a new random share of the backbone's gradients."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from mmseg_dafm.core.processes import from_first_rank
from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.optim.fisher_wrapper import split_state

# key of the seed in the wrapper's state
STATE = 'child_tune'


def mask_gradients(gradients: Sequence[Tensor], keep: float, seed: int, step: int) -> None:
    r"""Keep each element of gradients with probability p and scale it, in place.

    .. math:: g \leftarrow g \odot M / p, \qquad M \sim \mathrm{Bernoulli}(p)

    The mean over masks is g. On one kind of device, the masks depend only on seed, step and the order of the gradients.

    Args:
        gradients: Gradients of any shapes, all on one device.
        keep: p in (0, 1].
        seed: Seeds the masks.
        step: Number of the step; each step has its own masks.

    Source: Child-Tuning (Xu et al., EMNLP 2021), eq. 2 and 5.
    """
    if not gradients or keep == 1:
        return
    generator = torch.Generator(gradients[0].device)
    generator.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
    for gradient in gradients:
        dropped = torch.rand(gradient.shape, generator=generator, device=gradient.device) >= keep
        gradient.masked_fill_(dropped, 0).div_(keep)


class RandomChild:
    """Mixin for optimizer wrappers: apply :func:`mask_gradients` to the backbone's gradients before each step.

    As in the original, gradients are masked after unscaling and clipping, and weight decay and momentum stay dense: weights
    with a masked gradient still move. Everything outside the backbone trains as usual.

    Args:
        optimizer: The optimizer.
        keep: p, the share of the backbone's gradients that is kept in a step.
        seed: Seeds the masks; None: the run's seed. Checkpoints hold it, and the masks depend on it and the iteration only. So
            a resumed run has the masks of an uninterrupted one, and all processes have the same masks.
        module: Path of the backbone in the model.
        **kwargs: Arguments of the base wrapper.

    Raises:
        ValueError: If ``keep`` is outside (0, 1]; at the first step, if no constructor has set the backbone.

    Source: Child-Tuning (Xu et al., EMNLP 2021), sec. 3.1.
    """

    def __init__(self, optimizer: Optimizer, keep: float = 0.3, seed: int | None = None, module: str = 'backbone', **kwargs):
        if not 0 < keep <= 1:
            raise ValueError(f'optim_wrapper.keep={keep} must be a share of the gradients in (0, 1], such as 0.3.')
        super().__init__(optimizer=optimizer, **kwargs)
        self.keep, self.module = keep, module
        self.masked: list[nn.Parameter] | None = None
        first = optimizer.param_groups[0]['params'][0]
        # processes may have different seeds; use that of rank 0
        own = torch.tensor(torch.initial_seed() % 2**31 if seed is None else seed)
        self.seed = int(from_first_rank(own, first.device))
        optimizer.register_step_pre_hook(self._mask)

    def mask_module(self, model: nn.Module) -> None:
        """Set the parameters whose gradients are masked: those of ``module`` in the unwrapped model.

        Raises:
            ValueError: If the model has no such module, or the module has no trainable parameter.
        """
        found = dict(model.named_modules()).get(self.module) if self.module else None
        if found is None:
            children = [name for name, _ in model.named_children()]
            raise ValueError(
                f'optim_wrapper.module={self.module!r} is no module of {type(model).__name__}: choose from {children}.'
            )
        self.masked = [parameter for parameter in found.parameters() if parameter.requires_grad]
        if not self.masked:
            raise ValueError(f'optim_wrapper.module={self.module!r} has no parameter that trains: remove frozen=True.')

    def _mask(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if self.masked is None:
            raise ValueError(
                f'optim_wrapper.type={type(self).__name__} does not know the backbone: add optim_wrapper.constructor='
                '"ChildTuneOptimWrapperConstructor" to the config.'
            )
        gradients = [parameter.grad for parameter in self.masked if parameter.grad is not None]
        mask_gradients(gradients, self.keep, self.seed, self._inner_count)

    def state_dict(self) -> dict:
        """The base wrapper's state and the seed."""
        return {**super().state_dict(), STATE: dict(seed=self.seed)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the optimizer and the seed.

        Raises:
            ValueError: If the state was written by another wrapper.
        """
        rest, own = split_state(state_dict, STATE, type(self).__name__)
        super().load_state_dict(rest)
        self.seed = own['seed']


@OPTIM_WRAPPERS.register_module()
class ChildTuneOptimWrapper(RandomChild, OptimWrapper):
    """ChildTuning-F: each step keeps a new random share of the backbone's gradients.

    See :class:`RandomChild`.
    """


@OPTIM_WRAPPERS.register_module()
class ChildTuneAmpOptimWrapper(RandomChild, AmpOptimWrapper):
    """:class:`ChildTuneOptimWrapper` in mixed precision; a step that overflows is skipped as a whole."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ChildTuneOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor; also sets the backbone of a ChildTuneOptimWrapper."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, with or without a DDP wrapper.

        Raises:
            ValueError: If the wrapper's type masks no gradients, or the model lacks the backbone.
        """
        wrapper = super().__call__(model)
        if not isinstance(wrapper, RandomChild):
            raise ValueError(
                f'optim_wrapper.type={type(wrapper).__name__} masks no gradients: use ChildTuneOptimWrapper or '
                'ChildTuneAmpOptimWrapper, or remove optim_wrapper.constructor.'
            )
        wrapper.mask_module(unwrapped(model))
        return wrapper
