"""The part of an optimizer wrapper's state that mmengine's wrappers do not have."""

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
    """Part a wrapper's own state from that of mmengine's base wrapper.

    Args:
        state_dict: Of a checkpoint; not changed.
        key: Under which the wrapper keeps its own state.
        name: Of the wrapper's class, for the message.

    Returns:
        The rest and the own state.

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


# Key of the optimizer's groups that own compact parameters: the names of the dense tensors behind them.
TENSORS = 'compact_tensors'
# Key of the wrapper's own part of its state.
STATE = 'fisher_tune'


class SelectedWeights:
    r"""Mixin for optimizer wrappers: the optimizer owns selected elements of a backbone instead of its tensors.

    With S_t the set at step t, g the dense gradient and theta the weights, one step is

    .. math:: w = \theta[S_t], \quad \partial w = g[S_t], \quad w \leftarrow \mathrm{optimizer}(w, \partial w),
        \quad \theta[S_t] = w .

    The values are read from the model in every step, so whatever else changes weights between steps (a hook that rolls them
    back, clips or loads them) is kept. Clipping sees the gradients that are applied and no others, weights outside of the set
    keep their bits, moments exist only inside of it, and elements that join later have step counts of their own (Adam's bias
    correction). A selected element of a tensor without a gradient counts as one with gradient 0.

    Optimizers: all of torch.optim that take dense 1-D parameters, that is all but LBFGS (wants a closure), SparseAdam (sparse
    gradients) and Muon (matrices); neither SGD with momentum and ``fused=True`` nor ``differentiable=True``, and ``capturable``
    and ``fused`` only on devices that have them. The constructor rehearses two growths and a resume and refuses what fails.
    Optimizers whose update of an element depends on the rest of its tensor (Adafactor, LAMB, LARS) see a cohort as one tensor.

    Args:
        optimizer: Its groups with the key ``compact_tensors`` are empty and receive the selected elements of those
            tensors; they exist from the start, because mmengine's schedulers want all groups then.
        backbone: The module whose weights may be selected. Parameters of it that are no candidates are in no group.
        candidates: What may be selected, see :func:`~mmseg_dafm.fishertune.candidates.find_candidates`.
        free_gradients: Drop each dense gradient during backward, as soon as it was read: saves a copy of the candidate
            tensors. In a single process only.
        **kwargs: The base wrapper's: ``clip_grad``, ``accumulative_counts``, for mixed precision ``dtype``, ``loss_scale``.

    Attributes:
        candidates: As given.
        tensors: Name -> dense tensor, in the order that defines the flat ids.
        backbone_parameters: Number of parameters of the whole backbone, of which budgets are shares.
        ranking: What :meth:`select` was given, or None.
        settings: How the ranking was made, for whoever resumes; None if nobody said.
        cohorts: Number of elements of each cohort.

    Raises:
        ValueError: If an argument is missing, contradictory, or asks for sharded training.

    Source: FisherTune, Algorithm 1 step 3 and eq. 16. Deviation: the paper masks gradients, under which weight decay moves
    unselected weights and late elements start with the bias correction of step t.
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
        """Set by DeepSpeed's strategy, which would never call :meth:`step`; refused."""
        return None

    @model.setter
    def model(self, engine: nn.Module) -> None:
        raise ValueError(
            f'strategy hands the weights to {type(engine).__name__}, but optim_wrapper.type={type(self).__name__} needs them '
            'whole in each process: use DDP.'
        )

    @property
    def count(self) -> int:
        """Number of elements that are trained at present."""
        return sum(self.cohorts)

    def expect_selection(self) -> None:
        """Announce that :meth:`select` will be called later: until then the backbone stays as it is, as in a warm-up."""
        self._selection_comes = True

    def select(self, ranking: Tensor, settings: dict | None = None) -> None:
        """Fix which elements may ever be trained, and in which order they join.

        Args:
            ranking: Distinct flat ids, best first, ``(K,)`` int64: the set at delta_max.
            settings: How it was made, plain values; they travel in the state.

        Raises:
            TypeError: If the ids are not int64.
            ValueError: If they are no ranking of this backbone's candidates, or elements of another ranking train already.
        """
        if self.cohorts:
            raise ValueError(f'{self.count} elements of a ranking are being trained already: select() comes before grow().')
        check_ranking(ranking, self.tensors, self.candidates)
        self.ranking, self.settings = ranking.detach().cpu().clone(), settings

    def grow(self, count: int) -> None:
        """Train the first ``count`` elements of the ranking; those that are new form a cohort.

        Args:
            count: Size of the whole set. The present size changes nothing.

        Raises:
            ValueError: Without ranking, for more elements than it has, or for fewer than are trained already.
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
        """Let exactly those tensors of the backbone require gradients that hold an element of the ranking.

        Returns:
            Whether anything changed; then a distributed wrapper must be built anew, because it waits for the gradients
            of those tensors that it found when it was built.
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
            ValueError: If nobody selects weights, or for a closure, whose gradients would come after the gathering.
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
        """The base wrapper's state, the ranking and the cohorts; the values are the model's weights and not repeated."""
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
            ValueError: If the state is another optimizer wrapper's, another model's or has other groups.
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
        # Asked for anew each time: loading a state replaces the optimizer's groups.
        return [group for group in self.optimizer.param_groups if TENSORS in group]


@OPTIM_WRAPPERS.register_module()
class FisherTuneOptimWrapper(SelectedWeights, OptimWrapper):
    """Train the selected weights of a backbone and everything outside of it; optimizer state for these alone.

    See :class:`SelectedWeights`.
    """


@OPTIM_WRAPPERS.register_module()
class FisherTuneAmpOptimWrapper(SelectedWeights, AmpOptimWrapper):
    """:class:`FisherTuneOptimWrapper` in mixed precision; ``tools/train.py --amp`` takes it.

    Overflow outside of the set does not skip a step.
    """
