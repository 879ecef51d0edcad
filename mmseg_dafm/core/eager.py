"""Run a model without its compiled code, so that hooks, buffers and flags that are set for a while are seen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def run_eagerly() -> Iterator[None]:
    """Inside, everything that ``torch.compile`` made runs as ordinary Python.

    Compiled code is specialised: hooks that are registered later are not called, and hooks that it was traced with may act
    once per trace instead of once per pass. Inside, no compiled code runs and nothing is compiled, whichever way the model was
    compiled: ``torch.compile(model)``, ``model.compile()``, a part of it, a method, a free function, run before or not. At exit
    the compiled code is used again.

    Not to be entered inside of compiled code.
    """
    if 'torch._dynamo' not in sys.modules:
        # nothing was compiled, and loading the compiler takes seconds
        yield
    elif hasattr(torch.compiler, 'set_stance'):
        with torch.compiler.set_stance('force_eager'):
            yield
    else:
        with _without_frame_evaluation():
            yield


@contextmanager
def _without_frame_evaluation() -> Iterator[None]:
    """What ``set_stance('force_eager')`` does, for PyTorch before 2.6: compiled callables ask this function for their code."""
    import torch._dynamo.eval_frame as dynamo

    ask = dynamo.set_eval_frame
    names = [name for name in ('set_eval_frame', '_maybe_set_eval_frame') if hasattr(dynamo, name)]
    before = {name: getattr(dynamo, name) for name in names}
    for name in names:
        setattr(dynamo, name, lambda callback: ask(None))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(dynamo, name, function)


def forget_compiled() -> None:
    """Drop all compiled code, so that the next pass compiles anew.

    Older versions of PyTorch do not notice that other parameters of a compiled module require gradients than when it was
    compiled: those would then get none.
    """
    if 'torch._dynamo' in sys.modules:
        torch.compiler.reset()


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that ``torch.compile(module)`` wrapped, whose names have no ``_orig_mod.``; any other module as it is."""
    return getattr(module, '_orig_mod', module)
