"""Clocks and scales: medians of interleaved repeats, and bytes that autograd keeps for backward."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn


def backward(outs: list[Tensor]) -> None:
    """Backward from all outputs at once with gradients of one; no loss, which would save tensors of its own."""
    torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])


def interleaved(actions: Mapping[str, Callable[[], None]], repeats: int, warmup: int, device: torch.device) -> dict[str, dict]:
    """Time actions in turn, so that a load on the machine falls on all of them alike.

    Args:
        actions: Name -> what to time.
        repeats: Rounds that count.
        warmup: Rounds before them that do not.
        device: Where the actions run; a GPU is waited for.

    Returns:
        Name -> medians and all values in seconds: ``wall``, ``cpu`` (processor time of this process), ``walls``, ``cpus``.
    """
    wait = torch.cuda.synchronize if device.type == 'cuda' else (lambda: None)
    found = {name: dict(walls=[], cpus=[]) for name in actions}
    for turn in range(warmup + repeats):
        for name, action in actions.items():
            wait()
            wall, cpu = time.perf_counter(), time.process_time()
            action()
            wait()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn >= warmup:
                found[name]['walls'].append(round(wall, 4))
                found[name]['cpus'].append(round(cpu, 4))
    for values in found.values():
        values.update(wall=statistics.median(values['walls']), cpu=statistics.median(values['cpus']))
    return found


def saved_bytes(forward: Callable[[], object], model: nn.Module, constants: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that a forward pass leaves for backward, each storage counted once.

    Args:
        forward: Runs the forward pass and returns its outputs, which keep the graph alive.
        model: Its parameters and buffers do not count.
        constants: Further tensors that exist anyway, such as the input.

    Returns:
        Bytes. Under autocast they include the half-precision copies of weights. Works with fake tensors, which have
        sizes and no memory, and with checkpointing, whose own bookkeeping of inputs is seen and whose recomputed
        tensors are not.
    """
    owned = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers(), *constants)}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in owned:
            storages[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outs = forward()
    total = sum(storages.values())
    del outs
    return total


def peak_gpu_bytes(step: Callable[[], None]) -> int:
    """Peak of CUDA memory that one step adds to what is allocated before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
