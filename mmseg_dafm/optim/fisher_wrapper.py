"""FisherTuneOptimWrapper: the optimizer owns the selected weights of a backbone."""

import operator

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from mmseg_dafm.core.processes import world_size
from mmseg_dafm.fishertune.candidates import Candidate, candidate_tensors, parameter_count
from mmseg_dafm.fishertune.compact import CompactParameters
from mmseg_dafm.fishertune.selection import check_ranking, touched_tensors


def split_state(state_dict: dict, key: str, name: str) -> tuple[dict, dict]:
    """Separate a wrapper's own state from the state of mmengine's base wrapper.

    Args:
        state_dict: Optimizer state of a checkpoint; it is not changed.
        key: Key of the wrapper's own state.
        name: Class name of the wrapper, for the message.

    Returns:
        The base wrapper's state and the own state.

    Raises:
        ValueError: If the state was written by another wrapper.
    """
    rest = dict(state_dict)
    own = rest.pop(key, None)
    if own is None:
        raise ValueError(
            f"the checkpoint's optimizer state was not written by {name}: load its weights with load_from, without --resume."
        )
    return rest, own


# Key in an optimizer group of compact parameters: the names of their dense tensors.
TENSORS = 'compact_tensors'
# Key of the selection in the wrapper's state.
STATE = 'fisher_tune'


class SelectedWeights:
    r"""Mixin for optimizer wrappers: the optimizer owns selected elements of a backbone instead of its tensors.

    With S_t the set at step t, g the dense gradient and theta the weights, one step is

    .. math:: w = \theta[S_t], \quad \partial w = g[S_t], \quad w \leftarrow \mathrm{optimizer}(w, \partial w),
        \quad \theta[S_t] = w .

    Each step reads the values from the model, so changes by hooks between steps (rolling back, clipping, loading) are kept.
    Gradient clipping uses the gradients of S_t only. Weights outside S_t stay bit-identical and have no optimizer state.
    Elements that join later have their own step count (Adam's bias correction). If a tensor has no gradient, its selected
    elements get gradient 0.

    Optimizers: all of torch.optim that take dense 1-D parameters. These do not work: LBFGS (needs a closure), SparseAdam
    (sparse gradients), Muon (matrices), SGD with momentum and ``fused=True``, ``differentiable=True``, and ``capturable`` or
    ``fused`` on devices without them. The constructor tries two growths and a resume, and refuses optimizers that fail.
    Optimizers whose update of an element depends on the rest of its tensor (Adafactor, LAMB, LARS) see a cohort as one tensor.

    Args:
        optimizer: Its groups with the key ``compact_tensors`` are empty and receive the selected elements of those
            tensors. They exist from the start, because mmengine's schedulers need all groups when they are built.
        backbone: The module whose weights may be selected. Its parameters that are not candidates are in no group.
        candidates: Weights that may be selected, see :func:`~mmseg_dafm.fishertune.candidates.find_candidates`.
        free_gradients: Free each dense gradient during backward, once its selected elements are read. Saves one copy of the
            candidate tensors; single process only.
        **kwargs: Arguments of the base wrapper: ``clip_grad``, ``accumulative_counts``; with AMP ``dtype``, ``loss_scale``.

    Attributes:
        candidates: As given.
        tensors: Name -> dense tensor; their order defines the flat ids.
        backbone_parameters: Number of parameters of the whole backbone; deltas are shares of it.
        ranking: Argument of :meth:`select`, or None.
        settings: Options behind the ranking, compared at a resume; None if unknown.
        cohorts: Number of elements of each cohort.

    Raises:
        ValueError: If an argument is missing or contradictory, or asks for sharded training.

    Source: FisherTune, Algorithm 1 step 3 and eq. 16. Deviation: the paper masks gradients. Masking would let weight decay
    move unselected weights, and late elements would start with the bias correction of step t.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        backbone: nn.Module | None = None,
        candidates: list[Candidate] | None = None,
        free_gradients: bool = False,
        **kwargs,
    ):
        if backbone is None or candidates is None:
            raise ValueError(
                f'optim_wrapper.type={type(self).__name__} is built by optim_wrapper.constructor='
                '"FisherTuneOptimWrapperConstructor": add it to the config.'
            )
        if kwargs.get('use_fsdp'):
            raise ValueError('optim_wrapper.use_fsdp=True shards the weights that FisherTune selects from: remove it, use DDP.')
        if free_gradients and world_size() > 1:
            raise ValueError(
                f'optim_wrapper.free_gradients=True, but {world_size()} processes must exchange whole gradients: set it to '
                'False or run one process.'
            )
        super().__init__(optimizer=optimizer, **kwargs)
        self.backbone, self.candidates = backbone, list(candidates)
        self.tensors = candidate_tensors(backbone, candidates)
        self.backbone_parameters = parameter_count(backbone)
        self.ranking: Tensor | None = None
        self.settings: dict | None = None
        self.cohorts: list[int] = []
        self._selection_comes = False
        self._compact = CompactParameters(self.tensors, [group[TENSORS] for group in self._groups()], free_gradients)

    @property
    def model(self) -> None:
        """Always None. DeepSpeed's strategy would set it and never call :meth:`step`, so setting it raises."""
        return None

    @model.setter
    def model(self, engine: nn.Module) -> None:
        raise ValueError(
            f'strategy hands the weights to {type(engine).__name__}, but optim_wrapper.type={type(self).__name__} needs them '
            'whole in each process: use DDP.'
        )

    @property
    def count(self) -> int:
        """Number of elements that are trained now."""
        return sum(self.cohorts)

    def expect_selection(self) -> None:
        """Announce a later call of :meth:`select`; until then the backbone is not trained (warm-up)."""
        self._selection_comes = True

    def select(self, ranking: Tensor, settings: dict | None = None) -> None:
        """Set the ranking: the elements that may be trained, in the order in which they join.

        Args:
            ranking: Distinct flat ids, best first, ``(K,)`` int64: the set at delta_max.
            settings: Options behind the ranking, plain values; they are saved in the state.

        Raises:
            TypeError: If the ids are not int64.
            ValueError: If they are not a ranking of this backbone's candidates, or :meth:`grow` was called before.
        """
        if self.cohorts:
            raise ValueError(f'{self.count} elements of a ranking are being trained already: select() comes before grow().')
        check_ranking(ranking, self.tensors, self.candidates)
        self.ranking, self.settings = ranking.detach().cpu().clone(), settings

    def grow(self, count: int) -> None:
        """Train the first ``count`` elements of the ranking; the new ones form a cohort.

        Args:
            count: New size of the whole set; the current size changes nothing.

        Raises:
            ValueError: If there is no ranking, or ``count`` is above its length or below the current size.
        """
        count = operator.index(count)
        if self.ranking is None:
            raise ValueError(f'grow({count}) has no ranking to take elements from: call select() first.')
        if count > len(self.ranking):
            raise ValueError(f'grow({count}) exceeds the ranking, which has {len(self.ranking)} elements: raise delta_max.')
        if count < self.count:
            raise ValueError(f'grow({count}) would shrink the set of {self.count} elements, whose values have been trained.')
        if count == self.count:
            return
        joined = self._compact.join(self.ranking[self.count : count])
        self.cohorts.append(count - self.count)
        for group, parameter in zip(self._groups(), joined, strict=True):
            if parameter is not None:
                group['params'].append(parameter)

    def freeze_unused(self) -> bool:
        """Set ``requires_grad`` of the backbone's tensors: True if a tensor holds an element of the ranking, else False.

        Returns:
            Whether anything changed. If so, rebuild a distributed wrapper: it waits for the tensors that required gradients
            when it was built.
        """
        used = set() if self.ranking is None else touched_tensors(self.ranking, self.tensors)
        changed = False
        for name, parameter in self.backbone.named_parameters():
            if parameter.requires_grad != (name in used):
                parameter.requires_grad_(name in used)
                parameter.grad = None
                changed = True
        return changed

    def step(self, **kwargs) -> None:
        """Gather, let the base wrapper unscale, clip and step, scatter.

        Raises:
            ValueError: If no hook selects weights, or for a closure: its gradients would come after the gathering.
        """
        if kwargs.get('closure') is not None:
            raise ValueError(f'{type(self).__name__} takes no closure: use an optimizer that steps without one.')
        if self.ranking is None and not self._selection_comes:
            raise ValueError(
                f'optim_wrapper.type={type(self).__name__} would train nothing of the backbone, because no hook selects weights: '
                "add dict(type='FisherTuneHook', ...) to custom_hooks, which a child config replaces as a whole."
            )
        self._compact.gather()
        self._compact.refresh()
        super().step(**kwargs)
        self._compact.scatter()

    def zero_grad(self, **kwargs) -> None:
        """Clear the gradients of the optimizer's parameters and of the whole backbone."""
        super().zero_grad(**kwargs)
        self._compact.clear()
        for parameter in self.backbone.parameters():
            if kwargs.get('set_to_none', True):
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict:
        """The base wrapper's state, the ranking and the cohorts; the trained values are in the model's weights."""
        small = self.ranking is not None and int(self.ranking.max()) < 2**31
        own = dict(
            tensors={name: list(tensor.shape) for name, tensor in self.tensors.items()},
            groups=[list(group[TENSORS]) for group in self._groups()],
            ranking=self.ranking.to(torch.int32) if small else self.ranking,
            cohorts=list(self.cohorts),
            settings=self.settings,
        )
        return {**super().state_dict(), STATE: own}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore ranking, cohorts and the optimizer's state; call it after the model's weights are loaded.

        Raises:
            ValueError: If the state belongs to another wrapper or model, or has other groups.
        """
        rest, own = split_state(state_dict, STATE, type(self).__name__)
        self._check_state(own)
        self._compact.reset()
        self.cohorts, self.ranking, self.settings = [], None, None
        for group in self._groups():
            for parameter in group['params']:
                self.optimizer.state.pop(parameter, None)
            group['params'] = []
        if own['ranking'] is not None:
            self.select(own['ranking'].long(), own.get('settings'))
        for size in own['cohorts']:
            self.grow(self.count + size)
        super().load_state_dict(rest)

    def _check_state(self, own: dict) -> None:
        here = {name: list(tensor.shape) for name, tensor in self.tensors.items()}
        if list(own['tensors'].items()) != list(here.items()):
            name = next((name for name in (*own['tensors'], *here) if own['tensors'].get(name) != here.get(name)), 'their order')
            raise ValueError(
                f"the checkpoint's selected weights are those of another model: {name} is {own['tensors'].get(name)} there and "
                f'{here.get(name)} here; use the config that wrote it.'
            )
        groups = [list(group[TENSORS]) for group in self._groups()]
        if own['groups'] != groups:
            raise ValueError(
                f'the checkpoint has {len(own["groups"])} groups of selected weights, which differ from the {len(groups)} of '
                'optim_wrapper.paramwise_cfg: use the config that wrote it.'
            )

    def _groups(self) -> list[dict]:
        # Not cached: loading a state replaces the optimizer's groups.
        return [group for group in self.optimizer.param_groups if TENSORS in group]


@OPTIM_WRAPPERS.register_module()
class FisherTuneOptimWrapper(SelectedWeights, OptimWrapper):
    """Train the selected weights of a backbone and everything outside it; only these have optimizer state.

    See :class:`SelectedWeights`.
    """


@OPTIM_WRAPPERS.register_module()
class FisherTuneAmpOptimWrapper(SelectedWeights, AmpOptimWrapper):
    """:class:`FisherTuneOptimWrapper` in mixed precision; ``tools/train.py --amp`` selects it.

    An overflow outside the selected set does not skip a step.
    """
