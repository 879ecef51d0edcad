"""Compact parameters: selected elements of many dense tensors as a few flat tensors that an optimizer owns."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmseg_dafm.fishertune.selection import tensor_numbers, tensor_starts

# With fewer elements than this, threads cost more than they save.
THREADED_ELEMENTS = 1 << 18


class CompactGroup:
    """The selected elements of some tensors, one parameter per cohort, gathered and scattered tensor by tensor.

    A cohort is the set of elements that join together. All cohorts lie one behind the other in one flat buffer of values
    and one of gradients, so that the work of a step does not grow with their number: one ``index_select`` and one
    ``index_copy_`` per dense tensor and direction, and as many on the buffers once there are two cohorts. Elements are
    sorted by position inside a cohort and visited by position inside a tensor, which keeps memory access close to
    sequential. Indices are int64, as the kernels want them: converting int32 costs more time than the wider reads.

    Args:
        tensors: Dense tensors, float32, contiguous, on one device.
        starts: Flat id of each tensor's first element, ascending.

    Attributes:
        cohorts: Parameters ``(n,)``, which stay the same objects when further cohorts join.
        values: Values of all cohorts, ``(N,)``; the parameters are views of it.
        gradients: Gradients of all cohorts, ``(N,)``; the parameters' gradients are views of it.

    Raises:
        ValueError: For tensors that are not as above.

    Source: FisherTune, Algorithm 1, step 3 (only selected weights are updated); the representation is ours.
    """

    def __init__(self, tensors: Sequence[nn.Parameter], starts: Sequence[int]):
        for tensor in tensors:
            if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.device != tensors[0].device:
                raise ValueError(
                    'FisherTune trains contiguous float32 weights on one device, but a candidate tensor is '
                    f'{str(tensor.dtype).removeprefix("torch.")} of shape {tuple(tensor.shape)} on {tensor.device}: '
                    'use mixed precision (--amp) instead of casting or splitting the model.'
                )
        self.tensors, self.starts = list(tensors), list(starts)
        self.reset()

    def reset(self) -> None:
        """Drop all cohorts."""
        device = self.tensors[0].device
        self.cohorts: list[nn.Parameter] = []
        self.values, self.gradients = torch.empty(0, device=device), torch.empty(0, device=device)
        self.slots: Sequence[Tensor] = ()
        self.positions = [torch.empty(0, dtype=torch.int64, device=device)] * len(self.tensors)
        # Where a tensor's elements lie in the buffers: a slice as long as there is one cohort, else an index.
        self.places: list[slice | Tensor] = [slice(0, 0)] * len(self.tensors)
        self.filled = [False] * len(self.tensors)

    @torch.no_grad()
    def join(self, ids: Tensor) -> nn.Parameter:
        """Add a cohort. Gradients gathered so far are kept; those of the new elements start at 0.

        Args:
            ids: Distinct flat ids ``(n,)`` that lie in these tensors and in no cohort yet.

        Returns:
            The new parameter, with the values of the dense tensors.
        """
        device, old = self.values.device, len(self.values)
        known = torch.cat([position + start for position, start in zip(self.positions, self.starts, strict=True)])
        places = [torch.arange(p.start, p.stop, device=device) if isinstance(p, slice) else p for p in self.places]
        new = ids.to(device).sort().values
        # Both lists are sorted, so that merging is far cheaper than sorting anew.
        behind = torch.arange(len(new), device=device)
        inserted = torch.searchsorted(known, new) + behind
        kept = torch.ones(old + len(new), dtype=torch.bool, device=device).index_fill_(0, inserted, False)
        ordered, place = (kept.new_empty(len(kept), dtype=torch.int64) for _ in range(2))
        ordered.index_copy_(0, inserted, new).masked_scatter_(kept, known)
        place.index_copy_(0, inserted, old + behind).masked_scatter_(kept, torch.cat(places))
        first = torch.searchsorted(ordered, torch.tensor(self.starts, device=device)).tolist()
        cuts = [slice(*bounds) for bounds in zip(first, [*first[1:], len(ordered)], strict=True)]
        self.positions = [ordered[cut] - start for cut, start in zip(cuts, self.starts, strict=True)]
        self.places = [place[cut] if self.cohorts else cut for cut in cuts]
        self.values = torch.empty(len(ordered), device=device)
        self.gradients = torch.cat([self.gradients, self.gradients.new_zeros(len(new))])
        self.refresh()
        self.cohorts.append(nn.Parameter(self.values[old:]))
        sizes = [cohort.numel() for cohort in self.cohorts]
        self.slots = self.gradients.split(sizes)
        for cohort, values, slot in zip(self.cohorts, self.values.split(sizes), self.slots, strict=True):
            cohort.data = values
            if cohort.grad is not None:
                cohort.grad = slot
        return self.cohorts[-1]

    @torch.no_grad()
    def refresh(self) -> None:
        """Read the values from the dense tensors."""

        def read(number: int) -> None:
            dense, place = self.tensors[number].view(-1), self.places[number]
            if isinstance(place, slice):
                torch.index_select(dense, 0, self.positions[number], out=self.values[place])
            else:
                self.values.index_copy_(0, place, dense.index_select(0, self.positions[number]))

        self._each(read)

    @torch.no_grad()
    def scatter(self) -> None:
        """Write the values into the dense tensors; every other element keeps its bits."""

        def write(number: int) -> None:
            place = self.places[number]
            values = self.values[place] if isinstance(place, slice) else self.values.index_select(0, place)
            self.tensors[number].view(-1).index_copy_(0, self.positions[number], values)

        self._each(write)

    @torch.no_grad()
    def gather(self) -> None:
        """Give the cohorts their elements' gradients; tensors without one count as 0.

        While no tensor has a gradient, the cohorts have none, so that an optimizer leaves them alone.
        """
        if not any(filled or tensor.grad is not None for filled, tensor in zip(self.filled, self.tensors, strict=True)):
            for cohort in self.cohorts:
                cohort.grad = None
            return

        def read(number: int) -> None:
            if self.tensors[number].grad is not None:
                self.collect(number)
            elif not self.filled[number]:
                self._put(number, self.gradients.new_zeros(len(self.positions[number])))

        self._each(read)
        for cohort, slot in zip(self.cohorts, self.slots, strict=True):
            cohort.grad = slot

    @torch.no_grad()
    def collect(self, number: int, add: bool = False) -> None:
        """Read the selected elements of one dense gradient, in place of what was read before or on top of it."""
        dense, place = self.tensors[number].grad, self.places[number]
        assert dense is not None
        gradient = dense.reshape(-1)
        if isinstance(place, slice) and not add:
            torch.index_select(gradient, 0, self.positions[number], out=self.gradients[place])
        else:
            self._put(number, gradient.index_select(0, self.positions[number]), add)

    def _put(self, number: int, gradients: Tensor, add: bool = False) -> None:
        place = self.places[number]
        if isinstance(place, slice):
            own = self.gradients[place]
            (own.add_ if add else own.copy_)(gradients)
        else:
            (self.gradients.index_add_ if add else self.gradients.index_copy_)(0, place, gradients)

    def collect_and_free(self, number: int) -> None:
        """Add one dense gradient's selected elements to what earlier backward passes left, and drop the dense gradient."""
        self.collect(number, add=self.filled[number])
        self.filled[number] = True
        self.tensors[number].grad = None

    def clear(self) -> None:
        """Forget the gradients."""
        self.filled = [False] * len(self.tensors)
        for cohort in self.cohorts:
            cohort.grad = None

    def _each(self, action: Callable[[int], None]) -> None:
        """Call ``action`` for every tensor that holds a selected element.

        PyTorch's index kernels for vectors are serial, so that on a CPU the tensors are shared among threads.
        """
        numbers = [number for number, position in enumerate(self.positions) if len(position)]
        threads = torch.get_num_threads() if self.values.device.type == 'cpu' else 1
        if threads == 1 or len(self.values) < THREADED_ELEMENTS:
            for number in numbers:
                action(number)
            return

        def work(part: Sequence[int]) -> None:
            # The gradient mode belongs to a thread.
            with torch.no_grad():
                for number in part:
                    action(number)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, (numbers[rank::threads] for rank in range(threads))))


class CompactParameters:
    """Compact groups of one model, addressed by flat ids over all its candidate tensors.

    Args:
        tensors: The tensors that hold candidates, in the order that defines the flat ids.
        groups: Names of the tensors of each group; each tensor is in exactly one.
        free_gradients: From the first cohort on, read and drop each dense gradient as soon as backward has made it, so
            that they never exist all at once. Elements that join between the backward passes of one accumulated step
            miss the passes before.

    Raises:
        ValueError: If the groups are no partition of the tensors, or a tensor is not contiguous float32.
    """

    def __init__(self, tensors: Mapping[str, nn.Parameter], groups: Sequence[Sequence[str]], free_gradients: bool = False):
        if sorted(name for group in groups for name in group) != sorted(tensors):
            raise ValueError('each candidate tensor must be in exactly one group.')
        self.free_gradients = free_gradients
        self.handles: list[RemovableHandle] = []
        numbers = {name: number for number, name in enumerate(tensors)}
        self.starts = tensor_starts(tensors.values())
        members = [sorted(numbers[name] for name in group) for group in groups]
        listed = list(tensors.values())
        self.groups = [CompactGroup([listed[n] for n in own], [self.starts[n] for n in own]) for own in members]
        self.owners = torch.empty(len(numbers), dtype=torch.int64)
        for number, own in enumerate(members):
            self.owners[own] = number

    def join(self, ids: Tensor) -> list[nn.Parameter | None]:
        """Let elements join as one cohort; returns the new parameter of each group, None where it gets no element."""
        owners = self.owners[tensor_numbers(ids.cpu(), self.starts)]
        parts = [ids[(owners == number).to(ids.device)] for number in range(len(self.groups))]
        joined = [group.join(part) if len(part) else None for group, part in zip(self.groups, parts, strict=True)]
        if self.free_gradients and not self.handles:
            self.handles = [
                tensor.register_post_accumulate_grad_hook(lambda _, group=group, number=number: group.collect_and_free(number))
                for group in self.groups
                for number, tensor in enumerate(group.tensors)
                # tensors without a selected element are frozen, and get no gradient
                if tensor.requires_grad
            ]
        return joined

    def reset(self) -> None:
        """Drop all cohorts."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        for group in self.groups:
            group.reset()

    def gather(self) -> None:
        """Read the gradients of all cohorts."""
        for group in self.groups:
            group.gather()

    def refresh(self) -> None:
        """Read the values of all cohorts."""
        for group in self.groups:
            group.refresh()

    def scatter(self) -> None:
        """Write the values of all cohorts."""
        for group in self.groups:
            group.scatter()

    def clear(self) -> None:
        """Forget the gradients of all cohorts."""
        for group in self.groups:
            group.clear()
